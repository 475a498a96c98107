//! The events of a run, as objects and as sentences.

use crate::base::Bytes;
use serde::Serialize;
use std::fmt;
use std::path::Path;

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
        /// What the run holds at its fullest, about.
        memory_bytes: u64,
        /// What its steps take if all goes at the measured peak of the device.
        least_seconds: f64,
    },
    /// The run goes on in another stage, or within one of several.
    Stage {
        step: u64,
        /// Which one, of how many.
        stage: [usize; 2],
        end: u64,
        batch: usize,
        /// Patches of an image that its next step computes, of how many.
        tokens: [usize; 2],
        lr: f64,
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
    /// Which stage, of how many.
    pub stage: [usize; 2],
    /// Smoothed; `None` until a step was applied.
    pub loss: Option<f64>,
    pub norm: f32,
    pub lr: f32,
    /// Patches of an image that this step computed, of how many.
    pub tokens: [usize; 2],
    pub images_per_s: f64,
    pub flops_per_s: f64,
    /// Of the measured peak of the device.
    pub share_of_peak: f64,
    /// After the first steps of a start judged by those since.
    pub seconds_left: f64,
    /// What the steps since the start would have taken longer with every patch, by their operations.
    pub seconds_saved: f64,
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [stage, stages] = self.stage;
        if stages > 1 {
            write!(f, "stage {stage} of {stages}  ")?;
        }
        if let Some(loss) = self.loss {
            write!(f, "loss {loss:.4}  ")?;
        }
        write!(f, "{} left  ", Clock(self.seconds_left))?;
        let digits = usize::from(self.images_per_s < 10.0);
        write!(f, "{:.digits$} img/s  {:.1} GFLOP/s", self.images_per_s, self.flops_per_s / 1e9)?;
        write!(f, " ({:.0} % of peak)", 100.0 * self.share_of_peak)?;
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
            Event::Begin {
                run,
                model,
                parameters,
                data,
                trained_on,
                held_out,
                device,
                step,
                steps,
                memory_bytes,
                least_seconds,
            } => {
                let millions = *parameters as f64 / 1e6;
                writeln!(f, "{}: {model}, {millions:.2} million parameters", run.display())?;
                write!(f, "{trained_on} rows to train on, {held_out} held out: {data}")?;
                match step {
                    0 => write!(f, "\n{steps} steps on {device}")?,
                    _ if step < steps => write!(f, "\nfrom step {step} to {steps} on {device}")?,
                    _ => return Ok(()),
                }
                let (memory, least) = (Bytes(*memory_bytes), Clock(*least_seconds));
                write!(f, "\nabout {memory} of memory, and at least {least} at the peak that was measured")
            }
            Event::Stage { step, stage: [stage, stages], end, batch, tokens: [tokens, all], lr } => {
                write!(f, "step {step}: stage {stage} of {stages}, to step {end}: ")?;
                write!(f, "batches of {batch}, {tokens} of {all} patches, learning rate {lr}")
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
struct Clock(f64);

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

    #[test]
    fn a_short_number_has_three_digits() {
        for (number, text) in [(0.0, "0"), (0.005, "0.005"), (0.001_414_2, "0.00141"), (1.0, "1"), (12_345.0, "12300")]
        {
            assert_eq!(Short(number).to_string(), text);
        }
    }

    #[test]
    fn seconds_read_as_people_say_them() {
        for (seconds, text) in [(0.4, "0 s"), (59.6, "1 min 00 s"), (187.0, "3 min 07 s"), (7384.0, "2 h 03 min")] {
            assert_eq!(Clock(seconds).to_string(), text);
        }
    }
}
