//! Parameters, and the models that are made of them.

mod params;
mod positions;
pub mod sit;

pub use params::{Init, Param, ParamList, ParamStore, Piece};
