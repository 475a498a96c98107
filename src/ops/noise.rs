//! The random part of a training step, and the buffers that it fills.

use crate::base::rng::Draw;
use crate::base::{Cost, DType, PatchGrid, Path, Prediction, Times, Weighting};
use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::tensor::Tensor;

/// How a step is randomised.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    pub path: Path,
    /// What the network is compared with.
    pub prediction: Prediction,
    pub times: Times,
    pub weighting: Weighting,
    /// The probability that a sample loses its label.
    pub label_dropout: f32,
    /// The label that stands for none.
    pub null_label: u32,
    pub seed: u64,
}

/// The data of a step, in fixed buffers.
pub struct Batch {
    /// (B, C, H, W)
    pub x: Tensor,
    /// (B) u32
    pub y: Tensor,
    /// (2) u32, which draws it gets: the number of the step, and the place of its first sample in the global batch
    pub place: Tensor,
    /// (1) u32, below which a word leaves its element out of the loss
    pub threshold: Tensor,
    /// (B, 5), of each sample's time: what the network is told of it, alpha and sigma, the weights of data and noise in the target
    along: Tensor,
    /// (B), the factor of the squared errors of its time
    pub importance: Tensor,
    /// What the last two are written from.
    drawn: [Vec<f32>; 2],
}

/// What the network sees and what it is compared with, in fixed buffers.
pub struct Noised {
    /// (B), the times that the network is told
    pub t: Tensor,
    /// (B) u32, with dropped labels replaced
    pub y: Tensor,
    /// (B, C, H, W)
    pub z: Tensor,
    /// (B, C, H, W)
    pub target: Tensor,
}

impl Batch {
    pub fn new(device: &Device, batch: usize, grid: PatchGrid) -> Batch {
        let image = [batch, grid.channels, grid.height, grid.width];
        Batch {
            x: Tensor::new(device, "batch", image, DType::F32),
            y: Tensor::new(device, "batch", [batch], DType::U32),
            place: Tensor::new(device, "batch", [2], DType::U32),
            threshold: Tensor::from_slice(device, "batch", [1], &[0u32]),
            along: Tensor::new(device, "batch", [batch, 5], DType::F32),
            importance: Tensor::from_slice(device, "batch", [batch], &vec![1.0f32; batch]),
            drawn: [vec![0.0; 5 * batch], vec![0.0; batch]],
        }
    }

    /// Takes the images and labels of step number `step`, from sample `first` of the global batch on, and draws their times.
    pub fn fill(&mut self, noise: &Noise, images: &[f32], labels: &[u32], step: u32, first: u32) {
        self.x.write(images);
        self.y.write(labels);
        self.draw(noise, step, first);
    }

    /// As [`Batch::fill`], of what is there: where on the path each sample is. The formulas of paths are here alone, in f64; a
    /// kernel gets their values.
    pub fn draw(&mut self, noise: &Noise, step: u32, first: u32) {
        let Noise { path, prediction, weighting, .. } = *noise;
        self.place.write(&[step, first]);
        let [along, importance] = &mut self.drawn;
        for (sample, (along, importance)) in along.chunks_exact_mut(5).zip(importance.iter_mut()).enumerate() {
            let t = prediction.time(path, noise.times.draw(Draw { seed: noise.seed, step, first }, sample));
            let [x, eps] = prediction.of_data_and_noise(path, t);
            let row = [path.told(t), path.alpha(t), path.sigma(t), x, eps];
            along.copy_from_slice(&row.map(|value| value as f32));
            *importance = weighting.at(path, prediction, t) as f32;
        }
        self.along.write(along);
        self.importance.write(importance);
    }
}

impl Noised {
    /// Buffers for `batch` images.
    pub fn new(device: &Device, batch: usize, grid: PatchGrid) -> Noised {
        let image = [batch, grid.channels, grid.height, grid.width];
        let new = |shape: &[usize], dtype| Tensor::new(device, "batch", crate::base::Shape::new(shape), dtype);
        Noised {
            t: new(&[batch], DType::F32),
            y: new(&[batch], DType::U32),
            z: new(&image, DType::F32),
            target: new(&image, DType::F32),
        }
    }
}

/// Fills `noised` from `batch`, at the times that it has drawn.
pub fn noise(device: &Device, noise: Noise, batch: &Batch, noised: &mut Noised) {
    let Noised { t, y, z, target } = noised;
    match device {
        Device::Cpu(cpu) => {
            let &[step, first] = batch.place.u32() else { panic!("noise: the place is {:?}", batch.place) };
            let draw = Draw { seed: noise.seed, step, first };
            let (x, along) = (batch.x.f32(), batch.along.f32());
            cpu::noise::noise(cpu, draw, along, x, t.f32_mut(), z.f32_mut(), target.f32_mut());
            let labels = y.slice_mut::<u32>();
            labels.copy_from_slice(batch.y.u32());
            cpu::noise::drop_labels(draw, noise.label_dropout, noise.null_label, labels);
        }
        Device::Cuda(card) => {
            let Noise { label_dropout, null_label, seed, .. } = noise;
            cuda::noise::noise(card, (seed, &batch.place), &batch.along, &batch.x, t, z, target);
            cuda::noise::drop_labels(card, (seed, &batch.place), label_dropout, null_label, &batch.y, y);
        }
    }
}

/// `elements` of data read; z and target written. Philox is ten rounds of eight operations for four normals, and a normal
/// half a logarithm, a root, a sine and a cosine: about 20 and 25 operations an element, and six for z and the target.
pub fn cost(elements: usize) -> Cost {
    Cost::new(3 * elements, 51 * elements)
}
