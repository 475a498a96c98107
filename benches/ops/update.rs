use crate::{Bench, F32, Size, normals};
use engine::nn::Network;
use engine::ops::update::{AdamW, Moments, Report, Update, Weights, cost, update};
use engine::tensor::{Slab, Tensor};
use std::slice::from_ref;

pub fn bench(bench: &mut Bench, size: Size) {
    let parameters = Network::new(size.model()).1.elements();
    let shape = [parameters].into();
    let adamw = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
    let settings = Update { adamw, clip: Some(1.0) };
    let costs = [cost(parameters, 1)];
    bench.run("update", size, F32, &[("", &costs)], |device| {
        let device = device.clone();
        let [mut weights, mut gradients] =
            [(); 2].map(|()| Slab::zeros(&device, "bench", from_ref(&shape)).expect("memory"));
        weights.part_mut(0).f32_mut().copy_from_slice(&normals(0, parameters));
        gradients.part_mut(0).f32_mut().copy_from_slice(&normals(1, parameters));
        let mut moments = Moments::new(&device, &weights, from_ref(&shape), &[0.999]).expect("memory");
        let (rate, mut report) = (Tensor::from_slice(&device, "bench", [1], &[1e-4f32]), Report::memory(&device));
        let loss = Tensor::from_slice(&device, "bench", [1], &[1.0f32]);
        move |clock| {
            clock.lap(|| {
                let weights = Weights { masters: &mut weights, working: None };
                update(&device, settings, &rate, &loss, weights, &gradients, &mut moments, &mut report);
            });
            clock.output(weights.part(0).f32());
            clock.output(moments.averages[0].weights.part(0).f32());
        }
    });
}
