//! What to say of a moving average of the weights that is still what it began with.

/// An average with less than this of the initial weights draws what the weights draw, to the eye.
const LITTLE: f64 = 0.1;

/// The share of a moving average that is still the weights it began with, after `applied` updates that each keep `decay` of
/// what was there.
fn initial_share(decay: f64, applied: u64) -> f64 {
    decay.powf(applied as f64)
}

/// What to say of samples from an average that has not yet forgotten the initial weights, which draw noise.
pub fn lag(decay: f64, applied: u64) -> Option<String> {
    let share = initial_share(decay, applied);
    (share > LITTLE).then(|| {
        let what = format_args!("of which {:.0} % is the initial weights after {applied} steps", 100.0 * share);
        format!("samples come from the moving average train.ema = {decay}, {what}: expect noise")
    })
}

/// What to say before a run of `steps` whose average will not have forgotten the initial weights at its end.
pub fn lag_ahead(decay: f64, steps: u64) -> Option<String> {
    let late = initial_share(decay, steps) > LITTLE;
    late.then(|| format!("samples will be noise, since train.ema = {decay} is slow: {}", remedy(decay, steps)))
}

/// What to do about it in a run of `steps`: wait, or another key.
pub fn remedy(decay: f64, steps: u64) -> String {
    if initial_share(decay, steps) <= LITTLE {
        let enough = (LITTLE.ln() / decay.ln()).ceil();
        return format!("less than {:.0} % from step {enough} on", 100.0 * LITTLE);
    }
    // 0.9, 0.99 and so on: the slowest that forgets in time.
    let forgets = |decay: &f64| initial_share(*decay, steps) <= LITTLE;
    let slower = (1..6).map(|digits| 1.0 - 10f64.powi(-digits)).take_while(forgets).last().unwrap_or(0.0);
    format!("a run of {steps} steps wants --set 'train.ema=[{slower}]', in another --out")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_lags_until_a_tenth_is_left() {
        assert!(lag(0.9, 22).is_none() && lag(0.0, 1).is_none());
        let said = lag(0.9999, 100).unwrap();
        assert!(
            said.contains("train.ema = 0.9999, of which 99 % is the initial weights after 100 steps: expect noise"),
            "{said}"
        );
        assert!(lag(0.9, 21).unwrap().contains("11 % is the initial weights after 21 steps"));
    }

    #[test]
    fn a_run_that_ends_before_its_average_has_forgotten_is_given_one_that_forgets() {
        for (decay, steps, expected) in [
            (0.9999, 100, "a run of 100 steps wants --set 'train.ema=[0.9]', in another --out"),
            (0.9999, 300, "a run of 300 steps wants --set 'train.ema=[0.99]', in another --out"),
            (0.9999, 10, "a run of 10 steps wants --set 'train.ema=[0]', in another --out"),
            (0.995, 1800, "less than 10 % from step 460 on"),
        ] {
            assert_eq!(remedy(decay, steps), expected);
            let said = lag_ahead(decay, steps);
            assert_eq!(said.is_some_and(|said| said.ends_with(expected)), expected.starts_with("a run"));
        }
    }
}
