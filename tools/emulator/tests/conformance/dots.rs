//! Dot products of numbers that a tensor core may round, flush or mistake: infinities, NaN, subnormal numbers, -0, sums
//! that cancel, terms that fall off the end when they are aligned.

use super::{
    Vector, Want, encode,
    fragments::{self, Types},
    halves, size,
    wgmma::{self, Product},
};
use half::{bf16, f16};

/// The number that an element holds after rounding.
fn held(ty: &str, x: f64) -> f64 {
    let bytes = encode(ty, x);
    match ty {
        "bf16" => halves(&bytes).map(bf16::from_bits).map(bf16::to_f64).sum(),
        "f16" => halves(&bytes).map(f16::from_bits).map(f16::to_f64).sum(),
        _ => f64::from(super::common::f32s(&bytes)[0]),
    }
}

/// A large number and the smallest subnormal of a type. The large one is the largest of f16; of the others it leaves room
/// for sums that f32 holds, since where a sum overflows depends on the order.
fn ends(ty: &str) -> (f64, f64) {
    match ty {
        "f16" => (65504.0, 2f64.powi(-24)),
        "bf16" => (f64::from(bf16::MAX) / 64.0, 2f64.powi(-133)),
        _ => (f64::from(f32::from_bits(0x7f7f_e000)) / 64.0, 2f64.powi(-136)),
    }
}

/// Row `row` of A: what goes wrong.
fn left(ty: &str, row: usize, at: usize, k: usize) -> f64 {
    let (large, smallest) = ends(ty);
    let alternating = [1.0, -1.0][at % 2];
    let power = |e: i32| 2f64.powi(e);
    match row % 16 {
        0 => 1.0,
        1 => -0.0,
        2 if at == 1 => f64::INFINITY,
        3 if at == 0 => f64::INFINITY,
        3 if at == 2 => f64::NEG_INFINITY,
        4 if at == k - 1 => f64::NAN,
        5 => alternating,
        // Large terms of both signs around small ones: what remains depends on how many digits an aligned term keeps.
        6 => [power(12), power(-3), -power(12)][if at == 0 { 0 } else { usize::from(at == k - 1) + 1 }],
        7 => {
            if at == 0 {
                1.0
            } else {
                power(-12)
            }
        }
        8 => {
            if at == 0 {
                -1.0
            } else {
                power(-13)
            }
        }
        9 => {
            if at == k - 1 {
                1.0
            } else {
                -power(-14)
            }
        }
        10 => smallest,
        11 => alternating * large,
        12 => large,
        13 => power(-(at as i32)),
        14 if at == 1 => 0.0,
        15 => ((at * 5) % 7) as f64 * 0.37 - 1.1,
        _ => 0.5,
    }
}

/// Column `column` of B: what meets it.
fn right(at: usize, column: usize, k: usize) -> f64 {
    let alternating = [1.0, -1.0][at % 2];
    match column % 8 {
        0 => 1.0,
        1 => -1.0,
        2 => alternating,
        3 => 2f64.powi(-12),
        4 => {
            if at == 0 || at == k - 1 {
                4.0
            } else {
                2f64.powi(-11)
            }
        }
        5 => -0.0,
        6 if at == 1 => f64::INFINITY,
        6 => 1.0,
        _ => 0.71 - 0.13 * at as f64,
    }
}

/// What the accumulators hold before; f16 has no number as small as 2^-140.
fn before(d: &str, column: usize) -> f64 {
    [0.0, -0.0, 1.0, 2f64.powi(if d == "f16" { -24 } else { -140 }), -2048.0, -0.0, f64::NEG_INFINITY, f64::NAN]
        [column % 8]
}

/// A sum in f64, and how far a sum in f32 may be from it.
///
/// With T the largest of the k + 1 terms, each of the k + 1 partial sums in order is at most (k + 1) T and rounds by at
/// most 2^-24 of that; adding terms that are cut at 2^-24 T, and cutting the sum, is nearer still. An f16 result is
/// rounded once more.
fn sum(d: &str, terms: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let (count, large) = (terms.clone().count() as f64, terms.clone().fold(0.0, |most, x| x.abs().max(most)));
    let sum: f64 = terms.sum();
    let bound = count * count * large * 2f64.powi(-23) + 2f64.powi(-149);
    (sum, if d == "f16" { bound + sum.abs() * 2f64.powi(-10) + 2f64.powi(-24) } else { bound })
}

pub fn vectors() -> Vec<Vector> {
    let mut all = vec![];
    for (d, element, k) in
        [("f32", "bf16", 8), ("f32", "bf16", 16), ("f32", "f16", 16), ("f16", "f16", 16), ("f32", "tf32", 8)]
    {
        let a = |row: usize, at: usize| held(element, left(element, row, at, k));
        let b = |at: usize, column: usize| held(element, right(at, column, k));
        let want = |row: usize, column: usize, c: f64| sum(d, (0..k).map(|at| a(row, at) * b(at, column)).chain([c]));
        for (suffix, accumulates) in [("", false), ("-sum", true)] {
            let c = |_: usize, column: usize| if accumulates { before(d, column) } else { 0.0 };
            let near = |places: Vec<(usize, usize)>| {
                let sums = places.into_iter().map(|(row, column)| want(row, column, c(row, column))).collect();
                Want::Near { half: d == "f16", sums }
            };
            let places = |columns: usize| move |x: f64| (x as usize / columns, x as usize % columns);
            let numbered: [[f64; 8]; 16] =
                std::array::from_fn(|row| std::array::from_fn(|column| (row * 8 + column) as f64));
            let order = fragments::in_order(&numbered).map(places(8)).collect();
            let name = format!("dot-mma-{d}-{element}-k{k}{suffix}");
            all.push(fragments::mma(name, Types { d, a: element, b: element }, k, a, b, c, near(order)));
            if 32 / size(element) != k {
                continue;
            }
            let order = wgmma::in_order(|row, column| (row * wgmma::N + column) as f64).map(places(wgmma::N)).collect();
            let name = format!("dot-wgmma-{d}-{element}{suffix}");
            all.push(Product { d, element, accumulates, ..wgmma::PLAIN }.vector(name, a, b, c, near(order)));
        }
    }
    all
}
