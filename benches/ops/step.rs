//! The whole step beside the sum of its operations' floors: the gap is the work left.

use crate::{BOTH, Bench, NOISE, Size, normals};
use engine::base::{Cost, Mask};
use engine::nn::Network;
use engine::ops::update::AdamW;
use engine::ops::{masked_loss, noise, update};
use engine::tape::Keep;
use engine::train::{Settings, Step};

pub fn bench(bench: &mut Bench, size: Size) {
    let (batch, model) = (size.batch, size.model());
    let (grid, elements) = (model.grid, batch * model.grid.image());
    let settings = Settings {
        model,
        batch,
        mask: Mask::none(),
        noise: NOISE,
        adamw: AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 },
        clip: None,
        averages: vec![0.999],
        keep: Keep::Everything,
        seed: 1,
    };
    let mut costs: Vec<Cost> = model.costs(batch, grid.tokens()).into_flattened();
    let parameters = Network::new(model).1.elements();
    costs.extend([noise::cost(elements), masked_loss::cost(elements), update::cost(parameters, 1)]);
    bench.run("step", size, BOTH, &[("", &costs)], |device| {
        let mut step = Step::new(device, settings.clone()).expect("memory");
        // Not the initial values, of which many are zero and stop every gradient.
        for i in 0..step.params.list.trained() {
            let weights = step.params.weights.part_mut(i).f32_mut();
            let values = normals(i as u32, weights.len());
            weights.iter_mut().zip(values).for_each(|(w, x)| *w = 0.02 * x);
        }
        let (images, labels) = (normals(0, elements), vec![7; batch]);
        let mut count = 0;
        move |clock| {
            let report = clock.lap(|| step.run(count, 1e-4, &images, &labels)).expect("a step");
            count += 1;
            clock.output(&[report.loss, report.norm]);
        }
    });
}
