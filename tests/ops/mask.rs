use crate::common::{cpu, devices};
use engine::base::rng::{Draw, Purpose, Stream};
use engine::base::{LossMask, LossNorm, Mask, PatchGrid, Rate, TokenMask, TokenMasks, Windows};
use engine::device::Device;
use engine::ops::mask::{Masked, mask};
use engine::ops::noise::Batch;

/// 8 x 12 patches.
const GRID: PatchGrid = PatchGrid { channels: 3, height: 16, width: 24, patch: 2 };

fn kind(tokens: TokenMask, drop: f64) -> Mask {
    Mask { tokens: TokenMasks(vec![tokens]), ..Mask::patches(drop) }
}

fn thinned(loss: LossMask, rate: f64, norm: LossNorm) -> Mask {
    Mask { loss, loss_drop: Rate::constant(rate), norm, ..Mask::patches(0.4) }
}

fn masked(device: &Device, settings: &Mask, draw: Draw, images: usize) -> (Masked, Option<Windows>) {
    let mut batch = Batch::new(device, images, GRID);
    batch.place.write(&[draw.step, draw.first]);
    batch.threshold.write(&[settings.threshold(draw.step.into())]);
    let windows = settings.windows(draw.seed, draw.step.into(), GRID);
    (mask(device, draw.seed, settings, windows, &batch, GRID), windows)
}

fn bits(masked: &Masked) -> (Option<Vec<u32>>, Option<Vec<f32>>, Vec<u32>) {
    let weight = masked.weight.to_vec::<f32>().into_iter().map(f32::to_bits).collect();
    (masked.kept.as_ref().map(|t| t.to_vec()), masked.supervised.as_ref().map(|t| t.to_vec()), weight)
}

fn all_kinds() -> Vec<Mask> {
    let tokens = [TokenMask::Patch, TokenMask::Block(2), TokenMask::Block(4), TokenMask::Crop(5)];
    let losses = [LossMask::Element, LossMask::Pixel, LossMask::Patch, LossMask::Block(4)];
    let norms = [LossNorm::All, LossNorm::BatchActive, LossNorm::SampleActive];
    let losses = losses.into_iter().flat_map(|loss| norms.map(|norm| thinned(loss, 0.8, norm)));
    tokens.map(|tokens| kind(tokens, 0.6)).into_iter().chain(losses).chain([Mask::none()]).collect()
}

/// What [`LossNorm::BatchActive`] divides by depends on the batch, and nothing else does.
#[test]
fn masks_do_not_depend_on_device_or_on_how_the_batch_is_split() {
    for settings in all_kinds() {
        let (whole, _) = masked(&cpu(1), &settings, Draw { seed: 1, step: 3, first: 0 }, 6);
        let (kept, supervised, _) = bits(&whole);
        for (name, device) in devices() {
            let (again, _) = masked(&device, &settings, Draw { seed: 1, step: 3, first: 0 }, 6);
            assert!(bits(&again) == bits(&whole), "{name}: {settings:?}");
            for (start, len) in [(0, 2), (2, 4)] {
                let (part, windows) = masked(&device, &settings, Draw { seed: 1, step: 3, first: start as u32 }, len);
                let tokens = windows.map_or(0, |windows| windows.tokens());
                let (part_kept, part_supervised, _) = bits(&part);
                let of = |tokens: usize| start * tokens..(start + len) * tokens;
                assert_eq!(part_kept, kept.as_ref().map(|kept| kept[of(tokens)].to_vec()), "{name}: {settings:?}");
                let image = supervised.as_ref().map(|values| values[of(GRID.image())].to_vec());
                assert!(part_supervised == image, "{name}: {settings:?}");
            }
        }
    }
}

/// The kept patches again, window by window from the words themselves.
#[test]
fn kept_are_the_patches_of_the_squares_with_the_smallest_words() {
    for tokens in [TokenMask::Patch, TokenMask::Block(2), TokenMask::Block(4), TokenMask::Crop(5)] {
        let (drawn, windows) = masked(&cpu(2), &kind(tokens, 0.6), Draw { seed: 8, step: 2, first: 5 }, 40);
        let windows = windows.unwrap();
        let kept = drawn.kept.unwrap().to_vec::<u32>();
        assert_eq!(kept.len(), 40 * windows.tokens());
        for (sample, kept) in (5..).zip(kept.chunks_exact(windows.tokens())) {
            let stream = Stream::new(8, sample, 2, Purpose::TokenMask);
            let word = |i: usize| stream.words(i as u32 / 4)[i % 4];
            let mut order: Vec<usize> = (0..windows.count()).collect();
            order.sort_by_key(|&i| (word(i), i));
            let mut patches: Vec<u32> = vec![];
            for &window in &order[..windows.chosen] {
                let (top, left) = (window / windows.across * windows.stride, window % windows.across * windows.stride);
                let inside = |n: usize| {
                    (top..top + windows.side).contains(&(n / 12)) && (left..left + windows.side).contains(&(n % 12))
                };
                patches.extend((0..96).filter(|&n| inside(n)).map(|n| n as u32));
            }
            patches.sort_unstable();
            assert_eq!(kept, patches, "{tokens:?}, sample {sample}");
        }
    }
}

/// Every window is chosen as often as any other: chi squared with one degree of freedom less than windows, scaled for a
/// choice without repetition.
#[test]
fn squares_are_chosen_uniformly() {
    let images = 6000;
    for (tokens, drop) in [(TokenMask::Patch, 0.75), (TokenMask::Block(2), 0.5), (TokenMask::Crop(5), 0.0)] {
        let (drawn, windows) = masked(&cpu(2), &kind(tokens, drop), Draw { seed: 2, step: 1, first: 0 }, images);
        let windows = windows.unwrap();
        let mut counts = vec![0.0f64; windows.count()];
        for kept in drawn.kept.unwrap().to_vec::<u32>().chunks_exact(windows.tokens()) {
            assert!(kept.windows(2).all(|pair| pair[0] < pair[1]), "{kept:?} ascends");
            for (window, count) in counts.iter_mut().enumerate() {
                *count +=
                    f64::from(u8::from(windows.patches(window, 12).all(|n| kept.binary_search(&(n as u32)).is_ok())));
            }
        }
        let (n, k) = (windows.count() as f64, windows.chosen as f64);
        assert_eq!(counts.iter().sum::<f64>(), f64::from(images as u32) * k, "{tokens:?}");
        let expected = f64::from(images as u32) * k / n;
        let chi_squared: f64 = counts.iter().map(|c| (c - expected) * (c - expected) / expected).sum();
        // A count has the variance of a hypergeometric draw, so this is chi squared of n - 1 degrees of freedom; its mean is
        // n - 1 and its standard deviation sqrt(2 (n - 1)).
        let scaled = chi_squared * (n - 1.0) / (n - k);
        assert!((scaled - (n - 1.0)).abs() < 4.0 * (2.0 * (n - 1.0)).sqrt(), "{tokens:?}: {scaled} of {n} windows");
    }
}

#[test]
fn the_loss_is_thinned_at_its_rate_by_what_hangs_together() {
    let images = 500;
    for loss in [LossMask::Element, LossMask::Pixel, LossMask::Patch, LossMask::Block(2)] {
        for rate in [0.5, 0.95, 0.98] {
            let settings = Mask { drop: Rate::constant(0.0), ..thinned(loss, rate, LossNorm::BatchActive) };
            let (drawn, _) = masked(&cpu(2), &settings, Draw { seed: 4, step: 9, first: 0 }, images);
            let supervised = drawn.supervised.unwrap().to_vec::<f32>();
            let side = loss.side(GRID);
            let (mut together, mut active) = (0.0, 0.0);
            for image in supervised.chunks_exact(GRID.image()) {
                let at = |c: usize, y: usize, x: usize| image[(c * GRID.height + y) * GRID.width + x];
                for (c, y, x) in (0..3).flat_map(|c| (0..16).flat_map(move |y| (0..24).map(move |x| (c, y, x)))) {
                    let first =
                        if loss == LossMask::Element { at(c, y, x) } else { at(0, y / side * side, x / side * side) };
                    assert_eq!(at(c, y, x), first, "{loss:?}: what hangs together is left out together");
                    let own = loss == LossMask::Element || c == 0 && y % side == 0 && x % side == 0;
                    together += f64::from(u8::from(own));
                    active += f64::from(at(c, y, x)) * f64::from(u8::from(own));
                }
            }
            let scatter = (together * rate * (1.0 - rate)).sqrt();
            assert!(
                (active - together * (1.0 - rate)).abs() < 4.0 * scatter,
                "{loss:?} {rate}: {active} of {together}"
            );
        }
    }
}

#[test]
fn weights_divide_by_what_the_norm_says_and_by_nothing_where_nothing_is_supervised() {
    for norm in [LossNorm::All, LossNorm::BatchActive, LossNorm::SampleActive] {
        for rate in [0.5, 0.999] {
            let settings = thinned(LossMask::Pixel, rate, norm);
            let (drawn, windows) = masked(&cpu(2), &settings, Draw { seed: 4, step: 1, first: 0 }, 8);
            let (tokens, supervised) = (windows.unwrap().tokens(), drawn.supervised.unwrap().to_vec::<f32>());
            let kept = drawn.kept.unwrap().to_vec::<u32>();
            let count = |sample: usize| {
                let active = |n: u32| {
                    let pixels = (0..4).flat_map(|pixel| (0..3).map(move |c| (pixel, c)));
                    let image = &supervised[sample * GRID.image()..];
                    pixels.map(|(pixel, c)| image[GRID.element(n as usize, pixel, c)]).sum::<f32>()
                };
                kept[sample * tokens..][..tokens].iter().map(|&n| active(n)).sum::<f32>()
            };
            let counts: Vec<f32> = (0..8).map(count).collect();
            let empty = counts.iter().filter(|&&count| count == 0.0).count();
            assert!(rate < 0.9 || empty > 0 && empty < 8, "some samples have nothing: {counts:?}");
            for (sample, weight) in drawn.weight.to_vec::<f32>().into_iter().enumerate() {
                let divisor = match norm {
                    LossNorm::All => (8 * tokens * 12) as f32,
                    LossNorm::BatchActive => counts.iter().sum(),
                    LossNorm::SampleActive => 8.0 * counts[sample],
                };
                let expected = if divisor > 0.0 { 1.0 / divisor } else { 0.0 };
                assert_eq!(weight, expected, "{norm:?}, sample {sample} of {counts:?}");
            }
        }
    }
    let (drawn, _) = masked(
        &cpu(1),
        &thinned(LossMask::Block(4), 0.99, LossNorm::BatchActive),
        Draw { seed: 3, step: 1, first: 0 },
        1,
    );
    assert!(drawn.supervised.unwrap().to_vec::<f32>().iter().all(|&m| m == 0.0), "a draw that supervises nothing");
    assert_eq!(drawn.weight.to_vec::<f32>(), [0.0]);
}
