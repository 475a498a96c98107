//! The empirical score: the score of a data set seen through noise, exactly.
//!
//! ```text
//! p_t(z)  = 1/M sum_i N(z; alpha x_i, sigma^2 I)                     the mixture that training draws z from
//! w_i     = softmax_i(-|z - alpha x_i|^2 / 2 sigma^2)                the posterior of the row behind z
//! m       = sum_i w_i x_i                                            its mean, the ideal denoiser
//! s*(z,t) = grad log p_t(z) = (alpha m - z) / sigma^2
//! ```
//! Equation 2 of *Selective Underfitting* (Song, Kim, Chen, Du, Kakade, Sitzmann).

mod certificate;
mod classes;
mod empirical;
mod gaussian;
mod neighbours;
mod pairs;
mod posterior;
mod request;
mod shells;
mod tridiagonal;
mod velocity;

pub use certificate::Certificate;
pub use classes::ByClass;
pub use empirical::EmpiricalScore;
pub use gaussian::{GaussianScore, GaussianVelocity};
pub use neighbours::Neighbours;
pub use pairs::Pair;
pub use request::{Queries, Request, Scores};
pub use shells::Shell;
pub use tridiagonal::Tridiagonal;
pub use velocity::EmpiricalVelocity;
