//! What a run says while it trains: a bar for people, lines for logs, objects for programs.

mod event;
mod meter;

pub use event::{Event, Outcome};
pub use meter::Stretch;

use super::step::Report;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use meter::Meter;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

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

impl Progress {
    /// A voice that writes its lines to `out`; a bar goes to standard error.
    pub fn new(style: Style, out: impl Write + 'static) -> Progress {
        Progress { style, out: Some(Box::new(out)), bars: None, meter: None }
    }

    /// Says what begins; speeds are compared with `peak`.
    pub fn begin(&mut self, event: &Event, peak: f64, stretch: Stretch) {
        self.event(event);
        let &Event::Begin { step, steps, .. } = event else { panic!("a run begins with its beginning") };
        self.meter = Some(Meter::new(step, steps, stretch, peak));
        if self.style == Style::Text && io::stderr().is_terminal() && step < steps {
            let all = MultiProgress::new();
            // What the words leave of a narrow terminal is the bar's, which goes first.
            let style = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {msg}").expect("the template is valid");
            let steps = all.add(ProgressBar::new(steps).with_style(style));
            steps.set_position(step);
            self.bars = Some(Bars { all, steps });
        }
    }

    /// Says that the run goes over to another stage.
    pub fn stage(&mut self, event: &Event, stretch: Stretch) {
        let &Event::Stage { step, .. } = event else { panic!("a stage begins with its beginning") };
        self.event(event);
        self.meter.as_mut().expect("a run begins before its stages").enter(step, stretch);
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
        let due = meter.is_due(step, pause);
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
