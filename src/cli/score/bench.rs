use super::{points, times};
use crate::base::{Error, Path as DiffusionPath, Result};
use crate::cli::bench::median;
use crate::cli::machine::Machine;
use crate::data::Store;
use crate::ops::read_rate;
use crate::score::{EmpiricalScore, Queries, Request};
use crate::train::recipe::Precision;
use clap::Args;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Instant;

/// Time the empirical score of a data set at given points: score, velocity, posterior mean, log p, certificate
#[derive(Args)]
pub struct BenchScore {
    /// A store, as made by `engine data ingest`
    #[arg(long)]
    data: PathBuf,
    /// Points in the data's values, an .npy of f32 or f64: (B, d) or (B, C, H, W)
    #[arg(long)]
    queries: PathBuf,
    /// One time for all points, or an .npy with one each
    #[arg(long)]
    t: String,
    /// Runs that are timed, after one that is not
    #[arg(long, value_parser = crate::cli::count, default_value = "5")]
    runs: NonZero<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
}

impl BenchScore {
    pub fn run(self) -> Result<()> {
        if self.runs.get() > 1 << 20 {
            return Err(Error::Usage(format!("--runs {}: is out of range; give up to {}", self.runs, 1 << 20)));
        }
        let device = self.machine.open(Precision::F32)?;
        let store = Store::open(&self.data)?;
        let (shape, z) = points(&self.queries, &store)?;
        let t = times(&self.t, shape[0])?;
        let score = EmpiricalScore::new(&device, &store, DiffusionPath::Linear)?;
        let run = || {
            let start = Instant::now();
            score.answer(Queries { z: &z, t: &t }, &Request::default()).map(|_| start.elapsed().as_secs_f64())
        };
        run()?;
        let mut seconds = (0..self.runs.get()).map(|_| run()).collect::<Result<Vec<f64>>>()?;
        let median = median(&mut seconds);
        let bytes = store.rows() as usize * store.width();
        let rate = read_rate(&device, 5);
        let floor = bytes as f64 / rate;
        if self.json {
            let row = serde_json::json!({
                "points": shape[0],
                "rows": store.rows(),
                "width": store.width(),
                "device": device.describe(),
                "seconds": median,
                "seconds_min": seconds[0],
                "read_bytes_per_s": rate,
                "floor_seconds": floor,
            });
            println!("{row}");
        } else {
            println!(
                "{} points, {} rows of {}: {:.2} ms, {:.2} times the floor, one byte a value read at {:.1} GB/s",
                shape[0],
                store.rows(),
                store.width(),
                median * 1e3,
                median / floor,
                rate / 1e9,
            );
        }
        Ok(())
    }
}
