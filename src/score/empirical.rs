use super::certificate::{Errors, HALF, logit_error};
use super::posterior::{Picks, Posterior};
use super::{Certificate, Queries, Request, Scores};
use crate::base::rng::{Purpose, Stream};
use crate::base::{Error, Path, Result};
use crate::data::Store;
use crate::data::tensors::FileDType;
use crate::device::Device;
use crate::ops::score::{Query, Rows, Scratch, Select};
use std::f64::consts::PI;
use std::ops::Range;

/// Rows that are left out weigh less than exp(-25) = 1.4e-11 of all, together.
const CUT: f64 = 25.0;
/// Queries answered at once.
const BATCH: usize = 64;
/// Logits held at once.
const HELD: usize = 1 << 25;
/// Bounds of the error of logits up to which all rows are taken at once, in the cheaper numbers, so that log p is off by
/// less than a millionth. Those of sums of f32 are independent of each other; those of pixels, whose values were rounded
/// to f32, may be alike for all rows.
const DENSE_ERROR: f64 = 1e-2;
const DENSE_ERROR_OF_PIXELS: f64 = 1.5e-4;
/// Fewer rows are not worth it.
const DENSE_ROWS: usize = 1024;
/// Nats between the row behind a query and the others, below which most rows matter.
const DENSE_GAP: f64 = 60.0;
/// Pairs of rows whose distances make the typical one.
const PAIRS: usize = 32;

/// The empirical score of a data set, and everything that follows from the same softmax over its rows.
///
/// An answer depends on its query and the data alone: the same bits for any batch and any number of threads, on one
/// device and instruction set.
pub struct EmpiricalScore<'a> {
    store: &'a Store,
    rows: Rows<'a>,
    path: Path,
    /// The mean squared distance between two rows, from a few pairs.
    typical: f64,
}

/// What a query has found, before it becomes an answer.
struct Found {
    posterior: Posterior,
    errors: Errors,
    /// The posterior's weighted sum of rows, not divided by its total.
    sums: Vec<f64>,
    /// What the logits left out of z.
    rest: Option<Vec<f64>>,
    nearest: Vec<u32>,
    shell: Vec<u32>,
}

impl<'a> EmpiricalScore<'a> {
    /// Reads every row once.
    ///
    /// # Errors
    /// `Usage` for a path of steps, which has no velocity; `Data` if a row is not finite or the file cannot be mapped; `Memory`
    /// if what is kept of the rows does not fit.
    pub fn new(device: &Device, store: &'a Store, path: Path) -> Result<EmpiricalScore<'a>> {
        if path.steps().is_some() {
            let what = "has steps, and the score answers with a velocity; give a continuous path";
            return Err(Error::Usage(format!("path {path}: {what}")));
        }
        let rows = Rows::new(device, store)?;
        let count = store.rows() as usize;
        let mut typical = 0.0;
        let mut x = vec![0.0; store.width()];
        for pair in 0..PAIRS {
            store.read(&[(pair * count / PAIRS) as u32], &mut x)?;
            let z: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let other = ((2 * pair + PAIRS + 1) * count / (2 * PAIRS) % count) as u32;
            let query = Query { z: &z, alpha: 1.0, sigma: 1.0 };
            typical += rows.squared_distances(&[query], &[vec![other]])[0][0] / PAIRS as f64;
        }
        Ok(EmpiricalScore { store, rows, path, typical })
    }

    pub fn path(&self) -> Path {
        self.path
    }

    pub fn store(&self) -> &Store {
        self.store
    }

    pub(super) fn rows(&self) -> &Rows<'a> {
        &self.rows
    }

    /// The values of some rows.
    pub(super) fn values(&self, rows: Range<usize>) -> Result<Vec<f64>> {
        let rows: Vec<u32> = rows.map(|row| row as u32).collect();
        let mut x = vec![0.0; rows.len() * self.store.width()];
        self.store.read(&rows, &mut x)?;
        Ok(x.into_iter().map(f64::from).collect())
    }

    /// The `count` nearest of the candidates of each query: distances and rows, of equal ones the first row first.
    pub(super) fn ranked(&self, queries: &[Query<'_>], candidates: &[Vec<u32>], count: usize) -> Vec<Vec<(f64, u32)>> {
        let squared = self.rows.squared_distances(queries, candidates);
        let ranked = candidates.iter().zip(squared).map(|(rows, squared)| {
            let mut pairs: Vec<(f64, u32)> = squared.into_iter().map(f64::sqrt).zip(rows.iter().copied()).collect();
            pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            pairs.truncate(count);
            pairs
        });
        ranked.collect()
    }

    /// Answers a batch of queries.
    ///
    /// # Errors
    /// `Usage`, in a sentence, for points of another width or not finite, times outside (0, 1], and for classes and
    /// numbers of rows that there are not.
    pub fn answer(&self, queries: Queries<'_>, request: &Request) -> Result<Scores> {
        let range = request.check(self.store, self.path, queries)?;
        let width = self.store.width();
        let all: Vec<Query<'_>> = queries
            .z
            .chunks_exact(width)
            .zip(queries.t)
            .map(|(z, &t)| Query { z, alpha: self.path.alpha(t), sigma: self.path.sigma(t) })
            .collect();
        let batch = (HELD / range.len()).clamp(1, BATCH);
        let mut scores = Scores::default();
        for (i, (queries, times)) in all.chunks(batch).zip(queries.t.chunks(batch)).enumerate() {
            let found = self.find(range.clone(), queries, request);
            let first = request.first + (i * batch) as u32;
            self.finish(&found, range.len(), queries, times, request, first, &mut scores);
        }
        Ok(scores)
    }

    /// Whether most rows are expected to matter to a query, and may be taken at once.
    fn dense(&self, query: Query<'_>, count: usize) -> bool {
        let gap = 0.5 * query.kappa() * query.alpha * self.typical;
        gap < DENSE_GAP && self.may_be_dense(query, count)
    }

    fn may_be_dense(&self, query: Query<'_>, count: usize) -> bool {
        // Else the error of f32 sums is expected to show.
        let noisy = query.alpha * self.rows.radius() <= query.sigma * (self.rows.width() as f64).sqrt();
        let pixels = self.store.info().dtype == FileDType::U8;
        let most = if pixels { DENSE_ERROR_OF_PIXELS } else { DENSE_ERROR };
        noisy && count >= DENSE_ROWS && self.rows.logits_error(query) < most
    }

    fn find(&self, range: Range<usize>, queries: &[Query<'_>], request: &Request) -> Vec<Found> {
        let count = range.len();
        let mut found: Vec<Option<Found>> = queries.iter().map(|_| None).collect();
        let (mut dense, sparse): (Vec<usize>, Vec<usize>) =
            (0..queries.len()).partition(|&q| self.dense(queries[q], count));
        if !sparse.is_empty() {
            let what = Select {
                cut: (count as f64).ln() + CUT,
                nearest: request.nearest,
                shell: request.r_star.then_some(self.rows.width() as f64),
            };
            let asked: Vec<Query<'_>> = sparse.iter().map(|&q| queries[q]).collect();
            let selected = self.rows.select(range.clone(), &asked, what);
            let (mut kept, mut picks, mut others) = (vec![], vec![], vec![]);
            for (q, selected) in sparse.into_iter().zip(selected) {
                if selected.rows.len() > count / 16 && self.may_be_dense(queries[q], count) {
                    dense.push(q);
                } else {
                    kept.push(q);
                    picks.push(selected.rows);
                    others.push((selected.nearest, selected.shell));
                }
            }
            let asked: Vec<Query<'_>> = kept.iter().map(|&q| queries[q]).collect();
            let each = kept.into_iter().zip(self.exactly(count, &asked, picks)).zip(others);
            for ((q, answer), (nearest, shell)) in each {
                found[q] = Some(Found { nearest, shell, ..answer });
            }
        }
        let asked: Vec<Query<'_>> = dense.iter().map(|&q| queries[q]).collect();
        if !dense.is_empty() {
            for (q, answer) in dense.into_iter().zip(self.at_once(range, &asked, request)) {
                let query = queries[q];
                found[q] = Some(if self.covered(query, &answer) { answer } else { self.refined(query, answer) });
            }
        }
        found.into_iter().map(|found| found.expect("every query is sparse or dense")).collect()
    }

    /// Whether the error of the cheaper sums of the mean, about an eighth of its bound, is a millionth of the noise at most.
    fn covered(&self, query: Query<'_>, found: &Found) -> bool {
        let total = found.posterior.weights.total;
        let noise = found.sums.iter().zip(query.z).map(|(sum, z)| (z - query.alpha * sum / total).powi(2));
        self.rows.means_error() / 8.0 * query.alpha * self.rows.radius() <= 1e-6 * noise.sum::<f64>().sqrt()
    }

    /// The same from the rows that have weight, in f64.
    fn refined(&self, query: Query<'_>, found: Found) -> Found {
        let Posterior { picks, weights } = &found.posterior;
        let count = weights.weights.len();
        let least = (-(count as f64).ln() - CUT - 1.0).exp();
        let kept = (0..count).filter(|&i| weights.weights[i] >= least).map(|i| picks.row(i)).collect();
        let exact = self.exactly(count, &[query], vec![kept]).remove(0);
        Found { nearest: found.nearest, shell: found.shell, ..exact }
    }

    /// From the rows that were picked for each query, in f64.
    fn exactly(&self, count: usize, queries: &[Query<'_>], picks: Vec<Vec<u32>>) -> Vec<Found> {
        let (width, radius) = (self.rows.width(), self.rows.radius());
        let squared = self.rows.squared_distances(queries, &picks);
        let logits = queries.iter().zip(&squared).map(|(query, squared)| {
            let mut logits = Scratch::new(squared.len());
            logits.iter_mut().zip(squared).for_each(|(logit, &squared)| *logit = query.logit(squared));
            logits
        });
        let weights = self.rows.weigh(logits.collect());
        let slices: Vec<&[f64]> = weights.iter().map(|weights| &*weights.weights).collect();
        let sums = self.rows.means(&picks, &slices);
        let errors = queries.iter().zip(&squared).map(|(&query, squared)| {
            let largest = squared.iter().copied().fold(0.0, f64::max);
            let missing = (count - squared.len()) as f64 / count as f64 * (-CUT).exp();
            let logit = logit_error(query, largest, width, radius);
            Errors { missing, logit, count: squared.len(), mean: (squared.len() + 2) as f64 * HALF }
        });
        let errors: Vec<Errors> = errors.collect();
        let parts = picks.into_iter().zip(weights).zip(errors).zip(sums.chunks_exact(width));
        let found = parts.map(|(((picks, weights), errors), sums)| Found {
            posterior: Posterior { picks: Picks::Some(picks), weights },
            errors,
            sums: sums.to_vec(),
            rest: None,
            nearest: vec![],
            shell: vec![],
        });
        found.collect()
    }

    /// From all rows at once.
    fn at_once(&self, range: Range<usize>, queries: &[Query<'_>], request: &Request) -> Vec<Found> {
        let logits = self.rows.logits(range.clone(), queries);
        let candidates: Vec<(Vec<u32>, Vec<u32>)> = queries
            .iter()
            .zip(&logits)
            .map(|(&query, logits)| {
                let error = self.rows.logits_error(query);
                if query.alpha == 0.0 {
                    // All distances are |z|, and of equal ones the first row comes first.
                    let first = range.start as u32;
                    return ((first..first + request.nearest as u32).collect(), vec![first]);
                }
                let near = nearest_candidates(logits, range.start, request.nearest, error);
                let shell =
                    if request.r_star { self.shell_candidates(query, logits, range.start, error) } else { vec![] };
                (near, shell)
            })
            .collect();
        let mut weights = self.rows.weigh(logits);
        let rests: Vec<Vec<f64>> = queries.iter().map(|&query| self.rows.rest(query)).collect();
        self.rows.refine(range.clone(), queries, &rests, &mut weights);
        let slices: Vec<&[f64]> = weights.iter().map(|weights| &*weights.weights).collect();
        let sums = self.rows.weighted_sums(range.clone(), &slices);
        let parts = queries.iter().zip(weights).zip(rests).zip(candidates).zip(sums.chunks_exact(self.rows.width()));
        let found = parts.map(|((((&query, weights), rest), (nearest, shell)), sums)| {
            let logit = self.rows.logits_error(query);
            let errors = Errors { missing: 0.0, logit, count: range.len(), mean: self.rows.means_error() };
            let posterior = Posterior { picks: Picks::All(range.clone()), weights };
            Found { posterior, errors, sums: sums.to_vec(), rest: Some(rest), nearest, shell }
        });
        found.collect()
    }

    fn shell_candidates(&self, query: Query<'_>, logits: &[f64], first: usize, error: f64) -> Vec<u32> {
        let scale = query.sigma * (self.rows.width() as f64).sqrt();
        let ratio = |logit: f64| (-2.0 * logit).max(0.0).sqrt() * query.sigma / scale - 1.0;
        let bounds = |logit: f64| {
            let (low, high) = (ratio(logit + error), ratio(logit - error));
            let near = if low < 0.0 && high > 0.0 { 0.0 } else { low.abs().min(high.abs()) };
            [near - 1e-12, low.abs().max(high.abs()) + 1e-12]
        };
        let least = logits.iter().map(|&logit| bounds(logit)[1]).fold(f64::INFINITY, f64::min);
        let kept = (0..logits.len()).filter(|&i| bounds(logits[i])[0] <= least);
        kept.map(|i| (first + i) as u32).collect()
    }

    /// Turns what was found into answers.
    fn finish(
        &self,
        found: &[Found],
        count: usize,
        queries: &[Query<'_>],
        times: &[f64],
        request: &Request,
        first: u32,
        scores: &mut Scores,
    ) {
        let width = self.rows.width() as f64;
        for (i, (found, (&query, &t))) in found.iter().zip(queries.iter().zip(times)).enumerate() {
            let Query { z, alpha, sigma } = query;
            let weights = &found.posterior.weights;
            let rates = [self.path.alpha_rate(t), self.path.sigma_rate(t)];
            let start = scores.denoised.len();
            scores.denoised.extend(found.sums.iter().map(|sum| sum / weights.total));
            let mean = &scores.denoised[start..];
            let noise = z.iter().zip(mean).map(|(z, m)| (z - alpha * m) / sigma);
            scores.velocity.extend(mean.iter().zip(noise).map(|(m, noise)| rates[0] * m + rates[1] * noise));
            scores.score.extend(z.iter().zip(mean).map(|(z, m)| (alpha * m - z) / (sigma * sigma)));

            let rest: f64 = found.rest.iter().flatten().zip(mean).map(|(rest, m)| rest * m).sum();
            let terms = [
                weights.largest,
                weights.total.ln(),
                query.kappa() * rest,
                -(count as f64).ln(),
                -0.5 * width * (2.0 * PI * sigma * sigma).ln(),
            ];
            scores.log_p.push(terms.iter().sum());
            scores.n_effective.push(found.posterior.n_effective());
            let stream = Stream::new(request.seed, first + i as u32, request.step, Purpose::Posterior);
            scores.draws.extend(found.posterior.draws(stream, request.draws));
            let constants = terms.iter().map(|term| term.abs()).sum();
            scores.certificate.push(Certificate::new(&found.errors, query, constants, self.rows.radius()));
        }
        let nearest: Vec<Vec<u32>> = found.iter().map(|found| found.nearest.clone()).collect();
        for pairs in self.ranked(queries, &nearest, request.nearest) {
            scores.nearest.extend(pairs.iter().map(|pair| pair.1));
            scores.nearest_distance.extend(pairs.iter().map(|pair| pair.0));
        }
        if request.r_star {
            let shells: Vec<Vec<u32>> = found.iter().map(|found| found.shell.clone()).collect();
            for (query, squared) in queries.iter().zip(self.rows.squared_distances(queries, &shells)) {
                let ratios = squared.iter().map(|squared| squared.sqrt() / (query.sigma * width.sqrt()));
                let closest = ratios.min_by(|a, b| (a - 1.0).abs().total_cmp(&(b - 1.0).abs()));
                scores.r_star.push(closest.expect("some row is closest"));
            }
        }
    }
}

/// Every row that can be among the `count` nearest, if logits are off by `error`.
fn nearest_candidates(logits: &[f64], first: usize, count: usize, error: f64) -> Vec<u32> {
    if count == 0 {
        return vec![];
    }
    let last = *logits.to_vec().select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1;
    (0..logits.len()).filter(|&i| logits[i] >= last - 2.0 * error).map(|i| (first + i) as u32).collect()
}
