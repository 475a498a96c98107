use super::Certificate;
use crate::base::{Error, Path, Result};
use crate::data::Store;
use std::ops::Range;

/// Points and their times.
#[derive(Clone, Copy, Debug)]
pub struct Queries<'a> {
    /// (B, d).
    pub z: &'a [f64],
    /// (B), from above 0 to 1.
    pub t: &'a [f64],
}

/// What is asked beside score, velocity, posterior mean, log p and certificate.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The rows of one class instead of all.
    pub class: Option<u32>,
    /// How many nearest rows.
    pub nearest: usize,
    /// How many draws from the posterior.
    pub draws: usize,
    /// Whether the shell closest to z is looked for.
    pub r_star: bool,
    /// The draws of query i are a function of the seed, the step and `first + i`.
    pub seed: u64,
    pub step: u32,
    pub first: u32,
}

/// The answers to a batch of B queries, one row each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// `s*`, (B, d).
    pub score: Vec<f64>,
    /// `alpha' m + sigma' (z - alpha m) / sigma`, what a network of the path would ideally predict, (B, d).
    pub velocity: Vec<f64>,
    /// The posterior mean m, (B, d).
    pub denoised: Vec<f64>,
    /// Natural logarithm of the normalised mixture's density, (B).
    pub log_p: Vec<f64>,
    /// `1 / sum of w_i^2`, (B).
    pub n_effective: Vec<f64>,
    /// The rows with the smallest `|z - alpha x_i|`, nearest first, of equal ones the first row first, (B, nearest).
    pub nearest: Vec<u32>,
    /// Their distances, (B, nearest).
    pub nearest_distance: Vec<f64>,
    /// Rows drawn from the posterior, (B, draws).
    pub draws: Vec<u32>,
    /// `|z - alpha x_i| / (sigma sqrt d)` of the row for which it is closest to 1, (B), or none if not asked for.
    pub r_star: Vec<f64>,
    pub certificate: Vec<Certificate>,
}

impl Scores {
    /// Adds the answers to further queries.
    pub fn append(&mut self, mut more: Scores) {
        let Scores { score, velocity, denoised, log_p, n_effective, nearest, nearest_distance, .. } = self;
        score.append(&mut more.score);
        velocity.append(&mut more.velocity);
        denoised.append(&mut more.denoised);
        log_p.append(&mut more.log_p);
        n_effective.append(&mut more.n_effective);
        nearest.append(&mut more.nearest);
        nearest_distance.append(&mut more.nearest_distance);
        self.draws.append(&mut more.draws);
        self.r_star.append(&mut more.r_star);
        self.certificate.append(&mut more.certificate);
    }
}

/// Smallest sigma: below, squared distances over sigma^2 leave the range of f64.
const LEAST_SIGMA: f64 = 1e-100;
/// Largest value of a query, for the same reason.
const MOST: f64 = 1e50;

impl Request {
    /// The rows that are asked for; a sentence where the queries cannot be answered.
    pub(super) fn check(&self, store: &Store, path: Path, queries: Queries<'_>) -> Result<Range<usize>> {
        let (width, batch) = (store.width(), queries.t.len());
        if queries.z.len() != batch * width {
            let given = queries.z.len();
            return Err(Error::Usage(format!(
                "queries: {given} values are no {batch} points of {width}; give points of the data's shape, a time for each"
            )));
        }
        for (i, &t) in queries.t.iter().enumerate() {
            if !(0.0..=1.0).contains(&t) {
                return Err(Error::Usage(format!("t[{i}] = {t}: is no time of the path; give one above 0, up to 1")));
            }
            if path.sigma(t) < LEAST_SIGMA {
                let sigma = path.sigma(t);
                return Err(Error::Usage(format!(
                    "t[{i}] = {t}: sigma is {sigma}, where the mixture is no density and has no score; give a larger t"
                )));
            }
        }
        if let Some(at) = queries.z.iter().position(|z| z.is_nan() || z.abs() > MOST) {
            let (query, z) = (at / width.max(1), queries.z[at]);
            return Err(Error::Usage(format!("query {query}: value {} is {z}; give finite points", at % width)));
        }
        let range = match self.class {
            None => 0..store.rows(),
            Some(class) if store.classes() == 0 => {
                return Err(Error::Usage(format!("class {class}: the data have no classes; leave it out")));
            }
            Some(class) if class as usize >= store.classes() => {
                let last = store.classes() - 1;
                return Err(Error::Usage(format!("class {class}: the data have the classes 0 to {last}; give one")));
            }
            Some(class) => store.class(class),
        };
        if range.is_empty() {
            let class = self.class.unwrap_or_default();
            return Err(Error::Usage(format!("class {class}: has no rows; give another")));
        }
        if self.nearest > range.len() {
            let (asked, there) = (self.nearest, range.len());
            return Err(Error::Usage(format!("nearest {asked}: there are {there} rows; ask for fewer")));
        }
        Ok(range.start as usize..range.end as usize)
    }
}
