/// The forms of GELU, `x Phi(x)` with the normal distribution's `Phi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gelu {
    /// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, as in DiT.
    Tanh,
    /// `0.5 x (1 + erf(x / sqrt 2))` itself, as in U-ViT.
    Erf,
}
