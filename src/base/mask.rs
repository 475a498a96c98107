//! What a training step leaves out: tokens that the network never sees, and elements that the loss does not count.

use super::PatchGrid;
use super::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What tokens are dropped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenMask {
    /// Single patches.
    Patch,
    /// Windows of so many patches along a side, which tile the grid.
    Block(usize),
    /// All but one window of so many patches along a side, anywhere in the grid; it knows no rate.
    Crop(usize),
}

/// A choice among windows of patches, which every [`TokenMask`] is: `chosen` of `down * across` windows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Windows {
    /// Patches along a side of a window.
    pub side: usize,
    /// Patches from one window to the next.
    pub stride: usize,
    /// Windows along the height and along the width.
    pub down: usize,
    pub across: usize,
    pub chosen: usize,
}

impl TokenMask {
    /// Says what is wrong where the mask does not fit a grid.
    pub fn check(self, grid: PatchGrid) -> Result<(), String> {
        let (rows, columns) = grid.sides();
        match self {
            TokenMask::Block(side) if !rows.is_multiple_of(side) || !columns.is_multiple_of(side) => Err(format!(
                "blocks of {side} x {side} patches do not divide a grid of {rows} x {columns}; give a side that does"
            )),
            TokenMask::Crop(side) if side > rows.min(columns) => Err(format!(
                "a crop of {side} x {side} patches does not fit a grid of {rows} x {columns}; give at most {}",
                rows.min(columns)
            )),
            _ => Ok(()),
        }
    }

    /// What is kept of `grid` where `rate` of it is dropped; `None` for all of it.
    ///
    /// Counts are MaskDM's: of T patches `int(rate T)` are dropped, of blocks `int(rate T) / side^2`, both rounded down, so
    /// the share that is dropped is at most `rate`.
    pub fn windows(self, rate: f64, grid: PatchGrid) -> Option<Windows> {
        let (rows, columns) = grid.sides();
        let dropped = (rate * grid.tokens() as f64) as usize;
        let windows = match self {
            TokenMask::Crop(side) => {
                let (down, across) = (rows - side + 1, columns - side + 1);
                Windows { side, stride: 1, down, across, chosen: 1 }
            }
            TokenMask::Patch | TokenMask::Block(_) => {
                let side = if let TokenMask::Block(side) = self { side } else { 1 };
                let (down, across) = (rows / side, columns / side);
                Windows { side, stride: side, down, across, chosen: down * across - dropped / (side * side) }
            }
        };
        (windows.tokens() < grid.tokens()).then_some(windows)
    }
}

impl Windows {
    /// How many windows there are.
    pub fn count(&self) -> usize {
        self.down * self.across
    }

    /// How many patches are kept.
    pub fn tokens(&self) -> usize {
        self.chosen * self.side * self.side
    }

    /// The patches of a window, in a grid of `columns` columns.
    pub fn patches(self, window: usize, columns: usize) -> impl Iterator<Item = usize> {
        let first = window / self.across * self.stride * columns + window % self.across * self.stride;
        (0..self.side * self.side).map(move |i| first + i / self.side * columns + i % self.side)
    }
}

impl FromStr for TokenMask {
    type Err = String;

    fn from_str(text: &str) -> Result<TokenMask, String> {
        let mask = match text.trim().split_once(':') {
            None if text.trim() == "patch" => Some(TokenMask::Patch),
            Some(("block", side)) => positive(side).map(TokenMask::Block),
            Some(("crop", side)) => positive(side).map(TokenMask::Crop),
            _ => None,
        };
        mask.ok_or_else(|| "expected patch, block:SIDE or crop:SIDE, a side in patches, or several with commas".into())
    }
}

impl fmt::Display for TokenMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenMask::Patch => f.write_str("patch"),
            TokenMask::Block(side) => write!(f, "block:{side}"),
            TokenMask::Crop(side) => write!(f, "crop:{side}"),
        }
    }
}

/// Token masks of which every step draws one: `patch, block:4` in a recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenMasks(pub Vec<TokenMask>);

impl TryFrom<String> for TokenMasks {
    type Error = String;

    fn try_from(text: String) -> Result<TokenMasks, String> {
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(TokenMasks)
    }
}

impl From<TokenMasks> for String {
    fn from(masks: TokenMasks) -> String {
        masks.to_string()
    }
}

impl fmt::Display for TokenMasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(TokenMask::to_string).collect();
        f.write_str(&names.join(", "))
    }
}

/// What the loss leaves out together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LossMask {
    /// Each channel of each pixel for itself.
    Element,
    Pixel,
    Patch,
    /// Blocks of so many patches along a side.
    Block(usize),
}

impl LossMask {
    /// Says what is wrong where the mask does not fit a grid.
    pub fn check(self, grid: PatchGrid) -> Result<(), String> {
        match self {
            LossMask::Block(side) => TokenMask::Block(side).check(grid),
            _ => Ok(()),
        }
    }

    /// Pixels along a side of what is left out together.
    pub fn side(self, grid: PatchGrid) -> usize {
        match self {
            LossMask::Element | LossMask::Pixel => 1,
            LossMask::Patch => grid.patch,
            LossMask::Block(side) => side * grid.patch,
        }
    }
}

impl FromStr for LossMask {
    type Err = String;

    fn from_str(text: &str) -> Result<LossMask, String> {
        let mask = match text.trim().split_once(':') {
            None => [LossMask::Element, LossMask::Pixel, LossMask::Patch]
                .into_iter()
                .find(|mask| mask.to_string() == text.trim()),
            Some(("block", side)) => positive(side).map(LossMask::Block),
            _ => None,
        };
        mask.ok_or_else(|| "expected element, pixel, patch or block:SIDE, a side in patches".into())
    }
}

impl fmt::Display for LossMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LossMask::Element => f.write_str("element"),
            LossMask::Pixel => f.write_str("pixel"),
            LossMask::Patch => f.write_str("patch"),
            LossMask::Block(side) => write!(f, "block:{side}"),
        }
    }
}

impl TryFrom<String> for LossMask {
    type Error = String;

    fn try_from(text: String) -> Result<LossMask, String> {
        text.parse()
    }
}

impl From<LossMask> for String {
    fn from(mask: LossMask) -> String {
        mask.to_string()
    }
}

fn positive(text: &str) -> Option<usize> {
    text.parse().ok().filter(|&side| side > 0)
}

/// What the sum of the squared errors is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossNorm {
    /// The elements of the kept patches, whether supervised or not.
    All,
    /// The supervised elements of the batch.
    BatchActive,
    /// For each sample its supervised elements; then the mean over the samples.
    SampleActive,
}

/// A rate, the fraction dropped, that may go linearly to another one in the first `ramp` steps from step `from` on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub start: f64,
    pub end: f64,
    pub ramp: u64,
    pub from: u64,
}

impl Rate {
    pub fn constant(rate: f64) -> Rate {
        Rate { start: rate, end: rate, ramp: 0, from: 0 }
    }

    /// The rate of `step`, counted from 0.
    pub fn at(self, step: u64) -> f64 {
        match self.ramp {
            0 => self.start,
            ramp => {
                let done = step.saturating_sub(self.from) as f64;
                self.start + (self.end - self.start) * (done / ramp as f64).min(1.0)
            }
        }
    }
}

/// What the steps of a run leave out.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    pub tokens: TokenMasks,
    pub drop: Rate,
    pub loss: LossMask,
    pub loss_drop: Rate,
    pub norm: LossNorm,
}

impl Mask {
    /// Nothing is left out.
    pub fn none() -> Mask {
        Mask::patches(0.0)
    }

    /// Each step drops `rate` of the patches.
    pub fn patches(rate: f64) -> Mask {
        Mask {
            tokens: TokenMasks(vec![TokenMask::Patch]),
            drop: Rate::constant(rate),
            loss: LossMask::Pixel,
            loss_drop: Rate::constant(0.0),
            norm: LossNorm::BatchActive,
        }
    }

    /// What the samples of `step` keep, all by the same kind of mask and the same number; `None` for everything.
    pub fn windows(&self, seed: u64, step: u64, grid: PatchGrid) -> Option<Windows> {
        let kinds = &self.tokens.0;
        let kind = match kinds[..] {
            [kind] => kind,
            _ => {
                let draw = Stream::new(seed, 0, step as u32, Purpose::MaskKind).below(0, kinds.len() as u64);
                kinds[draw as usize]
            }
        };
        kind.windows(self.drop.at(step), grid)
    }

    /// Whether the loss leaves anything out at any step.
    pub fn thins_loss(&self) -> bool {
        self.loss_drop.start > 0.0 || self.loss_drop.ramp > 0 && self.loss_drop.end > 0.0
    }

    /// An element of the loss is left out at `step` if its word is below this.
    pub fn threshold(&self, step: u64) -> u32 {
        (self.loss_drop.at(step) * 2f64.powi(32)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(rows: usize, columns: usize) -> PatchGrid {
        PatchGrid { channels: 3, height: 4 * rows, width: 4 * columns, patch: 4 }
    }

    fn kept(mask: &str, rate: f64, grid: PatchGrid) -> usize {
        let mask: TokenMask = mask.parse().unwrap();
        mask.check(grid).unwrap();
        mask.windows(rate, grid).map_or(grid.tokens(), |windows| windows.tokens())
    }

    #[test]
    fn counts_are_those_of_the_paper() {
        // MaskDM, 64 pixels in patches of 4: the visible tokens of 256 at 10, 50, 70 and 90 %.
        for (mask, counts) in [
            ("patch", [231, 128, 77, 26]),
            ("block:2", [232, 128, 80, 28]),
            ("block:4", [240, 128, 80, 32]),
            ("block:8", [256, 128, 128, 64]),
        ] {
            assert_eq!([0.1, 0.5, 0.7, 0.9].map(|rate| kept(mask, rate, grid(16, 16))), counts, "{mask}");
        }
        for (mask, count) in [("crop:15", 225), ("crop:11", 121), ("crop:5", 25), ("crop:16", 256)] {
            assert_eq!(kept(mask, 0.3, grid(16, 16)), count, "{mask}");
        }
        // 256 pixels in patches of 4.
        assert_eq!([0.5, 0.7, 0.9].map(|rate| kept("block:4", rate, grid(64, 64))), [2048, 1232, 416]);
    }

    #[test]
    fn counts_of_grids_that_are_not_square() {
        assert_eq!([0.5, 0.98].map(|rate| kept("patch", rate, grid(3, 5))), [8, 1]);
        assert_eq!([0.5, 0.98].map(|rate| kept("block:3", rate, grid(6, 9))), [27, 9]);
        assert_eq!(kept("crop:3", 0.0, grid(3, 5)), 9);
    }

    #[test]
    fn windows_hold_their_patches() {
        let windows = TokenMask::Block(2).windows(0.5, grid(4, 6)).unwrap();
        assert_eq!((windows.count(), windows.chosen), (6, 3));
        assert_eq!(windows.patches(4, 6).collect::<Vec<_>>(), [14, 15, 20, 21]);
        let windows = TokenMask::Crop(2).windows(0.0, grid(3, 4)).unwrap();
        assert_eq!((windows.count(), windows.chosen), (6, 1));
        assert_eq!(windows.patches(5, 4).collect::<Vec<_>>(), [6, 7, 10, 11]);
    }

    #[test]
    fn what_does_not_fit_the_grid_is_refused() {
        let refused = |mask: &str, rows, columns| mask.parse::<TokenMask>().unwrap().check(grid(rows, columns));
        let what = "blocks of 3 x 3 patches do not divide a grid of 6 x 8; give a side that does";
        assert_eq!(refused("block:3", 6, 8), Err(what.into()));
        let what = "a crop of 7 x 7 patches does not fit a grid of 6 x 8; give at most 6";
        assert_eq!(refused("crop:7", 6, 8), Err(what.into()));
        assert!(LossMask::Block(5).check(grid(6, 8)).is_err());
    }

    #[test]
    fn masks_are_read_as_they_are_written() {
        for text in ["patch", "block:4", "crop:11", "patch, block:2, crop:5"] {
            assert_eq!(String::from(TokenMasks::try_from(text.to_string()).unwrap()), text);
        }
        for text in ["element", "pixel", "patch", "block:2"] {
            assert_eq!(text.parse::<LossMask>().unwrap().to_string(), text);
        }
        for text in ["", "blok:4", "block", "block:0", "block:-1", "crop:x", "patch:2", "patch,"] {
            assert!(TokenMasks::try_from(text.to_string()).is_err(), "{text}");
        }
        for text in ["", "pixels", "crop:2", "block:0"] {
            assert!(text.parse::<LossMask>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_goes_to_its_end_and_stays() {
        let rate = Rate { start: 0.9, end: 0.5, ramp: 4, from: 0 };
        assert_eq!([0, 2, 4, 9].map(|step| rate.at(step)), [0.9, 0.7, 0.5, 0.5]);
        let later = Rate { from: 7, ..rate };
        assert_eq!([0, 7, 9, 11, 16].map(|step| later.at(step)), [0.9, 0.9, 0.7, 0.5, 0.5]);
        assert_eq!(Rate::constant(0.25).at(7), 0.25);
    }

    #[test]
    fn a_mixture_draws_each_of_its_kinds() {
        let tokens = TokenMasks::try_from("patch, block:4, crop:5".to_string()).unwrap();
        let mask = Mask { tokens, ..Mask::patches(0.9) };
        let mut seen = [0; 3];
        for step in 0..3000 {
            let windows = mask.windows(1, step, grid(16, 16)).unwrap();
            seen[[26, 32, 25].iter().position(|&tokens| tokens == windows.tokens()).unwrap()] += 1;
        }
        // Four standard deviations of a third of 3000.
        assert!(seen.iter().all(|&n: &i32| (n - 1000).abs() < 104), "{seen:?}");
    }
}
