//! PNG and JPEG to pixels.

use super::resample::Picture;
use png::{ColorType, Decoder, Limits, Transformations};
use std::io::Cursor;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Pixels of the longest side that is read, and of a whole picture: a file of a few bytes may claim any size.
const MOST_SIDE: usize = 1 << 14;
const MOST_PIXELS: usize = 1 << 27;

/// The picture in `bytes`: 8 bits a value; gray, colours, or either with alpha.
///
/// # Errors
/// In words, what is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Picture, String> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => png(bytes),
        [0xff, 0xd8, 0xff, ..] => jpeg(bytes),
        _ => Err("is neither a PNG nor a JPEG".into()),
    }
}

fn sized(width: usize, height: usize) -> Result<[usize; 2], String> {
    let fits = (1..=MOST_SIDE).contains(&width) && (1..=MOST_SIDE).contains(&height) && width * height <= MOST_PIXELS;
    if fits {
        Ok([width, height])
    } else {
        Err(format!("claims {width} x {height} pixels; up to {MOST_PIXELS} are read"))
    }
}

fn png(bytes: &[u8]) -> Result<Picture, String> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: 4 * MOST_PIXELS });
    // Palettes and few bits become 8 bits a value, and so do 16.
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let [width, height] = sized(reader.info().width as usize, reader.info().height as usize)?;
    let size = reader.output_buffer_size().ok_or("its pixels fit no memory")?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(|error| error.to_string())?;
    reader.finish().map_err(|error| error.to_string())?;
    pixels.truncate(frame.buffer_size());
    let channels = match frame.color_type {
        ColorType::Grayscale => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgba => 4,
        ColorType::Rgb | ColorType::Indexed => 3,
    };
    Ok(Picture { width, height, channels, pixels })
}

fn jpeg(bytes: &[u8]) -> Result<Picture, String> {
    let options = DecoderOptions::default()
        .set_max_width(MOST_SIDE)
        .set_max_height(MOST_SIDE)
        // A file that ends early is no gray picture.
        .set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| error.to_string())?;
    let info = decoder.info().ok_or("has no header")?;
    let [width, height] = sized(info.width.into(), info.height.into())?;
    let gray = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let (space, channels) = if gray { (ColorSpace::Luma, 1) } else { (ColorSpace::RGB, 3) };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let pixels = decoder.decode().map_err(|error| error.to_string())?;
    if pixels.len() != width * height * channels {
        return Err(format!("holds {} values for {width} x {height} pixels of {channels}", pixels.len()));
    }
    Ok(Picture { width, height, channels, pixels })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::{Purpose, Stream};

    const FILES: [&[u8]; 4] = [
        include_bytes!("../../../tests/golden/pictures/gray.png"),
        include_bytes!("../../../tests/golden/pictures/palette.png"),
        include_bytes!("../../../tests/golden/pictures/colours.jpg"),
        include_bytes!("../../../tests/golden/pictures/progressive.jpg"),
    ];

    #[test]
    fn files_that_end_early_are_no_pictures() {
        for file in FILES {
            for cut in [0, 2, 4, 30, file.len() / 3, file.len() / 2, file.len() - 300] {
                assert!(decode(&file[..cut]).is_err(), "{cut} of {} bytes", file.len());
            }
        }
    }

    #[test]
    fn no_file_makes_a_decoder_panic_or_a_picture_without_its_pixels() {
        for (file, sample) in FILES.into_iter().zip(0..) {
            for case in 0..2000 {
                let mut bytes = file.to_vec();
                let words = Stream::new(0xbad, sample, case, Purpose::Fixture).words(0);
                for word in &words[..1 + case as usize % 4] {
                    // Most often in the headers.
                    let at = (word >> 8) as usize % if word & 64 == 0 { 200 } else { file.len() };
                    bytes[at] = *word as u8;
                }
                if let Ok(picture) = decode(&bytes) {
                    assert_eq!(picture.pixels.len(), picture.width * picture.height * picture.channels);
                }
            }
        }
    }

    #[test]
    fn sizes_that_no_memory_holds_are_refused_before_it_is_asked_for() {
        let mut bytes = FILES[0].to_vec();
        bytes[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        // The checksum of the header, so that the claim alone is wrong.
        let message = decode(&bytes).unwrap_err();
        assert!(message.contains("CRC") || message.contains("claims 60000 x 60000 pixels"), "{message}");
        assert_eq!(sized(60_000, 60_000).unwrap_err(), "claims 60000 x 60000 pixels; up to 134217728 are read");
        assert!(sized(0, 5).is_err() && sized(16_384, 8_192).is_ok() && sized(16_384, 8_193).is_err());
    }
}
