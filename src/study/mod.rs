//! The experiments of the papers, each a function from data to a table and a picture.

mod energy;
mod mask_spectrum;
mod swiss_roll;

pub use mask_spectrum::{Direction, MaskSpectrum};
pub use swiss_roll::{Measured, Rolled, SwissRoll};
