//! Pictures of samples: a batch of images as one PNG.

use crate::base::{Error, Result};
use crate::data::atomic::{AtomicFile, unwritten};
use std::path::Path;

/// Pixels between two images.
const GAP: usize = 2;
/// Images are enlarged by a whole factor until their longer side has about as many pixels.
const SIDE: usize = 64;
/// The value of the gaps.
const GREY: u8 = 128;

/// Whether images of so many channels are pictures.
pub fn has_picture(channels: usize) -> bool {
    matches!(channels, 1 | 3)
}

/// Refuses to put images of so many channels at `path` where they are no pictures.
pub fn check_picture(path: &Path, channels: usize) -> Result<()> {
    if has_picture(channels) {
        return Ok(());
    }
    let what = format_args!("latents of {channels} channels have no picture, which has 1 or 3");
    Err(Error::Usage(format!("{}: {what}; write a .npy and decode it", path.display())))
}

/// Puts `images` (B, C, H, W), values in [-1, 1], C = 1 gray or 3 colours, at `path` as a nearly square grid, row by row.
///
/// Values outside are clamped, NaN is black. Small images are enlarged by a whole factor.
pub fn write_grid(path: &Path, images: &[f32], shape: [usize; 4]) -> Result<()> {
    let [count, channels, height, width] = shape;
    assert_eq!(images.len(), count * channels * height * width, "png: shape {shape:?} and values differ");
    check_picture(path, channels)?;
    let color = if channels == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb };
    if images.is_empty() {
        return Err(Error::Usage(format!("{}: there is no image in {shape:?}; ask for at least one", path.display())));
    }
    let scale = (SIDE / height.max(width)).max(1);
    let columns = (1..).find(|columns| columns * columns >= count).expect("some square is large enough");
    let rows = count.div_ceil(columns);
    let (cell_height, cell_width) = (height * scale + GAP, width * scale + GAP);
    let (grid_height, grid_width) = (rows * cell_height - GAP, columns * cell_width - GAP);

    let mut pixels = vec![GREY; grid_height * grid_width * channels];
    for (image, values) in images.chunks_exact(channels * height * width).enumerate() {
        let (top, left) = (image / columns * cell_height, image % columns * cell_width);
        for y in 0..height * scale {
            let line = ((top + y) * grid_width + left) * channels;
            let line = &mut pixels[line..line + width * scale * channels];
            for (x, pixel) in line.chunks_exact_mut(channels).enumerate() {
                for (channel, byte) in pixel.iter_mut().enumerate() {
                    *byte = level(values[(channel * height + y / scale) * width + x / scale]);
                }
            }
        }
    }

    let failed = |error: png::EncodingError| unwritten(path, error);
    let size = |pixels| u32::try_from(pixels).map_err(|_| Error::file(path, format_args!("a grid of {pixels} pixels")));
    let mut file = AtomicFile::create(path)?;
    let mut encoder = png::Encoder::new(&mut file, size(grid_width)?, size(grid_height)?);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&pixels).and_then(|()| writer.finish()).map_err(failed)?;
    file.commit()
}

/// The 8-bit level of a value in [-1, 1]: the inverse of a store's reading of pixels.
fn level(value: f32) -> u8 {
    ((value + 1.0) * 127.5).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scratch::Scratch;

    /// Width, height, channels and pixels.
    fn decode(path: &Path) -> (usize, usize, usize, Vec<u8>) {
        let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width as usize, info.height as usize, info.color_type.samples(), pixels)
    }

    #[test]
    fn every_pixel_level_survives_the_way_through_a_store_and_back() {
        for x in 0..=255u8 {
            assert_eq!(level(2.0 * f32::from(x) / 255.0 - 1.0), x);
        }
        assert_eq!([-2.0, 2.0, f32::NAN, f32::INFINITY].map(level), [0, 255, 0, 255]);
    }

    #[test]
    fn images_stand_row_by_row_with_gaps_between_them() {
        let scratch = Scratch::new();
        let path = scratch.path("grid.png");
        // Five images of 40 x 33 in colour, image i with level 10 (i + 1) + channel.
        let (count, height, width) = (5, 40, 33);
        let value = |image: usize, channel: usize| 2.0 * (10.0 * (image + 1) as f32 + channel as f32) / 255.0 - 1.0;
        let images: Vec<f32> =
            (0..count * 3).flat_map(|plane| vec![value(plane / 3, plane % 3); height * width]).collect();
        write_grid(&path, &images, [count, 3, height, width]).unwrap();
        let (grid_width, grid_height, channels, pixels) = decode(&path);
        assert_eq!((grid_width, grid_height, channels), (3 * 33 + 2 * 2, 2 * 40 + 2, 3));
        for y in 0..grid_height {
            for x in 0..grid_width {
                let (row, column) = (y / 42, x / 35);
                let image = row * 3 + column;
                let inside = y % 42 < 40 && x % 35 < 33 && image < count;
                let expected = if inside { [0, 1, 2].map(|c| 10 * (image as u8 + 1) + c) } else { [GREY; 3] };
                assert_eq!(pixels[(y * grid_width + x) * 3..][..3], expected, "({x}, {y})");
            }
        }
    }

    #[test]
    fn small_images_are_enlarged_by_a_whole_factor() {
        let scratch = Scratch::new();
        let path = scratch.path("tiny.png");
        write_grid(&path, &[-1.0, 1.0, 0.0, -1.0], [1, 1, 2, 2]).unwrap();
        let (width, height, channels, pixels) = decode(&path);
        assert_eq!((width, height, channels), (64, 64, 1));
        for (i, &pixel) in pixels.iter().enumerate() {
            assert_eq!(pixel, [[0, 255], [128, 0]][i / 64 / 32][i % 64 / 32], "pixel {i}");
        }
    }

    #[test]
    fn latents_and_empty_batches_have_no_picture() {
        let message = write_grid(Path::new("x.png"), &[0.0; 16], [1, 4, 2, 2]).unwrap_err().to_string();
        assert!(message.contains("x.png: latents of 4 channels have no picture, which has 1 or 3"), "{message}");
        let message = write_grid(Path::new("x.png"), &[], [0, 1, 2, 2]).unwrap_err().to_string();
        assert!(message.contains("there is no image in [0, 1, 2, 2]"), "{message}");
    }
}
