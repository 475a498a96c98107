//! What a store may hold that was not meant.

use super::store::Info;
use super::tensors::FileDType;

impl Info {
    /// What in the data may not be what it was meant to be, each with what to do then.
    pub fn warnings(&self) -> Vec<String> {
        let [channels, height, width] = self.shape;
        let (min, max) =
            (self.min.iter().copied().fold(f32::MAX, f32::min), self.max.iter().copied().fold(f32::MIN, f32::max));
        let mut warnings = Vec::from_iter(gaps(&self.class_counts));
        if [height, width] == [1, 1] {
            return warnings;
        }
        if self.dtype == FileDType::U8 {
            warnings.extend((channels == 4).then(|| "4 channels of u8: if this is RGBA, drop alpha".to_owned()));
            return warnings;
        }
        if [1, 3, 4].contains(&width) && channels.min(height) > 4 {
            let read =
                format_args!("floats are read as (M, C, H, W), these as {channels} channels of {height} x {width}");
            warnings.push(format!("{read}; if channels come last, save numpy.moveaxis(x, -1, 1)"));
        }
        let read = format_args!("values from {min} to {max}: floats are read as they are");
        if min >= 0.0 && (16.0..=255.0).contains(&max) {
            warnings.push(format!("{read}; if these are pixels, save their astype('uint8'), or x / 127.5 - 1"));
        } else if min.abs().max(max.abs()) > 16.0 {
            warnings.push(format!("{read}, and noise has deviation 1; save them scaled to about -1 to 1"));
        } else if min >= 0.0 && max <= 1.0 && max > min && [1, 3].contains(&channels) {
            warnings.push(format!("{read}, and pictures are drawn of -1 to 1; if these are pixels, save 2 * x - 1"));
        }
        warnings
    }
}

/// Which classes have no rows: labels that skip numbers make a larger model, and classes that nothing teaches.
fn gaps(counts: &[u32]) -> Option<String> {
    let empty: Vec<usize> = (0..counts.len()).filter(|&class| counts[class] == 0).collect();
    let first: Vec<String> = empty.iter().take(5).map(usize::to_string).collect();
    let more = if empty.len() > first.len() { ", ..." } else { "" };
    let what = format_args!("{} of {} classes have no rows ({}{more})", empty.len(), counts.len(), first.join(", "));
    (!empty.is_empty()).then(|| format!("{what}: labels count from 0; if they should have no gaps, number them again"))
}
