use crate::base::{Accumulate, Gelu};
use crate::cpu::math;

/// What is done with a finished run of sums before it is stored.
///
/// A product calls it once for every output element, while the sums are still in the nearest cache. `write` must be
/// `#[inline(always)]`, so that it is compiled for the instruction set of the product that calls it.
pub trait Epilogue: Sync {
    /// Stores the sums of columns `col..col + sums.len()` of `row` to `out`, which has the same length.
    fn write(&self, row: usize, col: usize, sums: &[f32], out: &mut [f32]);
}

/// `Set` stores the sums, `Add` adds them.
impl Epilogue for Accumulate {
    #[inline(always)]
    fn write(&self, _row: usize, _col: usize, sums: &[f32], out: &mut [f32]) {
        match self {
            Accumulate::Set => out.copy_from_slice(sums),
            Accumulate::Add => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
        }
    }
}

/// `out = sums + bias[col]`.
pub struct Bias<'a>(pub &'a [f32]);

impl Epilogue for Bias<'_> {
    #[inline(always)]
    fn write(&self, _row: usize, col: usize, sums: &[f32], out: &mut [f32]) {
        let bias = &self.0[col..col + sums.len()];
        for ((out, sum), bias) in out.iter_mut().zip(sums).zip(bias) {
            *out = sum + bias;
        }
    }
}

/// `out = sums * gelu'(pre[row, col])`: the gradient of a GELU's input, from that of its output.
pub struct GeluBackward<'a> {
    /// The inputs of the GELU, row-major.
    pub pre: &'a [f32],
    /// The width of its rows.
    pub width: usize,
    pub form: Gelu,
}

impl Epilogue for GeluBackward<'_> {
    #[inline(always)]
    fn write(&self, row: usize, col: usize, sums: &[f32], out: &mut [f32]) {
        let start = row * self.width + col;
        let pre = &self.pre[start..start + sums.len()];
        let outs = out.iter_mut().zip(sums).zip(pre);
        // Loops and not `for_each`, which may become a function of its own, without the instruction set of the product: every
        // fused multiply-add of it was then a call.
        match self.form {
            Gelu::Tanh => {
                for ((out, sum), &pre) in outs {
                    *out = sum * math::gelu_derivative(pre);
                }
            }
            Gelu::Erf => {
                for ((out, sum), &pre) in outs {
                    *out = sum * math::gelu_erf_derivative(pre);
                }
            }
        }
    }
}
