/// How an image (C, H, W) is cut into square patches of P by P pixels, row by row.
///
/// A patch becomes a token. Its elements are laid out `(c, p, q)` where a patch enters the network, as the published
/// convolution weights have them, and `(p, q, c)` where it leaves, as the published final layer has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchGrid {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub patch: usize,
}

impl PatchGrid {
    /// Patches along the height and along the width.
    pub fn sides(&self) -> (usize, usize) {
        (self.height / self.patch, self.width / self.patch)
    }

    /// The number of patches, which is the number of tokens of a whole image.
    pub fn tokens(&self) -> usize {
        let (rows, columns) = self.sides();
        rows * columns
    }

    /// Pixels of a patch.
    pub fn area(&self) -> usize {
        self.patch * self.patch
    }

    /// Elements of an image.
    pub fn image(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// The place in the image of a channel of a pixel of a patch; `pixel` is `p * P + q`.
    #[inline(always)]
    pub fn element(&self, patch: usize, pixel: usize, channel: usize) -> usize {
        let columns = self.width / self.patch;
        let y = patch / columns * self.patch + pixel / self.patch;
        let x = patch % columns * self.patch + pixel % self.patch;
        (channel * self.height + y) * self.width + x
    }
}
