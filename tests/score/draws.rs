use super::oracle::exact;
use super::{noised, row, store, words};
use engine::base::{DType, Path};
use engine::data::tensors::FileDType;
use engine::device::{Cpu, Device};
use engine::score::{EmpiricalScore, Queries, Request};

#[test]
fn draws_have_the_frequencies_of_the_exact_posterior() {
    const DRAWS: usize = 200_000;
    let device = Device::cpu(Cpu::new(None, DType::F32).unwrap());
    // Few rows are picked one by one, many are taken at once.
    for count in [200, 3000] {
        let pixels: Vec<u8> = words(5, count * 24).iter().map(|x| *x as u8).collect();
        let store = store(FileDType::U8, 24, &pixels, &[count as u32 / 3, count as u32 - count as u32 / 3]);
        let score = EmpiricalScore::new(&device, &store, Path::Linear).unwrap();
        for (t, by_class) in [0.6, 0.8, 0.95].into_iter().flat_map(|t| [(t, false), (t, true)]) {
            let z = noised(&row(&store, 3), t, 1);
            let asked = Request { draws: DRAWS, seed: 11, ..Request::default() };
            let queries = Queries { z: &z, t: &[t] };
            let draws = match by_class {
                true => score.answer_by_class(queries, &asked).unwrap().all.draws,
                false => score.answer(queries, &asked).unwrap().draws,
            };
            let mut seen = vec![0.0; count];
            draws.iter().for_each(|&row| seen[row as usize] += 1.0);
            let posterior = exact(&store, 0..count as u32, &z, t).posterior;
            // Rows that are expected less than ten times are one class.
            let (mut statistic, mut classes, mut rest) = (0.0, 0, [0.0; 2]);
            for (&p, &seen) in posterior.iter().zip(&seen) {
                let expected = p * DRAWS as f64;
                if expected < 10.0 {
                    rest = [rest[0] + expected, rest[1] + seen];
                } else {
                    statistic += (seen - expected).powi(2) / expected;
                    classes += 1;
                }
            }
            if rest[0] >= 10.0 {
                statistic += (rest[1] - rest[0]).powi(2) / rest[0];
                classes += 1;
            } else {
                assert!(
                    rest[1] <= 40.0,
                    "{count} rows, t = {t}, by class {by_class}: {} rare draws, {} expected",
                    rest[1],
                    rest[0]
                );
            }
            let freedom = f64::from(classes - 1);
            // Chi-squared has this mean and variance 2 freedom: five deviations.
            assert!(
                statistic <= freedom + 5.0 * (2.0 * freedom).sqrt(),
                "{count} rows, t = {t}, by class {by_class}: {statistic} of {freedom}"
            );
            assert!(classes > 3, "{count} rows, t = {t}, by class {by_class}: several rows have weight");
        }
    }
}
