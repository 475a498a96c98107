use crate::base::Result;
use crate::data::Store;
use crate::device::Device;
use crate::ops::noise::{Batch, Noise, Noised};
use crate::score::{EmpiricalScore, Queries, Request, Scores};
use serde::{Deserialize, Serialize};

/// `objective.target`: what the network is compared with at z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The velocity towards the image behind z.
    Data,
    /// The velocity towards an image drawn from the posterior of D_score.
    PosteriorSample,
    /// The velocity of the empirical score of D_score.
    Exact,
}

/// `objective.softmax`: the rows among which the posterior chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Softmax {
    /// Those of the class that the network sees; all where it sees none.
    Class,
    All,
}

/// The targets that D_score gives for points z that other images are behind: equations 7 and 6 of *Selective
/// Underfitting*, as velocities.
///
/// ```text
/// y ~ softmax_i(-|z - alpha x_i|^2 / 2 sigma^2)        u = alpha' y + sigma' (z - alpha y) / sigma        (7)
///                                                      u = v*(z, t), its mean                             (6)
/// ```
/// The two have the same mean, so the same network minimises both losses. Where D_score does not hold the image behind
/// z, targets grow as 1 / sigma.
pub struct Ideal<'a> {
    score: EmpiricalScore<'a>,
    target: Target,
    softmax: Softmax,
    noise: Noise,
}

impl<'a> Ideal<'a> {
    /// Targets from the rows of `store`, D_score.
    ///
    /// # Errors
    /// As [`EmpiricalScore::new`].
    pub fn new(device: &Device, store: &'a Store, target: Target, softmax: Softmax, noise: Noise) -> Result<Ideal<'a>> {
        Ok(Ideal { score: EmpiricalScore::new(device, store, noise.path)?, target, softmax, noise })
    }

    /// Replaces the targets of `noised`, which `batch` became.
    ///
    /// # Panics
    /// If a point is not finite, or its class has no row in D_score.
    pub fn retarget(&self, batch: &Batch, noised: &mut Noised) {
        let mut place = [0u32; 2];
        batch.place.read(&mut place);
        let [step, first] = place;
        let width = self.score.store().width();
        let [z, t] = [&noised.z, &noised.t].map(|x| x.to_vec::<f32>().into_iter().map(f64::from).collect::<Vec<_>>());
        let mut target = vec![0.0; z.len()];
        if self.softmax == Softmax::Class && self.score.store().classes() > 0 {
            let labels = noised.y.to_vec::<u32>();
            let parts = z.chunks(width).zip(t.chunks(1)).zip(labels).zip(target.chunks_mut(width));
            for ((((z, t), label), target), sample) in parts.zip(first..) {
                let class = (label != self.noise.null_label).then_some(label);
                self.fill(z, t, class, step, sample, target);
            }
        } else {
            self.fill(&z, &t, None, step, first, &mut target);
        }
        noised.target.write(&target);
    }

    fn fill(&self, z: &[f64], t: &[f64], class: Option<u32>, step: u32, first: u32, target: &mut [f32]) {
        let draws = usize::from(self.target == Target::PosteriorSample);
        let request = Request { class, draws, seed: self.noise.seed, step, first, ..Request::default() };
        let answer = self.score.answer(Queries { z, t }, &request);
        let Scores { velocity, draws, .. } = answer.unwrap_or_else(|error| error.throw());
        if self.target == Target::Exact {
            target.iter_mut().zip(velocity).for_each(|(target, v)| *target = v as f32);
            return;
        }
        let (width, path) = (self.score.store().width(), self.noise.path);
        let mut y = vec![0.0; target.len()];
        self.score.store().read(&draws, &mut y).expect("every row of D_score was read before");
        for (((z, y), target), &t) in z.chunks(width).zip(y.chunks(width)).zip(target.chunks_mut(width)).zip(t) {
            let (alpha, sigma) = (path.alpha(t), path.sigma(t));
            let (alpha_rate, sigma_rate) = (path.alpha_rate(t), path.sigma_rate(t));
            for ((target, z), &y) in target.iter_mut().zip(z).zip(y) {
                let y = f64::from(y);
                *target = (alpha_rate * y + sigma_rate * (z - alpha * y) / sigma) as f32;
            }
        }
    }
}
