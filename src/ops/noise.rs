//! The random part of a training step, and the buffers that it fills.

pub use crate::base::Times;
use crate::base::rng::Draw;
use crate::base::{Cost, DType, PatchGrid, Path, Prediction};
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
    /// (T, 5), of every step of a path that has them: the time that the network is told, alpha and sigma, the weights of data and
    /// noise in the target. For kernels, which cannot compute them; see [`Batch::along`].
    schedule: Option<Tensor>,
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
            schedule: None,
        }
    }

    /// Takes along what a card must know of the path of `noise`.
    pub fn along(self, device: &Device, noise: &Noise) -> Batch {
        let Noise { path, prediction, .. } = *noise;
        let schedule = path.steps().map(|steps| {
            let row = |i: usize| {
                let t = i as f64 / steps as f64;
                let [x, eps] = prediction.of_data_and_noise(path, t);
                [path.told(t), path.alpha(t), path.sigma(t), x, eps].map(|value| value as f32)
            };
            let rows: Vec<f32> = (1..=steps).flat_map(row).collect();
            Tensor::from_slice(device, "batch", [steps, 5], &rows)
        });
        Batch { schedule, ..self }
    }

    /// Takes the images and labels of step number `step`, from sample `first` of the global batch on.
    pub fn fill(&mut self, images: &[f32], labels: &[u32], step: u32, first: u32) {
        self.x.write(images);
        self.y.write(labels);
        self.place.write(&[step, first]);
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

/// Fills `noised` from `batch`.
pub fn noise(device: &Device, noise: Noise, batch: &Batch, noised: &mut Noised) {
    let Noised { t, y, z, target } = noised;
    match device {
        Device::Cpu(cpu) => {
            let &[step, first] = batch.place.u32() else { panic!("noise: the place is {:?}", batch.place) };
            let draw = Draw { seed: noise.seed, step, first };
            let x = batch.x.f32();
            let (z, target) = (z.f32_mut(), target.f32_mut());
            let process = (noise.path, noise.prediction);
            cpu::noise::noise(cpu, draw, process, noise.times, x, t.f32_mut(), z, target);
            let labels = y.slice_mut::<u32>();
            labels.copy_from_slice(batch.y.u32());
            cpu::noise::drop_labels(draw, noise.label_dropout, noise.null_label, labels);
        }
        Device::Cuda(card) => {
            let Noise { path, prediction, times, label_dropout, null_label, seed } = noise;
            let (draws, schedule) = ((seed, &batch.place), batch.schedule.as_ref());
            assert_eq!(
                schedule.map(|rows| rows.shape().rows()),
                path.steps(),
                "noise: the batch is along another path"
            );
            cuda::noise::noise(card, draws, prediction, schedule, times, &batch.x, t, z, target);
            cuda::noise::drop_labels(card, draws, label_dropout, null_label, &batch.y, y);
        }
    }
}

/// `elements` of data read; z and target written. Philox is ten rounds of eight operations for four normals, and a normal
/// half a logarithm, a root, a sine and a cosine: about 20 and 25 operations an element, and six for the path.
pub fn cost(elements: usize) -> Cost {
    Cost::new(3 * elements, 51 * elements)
}
