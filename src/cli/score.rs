mod bench;
mod demo;

pub use bench::BenchScore;

use super::check_out;
use super::machine::Machine;
use crate::base::{Error, Path as DiffusionPath, Result};
use crate::data::atomic::{AtomicFile, unwritten};
use crate::data::npy::Npy;
use crate::data::tensors::{FileDType, Spec, Writer};
use crate::data::{Source, Store};
use crate::device::Device;
use crate::ops::read_rate;
use crate::score::{ByClass, Certificate, EmpiricalScore, Queries, Request, Scores};
use crate::train::recipe::Precision;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Queries answered between two looks at the bar.
const BATCH: usize = 64;
/// Draws and nearest rows of a query.
const MOST: usize = 1 << 20;

/// The exact score of a data set seen through noise, with a bound of the error; --demo draws it for the embedded images
#[derive(Args)]
pub struct Score {
    /// A store, as made by `engine data ingest`
    #[arg(long, required_unless_present = "demo")]
    data: Option<PathBuf>,
    /// Points in the data's values, an .npy of f32 or f64: (B, d) or (B, C, H, W)
    #[arg(long, required_unless_present = "demo")]
    queries: Option<PathBuf>,
    /// One time for all points, or an .npy with one each: above 0 (data), up to 1 (noise)
    #[arg(long, required_unless_present = "demo")]
    t: Option<String>,
    /// A .safetensors file, of the demo a .png
    #[arg(long)]
    out: PathBuf,
    /// Only the rows of one class
    #[arg(long)]
    class: Option<u32>,
    /// The answers of every class, too, by the same pass: class, class_score, class_log_p, class_n_effective, class_certificate
    #[arg(long, conflicts_with = "class")]
    by_class: bool,
    /// Rows drawn from each posterior
    #[arg(long, default_value_t = 1)]
    draws: usize,
    /// Nearest rows of each point [default: 8, or all there are]
    #[arg(long)]
    nearest: Option<usize>,
    /// The draws of point i are a function of the seed and i
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How data become noise
    #[arg(long, default_value_t = DiffusionPath::Linear)]
    path: DiffusionPath,
    /// A picture of the embedded images: noised, denoised, nearest rows, and r* over t
    #[arg(long, conflicts_with_all = ["data", "queries", "t", "class", "by_class", "nearest"])]
    demo: bool,
    #[command(flatten)]
    machine: Machine,
}

impl Score {
    pub fn run(self) -> Result<()> {
        let wanted = if self.demo { "png" } else { "safetensors" };
        if self.out.extension().is_none_or(|extension| extension != wanted) {
            return Err(Error::Usage(format!("--out {}: name a .{wanted} file", self.out.display())));
        }
        // An answer that cannot be written is not worth waiting for.
        check_out("--out", &self.out)?;
        let device = self.machine.open(Precision::F32)?;
        let (Some(data), Some(queries), Some(t)) = (&self.data, &self.queries, &self.t) else {
            return demo::draw(&device, self.path, &self.out);
        };
        let store = Store::open(data)?;
        let (shape, z) = points(queries, &store)?;
        let batch = shape[0];
        let t = times(t, batch)?;
        let request = self.request(&store)?;
        store.verify()?;
        let score = EmpiricalScore::new(&device, &store, self.path)?;
        let answers = self.answers(&device, &score, Queries { z: &z, t: &t }, &request)?;
        write(&self.out, &shape, &answers, &request, store.info().digest.as_str())
    }

    fn request(&self, store: &Store) -> Result<Request> {
        for (flag, count) in [("--draws", self.draws), ("--nearest", self.nearest.unwrap_or(0))] {
            if count > MOST {
                return Err(Error::Usage(format!("{flag} {count}: is out of range; give up to {MOST}")));
            }
        }
        let rows = match self.class {
            Some(class) if (class as usize) < store.classes() => store.class(class).len(),
            _ => store.rows() as usize,
        };
        let nearest = self.nearest.unwrap_or(8.min(rows));
        Ok(Request { class: self.class, nearest, draws: self.draws, r_star: true, seed: self.seed, step: 0, first: 0 })
    }

    /// All answers, a bar while they come, and how fast they came.
    fn answers(
        &self,
        device: &Device,
        score: &EmpiricalScore<'_>,
        queries: Queries<'_>,
        request: &Request,
    ) -> Result<ByClass> {
        let (store, count) = (score.store(), queries.t.len());
        let template = ProgressStyle::with_template("{bar:40} {pos}/{len} points  {eta}").expect("a valid template");
        let bar = ProgressBar::new(count as u64).with_style(template);
        let (mut answers, start) = (ByClass::default(), Instant::now());
        for (i, t) in queries.t.chunks(BATCH).enumerate() {
            let first = i * BATCH;
            let z = &queries.z[first * store.width()..(first + t.len()) * store.width()];
            let asked = Request { first: first as u32, ..request.clone() };
            answers.append(match self.by_class {
                true => score.answer_by_class(Queries { z, t }, &asked)?,
                false => ByClass { classes: vec![], all: score.answer(Queries { z, t }, &asked)? },
            });
            bar.set_position((first + t.len()) as u64);
        }
        let seconds = start.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let bytes = (count.div_ceil(BATCH) * store.width() * store.rows() as usize) as f64;
        let floor = bytes / read_rate(device, 5);
        println!(
            "{}: {count} points, {} rows of {} values, {:.3} s; reading the rows once for every {BATCH} points takes {:.0} % of it",
            self.out.display(),
            store.rows(),
            store.width(),
            seconds,
            100.0 * floor / seconds,
        );
        let worst = answers.all.certificate.iter().fold(0.0, |worst: f64, certificate| worst.max(certificate.log_p));
        println!("certified: log p is off by at most {worst:.1e} nats; `certificate` has the bounds of each point");
        Ok(answers)
    }
}

/// The shape and the values of the points, one row each.
fn points(path: &Path, store: &Store) -> Result<(Vec<usize>, Vec<f64>)> {
    let npy = Npy::open(Source::open(path)?)?;
    let [channels, height, width] = store.shape();
    let shape = npy.shape().to_vec();
    let fits = match shape[..] {
        [batch, d] => batch > 0 && d == store.width(),
        [batch, c, h, w] => batch > 0 && [c, h, w] == [channels, height, width],
        _ => false,
    };
    if !fits {
        let (d, data) = (store.width(), [channels, height, width]);
        let what = format_args!("has shape {shape:?}, the data are rows of {data:?}; give (B, {d}) or (B, C, H, W)");
        return Err(npy.source().error(what));
    }
    Ok((shape, doubles(&npy)?))
}

/// The time of each of `batch` points.
fn times(text: &str, batch: usize) -> Result<Vec<f64>> {
    if let Ok(t) = text.parse::<f64>() {
        return Ok(vec![t; batch]);
    }
    let path = Path::new(text);
    if path.extension().is_none_or(|extension| extension != "npy") {
        return Err(Error::Usage(format!("--t {text}: is neither a number nor an .npy; give one of them")));
    }
    let npy = Npy::open(Source::open(path)?)?;
    if npy.shape() != [batch] {
        let there = npy.shape();
        return Err(npy
            .source()
            .error(format_args!("has shape {there:?}, there are {batch} points; give one time each")));
    }
    doubles(&npy)
}

/// The elements of an array of floats.
fn doubles(npy: &Npy) -> Result<Vec<f64>> {
    let count = npy.shape().iter().product::<usize>();
    let mut bytes = vec![0; count * npy.dtype().size() as usize];
    npy.read_bytes(0, &mut bytes)?;
    match npy.dtype() {
        FileDType::F64 => Ok(bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect()),
        dtype @ (FileDType::F32 | FileDType::F16) => {
            let mut values = vec![0.0; count];
            dtype.floats(&bytes, &mut values).expect("floats are read");
            Ok(values.into_iter().map(f64::from).collect())
        }
        other => Err(npy
            .source()
            .error(format_args!("holds {other:?}; give floats in the data's values, pixels in [-1, 1]"))),
    }
}

fn write(path: &Path, shape: &[usize], answers: &ByClass, request: &Request, digest: &str) -> Result<()> {
    let scores = &answers.all;
    let batch = shape[0];
    let rows = |rows: &[u32]| -> Vec<u8> { rows.iter().flat_map(|&row| i64::from(row).to_le_bytes()).collect() };
    let doubles = |values: &[f64]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
    let bounds = |all: &[Certificate]| {
        doubles(&all.iter().flat_map(|c| [c.total_variation, c.log_p, c.score]).collect::<Vec<_>>())
    };
    let (one, three, nearest, draws) = ([batch], [batch, 3], [batch, request.nearest], [batch, request.draws]);
    let mut parts: Vec<(&str, FileDType, &[usize], Vec<u8>)> = vec![
        ("score", FileDType::F64, shape, doubles(&scores.score)),
        ("velocity", FileDType::F64, shape, doubles(&scores.velocity)),
        ("denoised", FileDType::F64, shape, doubles(&scores.denoised)),
        ("log_p", FileDType::F64, &one, doubles(&scores.log_p)),
        ("nearest", FileDType::I64, &nearest, rows(&scores.nearest)),
        ("nearest_distance", FileDType::F64, &nearest, doubles(&scores.nearest_distance)),
        ("draws", FileDType::I64, &draws, rows(&scores.draws)),
        ("r_star", FileDType::F64, &one, doubles(&scores.r_star)),
        ("n_effective", FileDType::F64, &one, doubles(&scores.n_effective)),
        ("certificate", FileDType::F64, &three, bounds(&scores.certificate)),
    ];
    let classes: Vec<u32> = answers.classes.iter().map(|(class, _)| *class).collect();
    let of_classes = [&[classes.len()][..], shape].concat();
    let each = |of: &dyn Fn(&Scores) -> Vec<u8>| answers.classes.iter().flat_map(|(_, scores)| of(scores)).collect();
    let (pairs, triples) = ([classes.len(), batch], [classes.len(), batch, 3]);
    if !classes.is_empty() {
        parts.extend([
            ("class", FileDType::I64, &of_classes[..1], rows(&classes)),
            ("class_score", FileDType::F64, &of_classes, each(&|of| doubles(&of.score))),
            ("class_log_p", FileDType::F64, &pairs, each(&|of| doubles(&of.log_p))),
            ("class_n_effective", FileDType::F64, &pairs, each(&|of| doubles(&of.n_effective))),
            ("class_certificate", FileDType::F64, &triples, each(&|of| bounds(&of.certificate))),
        ]);
    }
    let specs: Vec<Spec<'_>> =
        parts.iter().map(|(name, dtype, shape, _)| Spec { name, dtype: *dtype, shape }).collect();
    let seed = request.seed.to_string();
    let metadata = [("data", digest), ("seed", seed.as_str()), ("certificate", "total variation, log p, |score|")];
    let writer = Writer::new(AtomicFile::create(path)?, &metadata, &specs);
    let written = writer.and_then(|mut writer| {
        parts.iter().try_for_each(|part| writer.put(&part.3))?;
        Ok(writer.finish())
    });
    written.map_err(|error| unwritten(path, error))?.commit()
}
