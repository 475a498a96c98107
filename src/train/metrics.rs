use crate::base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// `metrics.jsonl`: one object per step, and one per held-out loss.
pub struct Metrics {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines in the file.
    end: u64,
    /// The step of the last held-out loss; 0 without any.
    held_out: u64,
    /// Lines that are not yet in the file; they wait there when the disk is full.
    waiting: Vec<u8>,
}

/// One line; `step` counts the steps done.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum Line {
    Step { step: u64, loss: f32, norm: f32, lr: f32, applied: bool, seconds: f64 },
    HeldOut { step: u64, held_out_loss: f64 },
}

impl Metrics {
    /// Opens the file at the end of its lines up to `step`: what a run wrote after its last checkpoint is cut off.
    pub fn open(path: &Path, step: u64) -> Result<Metrics> {
        let failed = |error| Error::file(path, error);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(failed)?;
        let (end, held_out) = end_of(&file, step).map_err(failed)?;
        file.set_len(end).map_err(failed)?;
        Ok(Metrics { path: path.to_owned(), file, end, held_out, waiting: vec![] })
    }

    /// The step of the last held-out loss; 0 without any.
    pub fn held_out(&self) -> u64 {
        self.held_out
    }

    pub fn add(&mut self, line: Line) {
        if let Line::HeldOut { step, .. } = line {
            self.held_out = step;
        }
        // JSON has no NaN; the writer turns it into null.
        let line = serde_json::to_string(&line).expect("a line has a form in JSON");
        self.waiting.extend([line.as_bytes(), b"\n"].concat());
    }

    /// Hands the lines to the system, for readers of the file. After an error the next call tries again.
    pub fn flush(&mut self) -> Result<()> {
        let written = self.file.write_all_at(&self.waiting, self.end);
        written.map_err(|error| Error::file(&self.path, error))?;
        self.end += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Makes the lines durable.
    pub fn sync(&mut self) -> Result<()> {
        self.flush()?;
        self.file.sync_data().map_err(|error| Error::file(&self.path, error))
    }
}

/// The byte after the last whole line of the steps up to `step`, and the step of the last held-out loss before it. A line
/// before it that cannot be read stays.
fn end_of(file: &File, step: u64) -> std::io::Result<(u64, u64)> {
    /// `applied` tells the lines of steps: a loss may be null.
    #[derive(Deserialize)]
    struct Step {
        step: u64,
        applied: Option<bool>,
    }
    let (mut end, mut held_out, mut read, mut bytes) = (0, 0, 0, Vec::new());
    let mut lines = BufReader::new(file);
    while lines.read_until(b'\n', &mut bytes)? > 0 {
        read += bytes.len() as u64;
        match serde_json::from_slice::<Step>(&bytes) {
            Ok(line) if line.step > step => break,
            Ok(line) if bytes.ends_with(b"\n") => {
                end = read;
                held_out = if line.applied.is_none() { line.step } else { held_out };
            }
            _ => {}
        }
        bytes.clear();
    }
    Ok((end, held_out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scratch::Scratch;
    use std::io::Write;

    #[test]
    fn a_resumed_run_keeps_the_lines_of_its_steps_and_no_others() {
        let scratch = Scratch::new();
        let path = scratch.path("metrics.jsonl");
        let line = |step| Line::HeldOut { step, held_out_loss: 0.5 };
        let mut metrics = Metrics::open(&path, 0).unwrap();
        (1..=4).for_each(|step| metrics.add(line(step)));
        metrics.sync().unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"step\":2,\"ha").unwrap();
        let mut metrics = Metrics::open(&path, 3).unwrap();
        metrics.add(line(9));
        metrics.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let steps: Vec<&str> = text.lines().map(|line| &line[8..9]).collect();
        assert_eq!(steps, ["1", "2", "3", "9"], "{text}");
        let broken = text.replace("{\"step\":2", "{\"st\0p\":2");
        std::fs::write(&path, &broken).unwrap();
        Metrics::open(&path, 9).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), broken);
        Metrics::open(&path, 0).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }
}
