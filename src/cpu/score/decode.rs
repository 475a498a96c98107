//! The values of rows by vector code.

use crate::data::tensors::FileDType;
use crate::device::Isa;

/// The values of a row of type U8, F16 or F32, as [`values`](crate::data::values) gives them.
pub fn decode(isa: Isa, dtype: FileDType, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        #[cfg(target_arch = "x86_64")]
        FileDType::F16 if isa >= Isa::Avx512 => {
            // SAFETY: an `Isa` is never above what the processor was found to have.
            unsafe { x86::halves(bytes, out) }
        }
        FileDType::U8 => pixels(isa, bytes, out),
        FileDType::F16 => halves(isa, bytes, out),
        _ => floats(isa, bytes, out),
    }
}

vectorised! {
    fn pixels(bytes: &[u8], out: &mut [f32]) {
        out.iter_mut().zip(bytes).for_each(|(out, &x)| *out = 2.0 * f32::from(x) / 255.0 - 1.0);
    }

    /// Exponent and fraction move to their place in f32, and 2^112 corrects the bias, of subnormals too. What is not finite
    /// becomes infinite.
    fn halves(bytes: &[u8], out: &mut [f32]) {
        for (out, &bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
            let bits = u32::from(u16::from_le_bytes(bytes));
            let size = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
            let size = if size < 65536.0 { size } else { f32::INFINITY };
            *out = f32::from_bits(size.to_bits() | (bits & 0x8000) << 16);
        }
    }

    fn floats(bytes: &[u8], out: &mut [f32]) {
        out.iter_mut().zip(bytes.as_chunks().0).for_each(|(out, &bytes)| *out = f32::from_le_bytes(bytes));
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub fn halves(bytes: &[u8], out: &mut [f32]) {
        assert_eq!(bytes.len(), 2 * out.len());
        let ((whole, rest), (out, out_rest)) = (bytes.as_chunks::<32>(), out.as_chunks_mut::<16>());
        for (bytes, out) in whole.iter().zip(out) {
            // SAFETY: 16 elements.
            unsafe {
                let halves = _mm256_loadu_si256(bytes.as_ptr().cast());
                _mm512_storeu_ps(out.as_mut_ptr(), _mm512_cvtph_ps(halves));
            }
        }
        let mask = (1 << out_rest.len()) - 1;
        // SAFETY: the mask selects what is left of both.
        unsafe {
            let halves = _mm256_maskz_loadu_epi16(mask, rest.as_ptr().cast());
            _mm512_mask_storeu_ps(out_rest.as_mut_ptr(), mask, _mm512_cvtph_ps(halves));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::values;

    #[test]
    fn decoding_gives_the_values_that_a_step_reads() {
        let isa = Isa::detect();
        let bytes: Vec<u8> = (0..=255).collect();
        let (mut ours, mut theirs) = ([0.0; 256], [0.0; 256]);
        pixels(isa, &bytes, &mut ours);
        values(FileDType::U8, &bytes, &mut theirs);
        assert_eq!(ours, theirs);
        let finite = (0..=u16::MAX).filter(|bits| bits >> 10 & 31 != 31);
        let bytes: Vec<u8> = finite.flat_map(u16::to_le_bytes).take(2 * 63_483).collect();
        let mut theirs = vec![0.0; bytes.len() / 2];
        values(FileDType::F16, &bytes, &mut theirs);
        for isa in [Isa::Portable, Isa::Avx2, isa] {
            if isa > Isa::detect() {
                continue;
            }
            let mut ours = vec![0.0; theirs.len()];
            decode(isa, FileDType::F16, &bytes, &mut ours);
            assert_eq!(ours, theirs, "{isa}");
            let mut ours = [0.0; 4];
            decode(isa, FileDType::F16, &[0, 0x7c, 1, 0x7c, 0, 0xfc, 0, 0x7e], &mut ours);
            assert!(ours.iter().all(|x| !x.is_finite()), "{isa}: {ours:?}");
        }
    }
}
