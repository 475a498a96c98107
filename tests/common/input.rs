//! The inputs of an operation.

use super::Float;

/// Where an input of an operation lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Computed by an earlier operation.
    Node,
    /// A parameter.
    Param,
    /// A parameter that is not trained: its gradient is never written.
    Constant,
    /// Computed, and by contract read by this operation alone: its gradient is always `Set`.
    SoleReader,
}

#[derive(Clone)]
pub struct Input {
    pub(super) shape: Vec<usize>,
    pub(super) place: Place,
    pub(super) scale: f32,
    pub(super) values: Vec<f32>,
}

impl Input {
    pub fn node(shape: &[usize]) -> Input {
        Input::new(shape, Place::Node)
    }

    pub fn param(shape: &[usize]) -> Input {
        Input::new(shape, Place::Param)
    }

    pub fn sole(shape: &[usize]) -> Input {
        Input::new(shape, Place::SoleReader)
    }

    pub fn constant(shape: &[usize]) -> Input {
        Input::new(shape, Place::Constant)
    }

    fn new(shape: &[usize], place: Place) -> Input {
        Input { shape: shape.to_vec(), place, scale: 1.0, values: vec![] }
    }

    /// Values of this standard deviation rather than one.
    pub fn scaled(self, scale: f32) -> Input {
        Input { scale, ..self }
    }

    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// What its gradient is like.
    pub(super) fn kind(&self) -> Kind {
        match (self.place, self.shape.len()) {
            (Place::Node | Place::SoleReader, _) => Kind::Stream,
            (Place::Constant, _) => Kind::Constant,
            (_, 1) => Kind::Bias,
            _ => Kind::Weight,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Stream,
    Weight,
    Bias,
    /// Never written, so never compared.
    Constant,
}

/// The values of each input as numbers of an oracle.
pub(super) fn cast<F: Float>(inputs: &[Input]) -> Vec<Vec<F>> {
    inputs.iter().map(|input| input.values.iter().map(|&x| F::from_f64(f64::from(x))).collect()).collect()
}
