use super::certificate::HALF;
use super::posterior::{chosen, fraction};
use super::{Certificate, EmpiricalScore, Queries, Request, Scores};
use crate::base::rng::{Purpose, Stream};
use crate::base::{Error, Result};

/// The answers of every class, and those of all rows that follow from them.
///
/// ```text
/// p = sum_c (n_c / M) p_c        pi_c = (n_c / M) p_c / p        m = sum_c pi_c m_c        s* = sum_c pi_c s*_c
/// ```
#[derive(Default)]
pub struct ByClass {
    /// The classes that have rows, ascending, and their answers; without nearest rows and draws.
    pub classes: Vec<(u32, Scores)>,
    /// The answers of all rows.
    pub all: Scores,
}

impl ByClass {
    /// Adds the answers to further queries about the same classes.
    pub fn append(&mut self, more: ByClass) {
        self.all.append(more.all);
        if self.classes.is_empty() {
            self.classes = more.classes;
            return;
        }
        for ((_, scores), (_, more)) in self.classes.iter_mut().zip(more.classes) {
            scores.append(more);
        }
    }
}

impl EmpiricalScore<'_> {
    /// Answers a batch of queries for every class and for all rows by one pass over them.
    ///
    /// Draw j of a query chooses its class by other words of the stream than its row, so the draws are not those of
    /// [`answer`](EmpiricalScore::answer), but as exact.
    ///
    /// # Errors
    /// As [`answer`](EmpiricalScore::answer); `Usage` if the data have no classes or the request names one.
    pub fn answer_by_class(&self, queries: Queries<'_>, request: &Request) -> Result<ByClass> {
        request.check(self.store(), self.path(), queries)?;
        if let Some(class) = request.class {
            return Err(Error::Usage(format!(
                "class {class}: answers by class are those of every class; leave it out"
            )));
        }
        if self.store().classes() == 0 {
            return Err(Error::Usage("answers by class: the data have no classes; ask for those of all rows".into()));
        }
        let mut classes = vec![];
        for class in 0..self.store().classes() as u32 {
            let rows = self.store().class(class).len();
            if rows > 0 {
                let nearest = request.nearest.min(rows);
                let asked = Request { class: Some(class), nearest, ..request.clone() };
                classes.push((class, self.answer(queries, &asked)?));
            }
        }
        let mut all = Scores::default();
        for i in 0..queries.t.len() {
            self.join(&classes, i, request, &mut all);
        }
        for (_, scores) in &mut classes {
            scores.nearest.clear();
            scores.nearest_distance.clear();
            scores.draws.clear();
        }
        Ok(ByClass { classes, all })
    }

    /// Adds the answer of all rows to query `i`.
    fn join(&self, classes: &[(u32, Scores)], i: usize, request: &Request, all: &mut Scores) {
        let (store, width) = (self.store(), self.store().width());
        let share = |class: u32| (store.class(class).len() as f64 / f64::from(store.rows())).ln();
        let logs: Vec<f64> = classes.iter().map(|(class, of)| share(*class) + of.log_p[i]).collect();
        let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logs.iter().map(|log| (log - largest).exp()).sum();
        let weights: Vec<f64> = logs.iter().map(|log| (log - largest).exp() / total).collect();
        let mean = |of: &dyn Fn(&Scores) -> &Vec<f64>| {
            let mut out = vec![0.0; width];
            for ((_, scores), weight) in classes.iter().zip(&weights) {
                let values = of(scores);
                out.iter_mut().zip(&values[i * width..(i + 1) * width]).for_each(|(out, x)| *out += weight * x);
            }
            out
        };
        let score = mean(&|of| &of.score);
        all.certificate.push(certificate(classes, i, &weights, &score));
        all.score.extend(score);
        all.velocity.extend(mean(&|of| &of.velocity));
        all.denoised.extend(mean(&|of| &of.denoised));
        all.log_p.push(largest + total.ln());
        all.n_effective
            .push(1.0 / classes.iter().zip(&weights).map(|((_, of), w)| w * w / of.n_effective[i]).sum::<f64>());
        if request.r_star {
            let closest = classes.iter().map(|(_, of)| of.r_star[i]);
            let closest = closest.min_by(|a, b| (a - 1.0).abs().total_cmp(&(b - 1.0).abs()));
            all.r_star.push(closest.expect("some class has rows"));
        }
        let mut nearest: Vec<(f64, u32)> = vec![];
        for (class, of) in classes {
            let count = request.nearest.min(store.class(*class).len());
            let own = i * count..(i + 1) * count;
            nearest.extend(of.nearest_distance[own.clone()].iter().copied().zip(of.nearest[own].iter().copied()));
        }
        nearest.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        nearest.truncate(request.nearest);
        all.nearest.extend(nearest.iter().map(|pair| pair.1));
        all.nearest_distance.extend(nearest.iter().map(|pair| pair.0));
        let stream = Stream::new(request.seed, request.first + i as u32, request.step, Purpose::Posterior);
        for draw in 0..request.draws {
            let [.., c, d] = stream.words(draw as u32);
            let class = chosen(&weights, fraction(c, d));
            all.draws.push(classes[class].1.draws[i * request.draws + draw]);
        }
    }
}

/// The errors of the classes' densities move every pi_c by a factor within `exp(+-2e)`.
fn certificate(classes: &[(u32, Scores)], i: usize, weights: &[f64], score: &[f64]) -> Certificate {
    let width = score.len();
    // Of logarithms and exponentials, and of as many terms.
    let rounding = (classes.len() + 16) as f64 * HALF;
    let of = |k: usize| classes[k].1.certificate[i];
    let worst = (0..classes.len()).map(|k| of(k).log_p + rounding * classes[k].1.log_p[i].abs()).fold(0.0, f64::max);
    let error = worst + rounding;
    let moved = (2.0 * error).exp_m1();
    let mut bound = Certificate { total_variation: 0.5 * moved, log_p: error, score: 0.0 };
    for (k, weight) in weights.iter().enumerate() {
        let own = &classes[k].1.score[i * width..(i + 1) * width];
        let away = own.iter().zip(score).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        let size = own.iter().map(|a| a * a).sum::<f64>().sqrt();
        bound.total_variation += weight * (1.0 + moved) * of(k).total_variation;
        bound.score += weight * ((1.0 + moved) * of(k).score + moved * away + rounding * size);
    }
    let slack = 1.0 + 1e-9;
    Certificate {
        total_variation: (slack * bound.total_variation).min(1.0),
        log_p: slack * bound.log_p,
        score: slack * bound.score,
    }
}
