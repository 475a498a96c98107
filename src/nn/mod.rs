//! Parameters, and the models that are made of them.

mod network;
mod params;
mod positions;
mod sit;
mod uvit;

pub use network::{Config, Family, Network, Size};
pub use params::{Init, Param, ParamList, ParamStore, Piece};
