//! What a run says while it trains: a bar for people, lines for logs, objects for programs.

use super::step::{Report, Settings};
use crate::device::Device;
use crate::ops::peak_flops;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How much of the smoothed loss stays at a step.
const SMOOTHING: f64 = 0.98;
/// Steps of a start before the time that is left is judged by: they make room, and record what a card replays.
const UNSETTLED: u64 = 3;
/// Rounds of a millisecond in which the peak is looked for.
const PEAK_ROUNDS: usize = 40;

/// Something worth a line.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event<'a> {
    Begin {
        run: &'a Path,
        model: &'a str,
        parameters: usize,
        data: &'a str,
        trained_on: usize,
        held_out: usize,
        device: &'a str,
        step: u64,
        steps: u64,
    },
    Step(Speed),
    HeldOut {
        step: u64,
        loss: f64,
    },
    Drawing {
        step: u64,
        count: usize,
    },
    /// A stop was asked for while samples were drawn.
    NotDrawn {
        step: u64,
    },
    Sample {
        step: u64,
        path: &'a Path,
    },
    Saved {
        step: u64,
        path: &'a Path,
    },
    /// The learning rate at `step` is another one than the run had planned.
    Decay {
        step: u64,
        /// Where the cosine came to 0, and where it does now.
        ends: [u64; 2],
        rates: [f32; 2],
    },
    Warning {
        text: &'a str,
    },
    /// The last event of a run, with the last of each that it has.
    End {
        run: &'a Path,
        outcome: Outcome,
        /// Steps done before this start, and now.
        from: u64,
        step: u64,
        held_out: Option<f64>,
        checkpoint: Option<&'a Path>,
        samples: Option<&'a Path>,
        seconds: f64,
    },
}

/// How a start of a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Done,
    /// By a signal; the same command goes on.
    Stopped,
    /// The message is on standard error.
    Failed,
}

/// Where a run is and how fast.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Speed {
    pub step: u64,
    pub steps: u64,
    /// Smoothed; `None` until a step was applied.
    pub loss: Option<f64>,
    pub norm: f32,
    pub lr: f32,
    /// Patches of an image that this step computed, of how many.
    pub tokens: [usize; 2],
    pub images_per_s: f64,
    pub flops_per_s: f64,
    /// Of the peak of the device, where that is measured.
    pub share_of_peak: Option<f64>,
    /// `None` before the speed is known.
    pub seconds_left: Option<f64>,
    /// What the steps since the start would have taken longer with every patch, by their operations.
    pub seconds_saved: f64,
}

/// Where events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A line or a bar for people, whichever the terminal allows.
    Text,
    /// An object per event.
    Json,
}

/// The voice of a run. A reader that goes away leaves the run as it is.
pub struct Progress {
    style: Style,
    /// `None` once nobody reads it.
    out: Option<Box<dyn Write>>,
    bars: Option<Bars>,
    meter: Option<Meter>,
}

/// The bars on standard error, where it is a terminal.
struct Bars {
    all: MultiProgress,
    steps: ProgressBar,
}

/// A bar of `len`, hidden where standard error is no terminal.
pub fn bar(len: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{bar:20}} {template}")).expect("the template is valid");
    ProgressBar::new(len).with_style(style)
}

/// The bar of images that are drawn.
pub fn drawing_bar(count: usize) -> ProgressBar {
    bar(count as u64, "{pos}/{len} samples  {eta} left")
}

struct Meter {
    /// The first step of the speed that is known, and when it began.
    settled: (u64, Instant),
    printed: Instant,
    first: u64,
    steps: u64,
    settings: Settings,
    peak: Option<f64>,
    loss: f64,
    weight: f64,
    /// Steps, seconds and operations since the last line.
    window: (u64, f64, f64),
    saved: f64,
}

impl Progress {
    /// A voice that writes its lines to `out`; a bar goes to standard error.
    pub fn new(style: Style, out: impl Write + 'static) -> Progress {
        Progress { style, out: Some(Box::new(out)), bars: None, meter: None }
    }

    /// Says what begins, and measures the peak that speeds are compared with.
    pub fn begin(&mut self, event: &Event, device: &Device, settings: &Settings) {
        self.event(event);
        let &Event::Begin { step, steps, .. } = event else { panic!("a run begins with its beginning") };
        let peak = peak_flops(device, PEAK_ROUNDS);
        let now = Instant::now();
        self.meter = Some(Meter {
            settled: (step, now),
            printed: now,
            first: step,
            steps,
            settings: settings.clone(),
            peak,
            loss: 0.0,
            weight: 0.0,
            window: (0, 0.0, 0.0),
            saved: 0.0,
        });
        if self.style == Style::Text && io::stderr().is_terminal() && step < steps {
            let all = MultiProgress::new();
            let steps = all.add(bar(steps, "{pos}/{len}  {wide_msg}"));
            steps.set_position(step);
            self.bars = Some(Bars { all, steps });
        }
    }

    /// Takes note of a step; true if it said so.
    pub fn step(&mut self, step: u64, report: &Report, lr: f32, seconds: f64) -> bool {
        let meter = self.meter.as_mut().expect("a run begins before its first step");
        meter.add(step, report, seconds);
        let pause = match (self.style, &self.bars) {
            (Style::Text, Some(_)) => Duration::from_millis(200),
            (Style::Text, None) => Duration::from_secs(10),
            (Style::Json, _) => Duration::from_secs(1),
        };
        let due = meter.printed.elapsed() >= pause || step == meter.first + 1 || step == meter.steps;
        if due {
            let speed = meter.speed(step, report, lr);
            match &self.bars {
                Some(Bars { steps, .. }) => {
                    steps.set_message(speed.to_string());
                    steps.set_position(step);
                }
                None => self.event(&Event::Step(speed)),
            }
        }
        due
    }

    /// Says what happened.
    pub fn event(&mut self, event: &Event) {
        let line = match self.style {
            Style::Json => serde_json::to_string(event).expect("an event has a form in JSON"),
            Style::Text => event.to_string(),
        };
        self.line(&line);
    }

    pub fn warn(&mut self, text: &str) {
        self.event(&Event::Warning { text });
    }

    /// Says that the samples of `step` are drawn, and gives their bar.
    pub fn drawing(&mut self, step: u64, count: usize) -> ProgressBar {
        self.event(&Event::Drawing { step, count });
        match &self.bars {
            Some(Bars { all, steps }) => {
                steps.set_position(step);
                all.add(drawing_bar(count))
            }
            None => ProgressBar::hidden(),
        }
    }

    /// Writes a line, above the bars.
    pub fn line(&mut self, line: &str) {
        let Progress { out: Some(out), bars, .. } = self else { return };
        let mut write = || writeln!(out, "{line}").and_then(|()| out.flush());
        let written = match bars {
            Some(Bars { all, .. }) => all.suspend(write),
            None => write(),
        };
        if let Err(error) = written {
            self.out = None;
            // It may be that nobody reads standard error either.
            let _ = writeln!(
                io::stderr(),
                "warning: standard output: {error}; the run goes on, its numbers are in metrics.jsonl"
            );
        }
    }

    /// Takes the bar away and says how it ended; to people only if it is done, for an error has words of its own.
    pub fn end(&mut self, event: &Event) {
        let &Event::End { outcome, .. } = event else { panic!("a run ends with its end") };
        if let Some(Bars { steps, .. }) = self.bars.take() {
            steps.finish_and_clear();
        }
        if self.style == Style::Json || outcome == Outcome::Done {
            self.event(event);
        }
    }
}

impl Meter {
    fn add(&mut self, step: u64, report: &Report, seconds: f64) {
        if step == self.first + UNSETTLED {
            self.settled = (step, Instant::now());
        }
        let flops = |tokens| self.settings.cost(tokens).flops as f64;
        let (done, whole) = (flops(self.settings.tokens(step - 1)), flops(self.settings.model.grid.tokens()));
        self.window = (self.window.0 + 1, self.window.1 + seconds, self.window.2 + done);
        self.saved += seconds * (whole / done - 1.0);
        if report.applied {
            self.loss = SMOOTHING * self.loss + (1.0 - SMOOTHING) * f64::from(report.loss);
            self.weight = SMOOTHING * self.weight + (1.0 - SMOOTHING);
        }
    }

    fn speed(&mut self, step: u64, report: &Report, lr: f32) -> Speed {
        let (steps, seconds, flops) = std::mem::take(&mut self.window);
        self.printed = Instant::now();
        let rate = flops / seconds;
        let (begun, since) = self.settled;
        let each = (begun > self.first && step > begun).then(|| since.elapsed().as_secs_f64() / (step - begun) as f64);
        Speed {
            step,
            steps: self.steps,
            loss: (self.weight > 0.0).then(|| self.loss / self.weight),
            norm: report.norm,
            lr,
            tokens: [self.settings.tokens(step - 1), self.settings.model.grid.tokens()],
            images_per_s: (steps as usize * self.settings.batch) as f64 / seconds,
            flops_per_s: rate,
            share_of_peak: self.peak.map(|peak| rate / peak),
            seconds_left: each.map(|each| each * (self.steps - step) as f64),
            seconds_saved: self.saved,
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(loss) = self.loss {
            write!(f, "loss {loss:.4}  ")?;
        }
        if let Some(seconds) = self.seconds_left {
            write!(f, "{} left  ", Clock(seconds))?;
        }
        // Last what a narrow terminal may cut off.
        write!(f, "{:.0} img/s  {:.1} GFLOP/s", self.images_per_s, self.flops_per_s / 1e9)?;
        if let Some(share) = self.share_of_peak {
            write!(f, " ({:.0} % of peak)", 100.0 * share)?;
        }
        let [tokens, all] = self.tokens;
        if self.seconds_saved > 0.0 {
            write!(f, "  {tokens} of {all} patches, about {} saved", Clock(self.seconds_saved))?;
        }
        Ok(())
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Begin { run, model, parameters, data, trained_on, held_out, device, step, steps } => {
                let millions = *parameters as f64 / 1e6;
                writeln!(f, "{}: {model}, {millions:.2} million parameters", run.display())?;
                write!(f, "{trained_on} rows to train on, {held_out} held out: {data}")?;
                match step {
                    0 => write!(f, "\n{steps} steps on {device}"),
                    _ if step < steps => write!(f, "\nfrom step {step} to {steps} on {device}"),
                    _ => Ok(()),
                }
            }
            Event::Step(speed) => write!(f, "step {}/{}  {speed}", speed.step, speed.steps),
            Event::HeldOut { step, loss } => write!(f, "step {step}: held-out loss {loss:.4}"),
            Event::Drawing { step, count } => write!(f, "step {step}: drawing {count} samples"),
            Event::NotDrawn { step } => write!(f, "step {step}: asked to stop, so its samples are left out"),
            Event::Sample { step, path } => write!(f, "step {step}: samples in {}", path.display()),
            Event::Saved { step, path } => write!(f, "step {step}: saved in {}", path.display()),
            Event::Decay { step, ends: [before, now], rates: [was, is] } => {
                let what = format_args!("the cosine comes to 0 at step {now} and no longer at step {before}");
                write!(
                    f,
                    "step {step}: {what}: the learning rate goes on from {}, not from {}",
                    Short(*is),
                    Short(*was)
                )
            }
            Event::Warning { text } => write!(f, "warning: {text}"),
            Event::End { run, outcome: Outcome::Done, from, step, .. } if from == step => {
                write!(f, "{}: was finished at step {step}", run.display())
            }
            Event::End { run, outcome, step, held_out, seconds, .. } => {
                let how = match outcome {
                    Outcome::Done => "finished",
                    Outcome::Stopped => "stopped",
                    Outcome::Failed => "failed",
                };
                write!(f, "\n{}: {how} at step {step} after {}", run.display(), Clock(*seconds))?;
                held_out.map_or(Ok(()), |loss| write!(f, ", held-out loss {loss:.4}"))
            }
        }
    }
}

/// Seconds as people read them.
pub struct Clock(pub f64);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.round() as u64;
        match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
            (0, 0, s) => write!(f, "{s} s"),
            (0, m, s) => write!(f, "{m} min {s:02} s"),
            (h, m, _) => write!(f, "{h} h {m:02} min"),
        }
    }
}

/// Three digits of a number.
struct Short(f32);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:.2e}", self.0);
        digits.parse::<f32>().expect("a number that was written is one").fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fashion_mnist;
    use crate::train::{Plan, Recipe};

    #[test]
    fn a_short_number_has_three_digits() {
        for (number, text) in [(0.0, "0"), (0.005, "0.005"), (0.001_414_2, "0.00141"), (1.0, "1"), (12_345.0, "12300")]
        {
            assert_eq!(Short(number).to_string(), text);
        }
    }

    #[test]
    fn the_time_that_is_left_is_judged_by_steps_after_the_first_few() {
        let report = Report { loss: 1.0, norm: 1.0, applied: true };
        let now = Instant::now();
        let mut meter = Meter {
            settled: (20, now),
            printed: now,
            first: 20,
            steps: 40,
            settings: Plan::new(Recipe::read("r", "", &[]).unwrap(), &fashion_mnist().unwrap()).unwrap().settings(),
            peak: None,
            loss: 0.0,
            weight: 0.0,
            window: (0, 0.0, 0.0),
            saved: 0.0,
        };
        let mut left = |step: u64, pause: u64| {
            std::thread::sleep(Duration::from_millis(pause));
            meter.add(step, &report, 1.0);
            meter.speed(step, &report, 1.0).seconds_left
        };
        // Slow at first, which the estimate must not hold against the rest.
        assert_eq!([21, 22, 23].map(|step| left(step, 400)), [None; 3]);
        let seconds = left(24, 1).unwrap();
        assert!((0.016..0.4 * 16.0).contains(&seconds), "{seconds}");
    }

    #[test]
    fn seconds_read_as_people_say_them() {
        for (seconds, text) in [(0.4, "0 s"), (59.6, "1 min 00 s"), (187.0, "3 min 07 s"), (7384.0, "2 h 03 min")] {
            assert_eq!(Clock(seconds).to_string(), text);
        }
    }
}
