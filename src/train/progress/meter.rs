use super::event::Speed;
use crate::train::step::{Report, Settings};
use std::time::{Duration, Instant};

/// How much of the smoothed loss stays at a step.
const SMOOTHING: f64 = 0.98;
/// Steps of a start that the time that is left is not judged by, once there are others: they make room, and record what a card replays.
const UNSETTLED: u64 = 3;

/// What a run does until its next stage, and how much is left then.
pub struct Stretch {
    /// Which stage, of how many.
    pub stage: [usize; 2],
    pub end: u64,
    /// Operations of the stages after it.
    pub later: f64,
    pub settings: Settings,
}

impl Stretch {
    /// Operations from `step`, which is within the stage, to the end of a run of `steps`.
    pub fn flops(&self, step: u64, steps: u64) -> f64 {
        let each = self.settings.cost(self.settings.tokens(step)).flops as f64;
        each * self.end.min(steps).saturating_sub(step) as f64 + self.later
    }
}

/// How far a run is and how fast, judged from the steps that it is told of.
pub(super) struct Meter {
    /// The first step of the speed that is known, and when it began.
    settled: (u64, Instant),
    printed: Instant,
    first: u64,
    steps: u64,
    stretch: Stretch,
    peak: f64,
    loss: f64,
    weight: f64,
    /// Steps, seconds and operations since the last line.
    window: (u64, f64, f64),
    saved: f64,
}

impl Meter {
    /// Of a start at step `first` of a run of `steps`, on a device with this `peak`.
    pub fn new(first: u64, steps: u64, stretch: Stretch, peak: f64) -> Meter {
        let now = Instant::now();
        let settled = (first, now);
        let window = (0, 0.0, 0.0);
        Meter { settled, printed: now, first, steps, stretch, peak, loss: 0.0, weight: 0.0, window, saved: 0.0 }
    }

    /// The steps after `step` are those of another stage, which is as fast as it is.
    pub fn enter(&mut self, step: u64, stretch: Stretch) {
        self.first = step;
        self.settled = (step, Instant::now());
        self.window = (0, 0.0, 0.0);
        self.stretch = stretch;
    }

    /// Whether a line is due after a pause, and at both ends in any case.
    pub fn is_due(&self, step: u64, pause: Duration) -> bool {
        self.printed.elapsed() >= pause || step == self.first + 1 || step == self.steps
    }

    pub fn add(&mut self, step: u64, report: &Report, seconds: f64) {
        if step == self.first + UNSETTLED {
            self.settled = (step, Instant::now());
        }
        let flops = |tokens| self.stretch.settings.cost(tokens).flops as f64;
        let (done, whole) =
            (flops(self.stretch.settings.tokens(step - 1)), flops(self.stretch.settings.model.grid.tokens()));
        self.window = (self.window.0 + 1, self.window.1 + seconds, self.window.2 + done);
        self.saved += seconds * (whole / done - 1.0);
        if report.applied {
            self.loss = SMOOTHING * self.loss + (1.0 - SMOOTHING) * f64::from(report.loss);
            self.weight = SMOOTHING * self.weight + (1.0 - SMOOTHING);
        }
    }

    /// What to say of `step`; the window of the next line begins.
    pub fn speed(&mut self, step: u64, report: &Report, lr: f32) -> Speed {
        let (steps, seconds, flops) = std::mem::take(&mut self.window);
        self.printed = Instant::now();
        let rate = flops / seconds;
        let &Stretch { stage, end, later, ref settings } = &self.stretch;
        let (begun, since) = self.settled;
        let each = match (begun > self.first, step - begun) {
            (true, done @ 1..) => since.elapsed().as_secs_f64() / done as f64,
            _ => seconds / steps as f64,
        };
        Speed {
            step,
            steps: self.steps,
            stage,
            loss: (self.weight > 0.0).then(|| self.loss / self.weight),
            norm: report.norm,
            lr,
            tokens: [settings.tokens(step - 1), settings.model.grid.tokens()],
            images_per_s: (steps as usize * settings.batch) as f64 / seconds,
            flops_per_s: rate,
            share_of_peak: rate / self.peak,
            seconds_left: each * (end.min(self.steps) - step) as f64 + later / rate,
            seconds_saved: self.saved,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fashion_mnist;
    use crate::train::recipe::Change;
    use crate::train::{Plan, Recipe};

    fn settings(sets: &[&str]) -> Settings {
        let changes: Vec<Change> = sets.iter().map(|set| Change::set(set).unwrap()).collect();
        Plan::new(Recipe::read("r", "", &changes).unwrap(), &fashion_mnist().unwrap()).unwrap().settings()
    }

    #[test]
    fn a_line_tells_images_and_operations_a_second_since_the_last_one_and_their_share_of_the_peak() {
        let report = Report { loss: 1.0, norm: 1.0, applied: true };
        let settings = settings(&["mask.drop=0.5", "train.batch_size=6"]);
        let grid = settings.model.grid;
        let flops = settings.cost(grid.tokens() / 2).flops as f64;
        assert!(flops < 0.6 * settings.cost(grid.tokens()).flops as f64, "what is dropped is not computed");
        let stretch = Stretch { stage: [1, 1], end: 9, later: 0.0, settings };
        let mut meter = Meter::new(0, 9, stretch, 4.0 * flops);
        // Two steps in 4 s, and then one in 0.25 s.
        meter.add(1, &report, 1.0);
        meter.add(2, &report, 3.0);
        for (step, steps, share, images) in [(2, 0.5, 0.125, "3.0"), (3, 4.0, 1.0, "24")] {
            let speed = meter.speed(step, &report, 1.0);
            assert_eq!(
                [speed.images_per_s, speed.flops_per_s, speed.share_of_peak],
                [6.0 * steps, steps * flops, share]
            );
            let said = format!("{images} img/s  {:.1} GFLOP/s ({:.0} % of peak)", steps * flops / 1e9, 100.0 * share);
            assert!(speed.to_string().contains(&said), "{said}: {speed}");
            meter.add(step + 1, &report, 0.25);
        }
    }

    #[test]
    fn the_time_that_is_left_is_told_from_the_first_step_on_and_judged_by_those_after_the_first_few() {
        let report = Report { loss: 1.0, norm: 1.0, applied: true };
        let stretch = Stretch { stage: [1, 1], end: 40, later: 0.0, settings: settings(&[]) };
        let mut meter = Meter::new(20, 40, stretch, 1.0);
        let mut left = |step: u64, pause: u64| {
            std::thread::sleep(Duration::from_millis(pause));
            meter.add(step, &report, 1.0);
            meter.speed(step, &report, 1.0).seconds_left
        };
        // Slow at first, which the estimate must not hold against the rest.
        assert_eq!([21, 22, 23].map(|step| left(step, 400)), [19.0, 18.0, 17.0]);
        let seconds = left(24, 1);
        assert!((0.016..0.4 * 16.0).contains(&seconds), "{seconds}");
    }
}
