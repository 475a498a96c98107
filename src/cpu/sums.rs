use crate::base::Accumulate;
use crate::device::{Chunks, Cpu};

/// Columns that one task sums: two cache lines, so that no line is read by two threads.
const STRIP: usize = 32;

/// `out[j] = sum of x[i, j] over i`, x being row-major (rows, width): the gradient of a bias.
///
/// Rows are summed in order within blocks of 64, and blocks in order, whatever the number of threads.
pub fn column_sums(cpu: &Cpu, x: &[f32], rows: usize, width: usize, out: &mut [f32], accumulate: Accumulate) {
    assert_eq!(x.len(), rows * width, "column_sums: {rows} x {width} elements, not {}", x.len());
    assert_eq!(out.len(), width, "column_sums: {width} columns, not {}", out.len());
    cpu.threads.each(Chunks::new(out, STRIP), 1, |strip, out| {
        strip_sums(cpu.isa(), x, width, strip * STRIP, out, accumulate);
    });
}

vectorised! {
    fn strip_sums(x: &[f32], width: usize, first: usize, out: &mut [f32], accumulate: Accumulate) {
        let mut total = [0.0; STRIP];
        for block in x.chunks(64 * width) {
            let mut sums = [0.0; STRIP];
            for row in block.chunks_exact(width) {
                let row = &row[first..first + out.len()];
                match <&[f32; STRIP]>::try_from(row) {
                    Ok(row) => (0..STRIP).for_each(|j| sums[j] += row[j]),
                    Err(_) => row.iter().zip(&mut sums).for_each(|(x, sum)| *sum += x),
                }
            }
            (0..STRIP).for_each(|j| total[j] += sums[j]);
        }
        for (out, sum) in out.iter_mut().zip(total) {
            accumulate.put(out, sum);
        }
    }
}

/// `sum += x`.
pub fn add(cpu: &Cpu, sum: &mut [f32], x: &[f32]) {
    const BLOCK: usize = 16 * 1024;
    cpu.threads.each(Chunks::new(sum, BLOCK), 1, |i, sum| add_block(cpu.isa(), sum, &x[i * BLOCK..][..sum.len()]));
}

vectorised! {
    fn add_block(sum: &mut [f32], x: &[f32]) {
        sum.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
    }
}

/// Independent partial sums: enough to hide the latency of an addition on two vectors of 16.
const LANES: usize = 32;

/// `sum of term(i) over i < n`, in an order that depends on n alone, for use inside `vectorised!`.
#[inline(always)]
pub fn sum_of(n: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let whole = n - n % LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
    }
    for (i, sum) in (whole..n).zip(&mut lanes) {
        *sum += term(i);
    }
    let sums: [f32; LANES / 2] = halved(&lanes);
    let sums: [f32; LANES / 4] = halved(&sums);
    let sums: [f32; LANES / 8] = halved(&sums);
    let [a, b] = halved(&sums);
    a + b
}

/// The sums of the elements of `x` that lie half its length apart.
#[inline(always)]
fn halved<const N: usize>(x: &[f32]) -> [f32; N] {
    std::array::from_fn(|i| x[i] + x[i + N])
}

/// The largest of `x`, for use inside `vectorised!`; negative infinity for none.
#[inline(always)]
pub fn max_of(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, x);
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| larger(a, b))
}
