use engine::base::rng::{Purpose, Stream};
use engine::base::{Accumulate, DType};
use engine::cpu::column_sums;
use engine::device::{Cpu, Isa};
use std::num::NonZero;

fn sums(threads: usize, isa: Isa, x: &[f32], width: usize, start: f32, accumulate: Accumulate) -> Vec<f32> {
    let cpu = Cpu::new(NonZero::new(threads), DType::F32).unwrap().with_isa(isa);
    let mut out = vec![start; width];
    column_sums(&cpu, x, x.len() / width, width, &mut out, accumulate);
    out
}

#[test]
fn column_sums_equal_the_f64_oracle_with_the_same_bits_everywhere() {
    for (rows, width) in [(0, 3), (1, 1), (5, 31), (64, 33), (2049, 100)] {
        let mut x = vec![0.0; rows * width];
        Stream::new(1, 0, 0, Purpose::Fixture).fill_normals(&mut x);
        let got = sums(1, Isa::Portable, &x, width, f32::NAN, Accumulate::Set);
        for (j, &got) in got.iter().enumerate() {
            let column = || (0..rows).map(|i| x[i * width + j]);
            let exact: f64 = column().map(f64::from).sum();
            let naive = (f64::from(column().sum::<f32>()) - exact).abs();
            // A single column's naive error may happen to be zero; every sum has at most rows roundings of its terms.
            let bound = column().map(|x| f64::from(x.abs())).sum::<f64>() * f64::from(f32::EPSILON) / 2.0;
            let blocks = 64.0 + rows as f64 / 64.0;
            let error = (f64::from(got) - exact).abs();
            assert!(error <= (2.0 * naive).max(bound * blocks), "{rows}x{width}, column {j}: off by {error:e}");
        }
        for isa in [Isa::Portable, Isa::detect()] {
            for threads in [1, 2, 3, 5] {
                assert_eq!(sums(threads, isa, &x, width, f32::NAN, Accumulate::Set), got);
                let added = sums(threads, isa, &x, width, 0.75, Accumulate::Add);
                assert!(added.iter().zip(&got).all(|(added, got)| *added == 0.75 + got));
            }
        }
    }
}
