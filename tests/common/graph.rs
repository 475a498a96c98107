//! One run of a graph on a device.

use super::devices::{get, normals, put};
use super::input::{Input, Place};
use engine::base::{Accumulate, Shape};
use engine::device::Device;
use engine::tape::{Backward, Keep, Output, Tape, Var};
use engine::tensor::Slab;
use half::bf16;

/// What a graph gave on a device.
pub(super) struct Ran {
    pub outputs: Vec<Vec<f32>>,
    pub gradients: Vec<Vec<f32>>,
}

impl Ran {
    pub fn same_bits(&self, other: &Ran) -> bool {
        let bits = |values: &[Vec<f32>]| values.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
        bits(&self.outputs) == bits(&other.outputs) && bits(&self.gradients) == bits(&other.gradients)
    }
}

/// What a gradient holds before an operation adds to it.
pub(super) fn prefill(input: usize, len: usize) -> Vec<f32> {
    normals(200 + input as u32, len, 1.0).into_iter().map(|x| bf16::from_f32(x).to_f32()).collect()
}

/// Forward and backward of a graph, under the gradients `upstream` of its outputs, each parameter's written as first or as later
/// writer.
pub(super) fn run(
    device: &Device,
    inputs: &[Input],
    upstream: &[Vec<f32>],
    accumulate: Accumulate,
    graph: impl Fn(&mut Tape, &[Var]) -> Vec<Var>,
) -> Ran {
    let shapes: Vec<Shape> = inputs.iter().map(|input| Shape::new(&input.shape)).collect();
    let mut params = Slab::typed(device, "test", &shapes, device.activations()).unwrap();
    let trained = inputs.iter().take_while(|input| input.place != Place::Constant).count();
    let mut grads = Slab::zeros(device, "test", &shapes[..trained]).unwrap();
    for (i, input) in inputs.iter().enumerate() {
        put(params.part_mut(i), &input.values);
        if i >= trained {
            continue;
        }
        // As first writer an operation finds NaN here and must overwrite it.
        let before = if accumulate == Accumulate::Set { vec![f32::NAN; input.len()] } else { prefill(i, input.len()) };
        grads.part_mut(i).write(&before);
    }
    let mut tape = Tape::training(device, &params, &mut grads, accumulate, Keep::Everything);
    let vars: Vec<Var> = (0..inputs.len())
        .map(|i| {
            let param = Var::Param(i as u32);
            match inputs[i].place {
                Place::Param | Place::Constant => param,
                Place::Node | Place::SoleReader => leaf(&mut tape, param, accumulate, inputs[i].place),
            }
        })
        .collect();
    let outputs = graph(&mut tape, &vars);
    assert_eq!(outputs.len(), upstream.len(), "the graph has as many outputs as the oracle");
    let values = outputs.iter().map(|&out| get(tape.value(out))).collect();
    for (i, (&out, upstream)) in outputs.iter().zip(upstream).enumerate() {
        let mut grad = tape.gradient(*tape.value(out).shape());
        assert_eq!(grad.len(), upstream.len(), "output {i} has another length than the oracle's");
        put(&mut grad, upstream);
        tape.close(out, grad);
    }
    tape.backward();
    let gradients = (0..trained).map(|i| grads.part(i).to_vec()).collect();
    Ran { outputs: values, gradients }
}

/// A node with the value of a parameter, whose gradient goes to the parameter. In `Add` mode another reader has already
/// written to the node's gradient.
fn leaf(tape: &mut Tape, param: Var, accumulate: Accumulate, place: Place) -> Var {
    struct Leaf(Var);
    impl Backward for Leaf {
        fn backward(self: Box<Self>, outputs: Vec<Output>, tape: &mut Tape) {
            let from = Output::only_grad(outputs);
            let (mut to, _) = tape.open(self.0);
            to.write(&get(&from));
            tape.close(self.0, to);
        }
    }
    let value = tape.value(param).copied(tape.device(), "test");
    let [node] = tape.push([value], Leaf(param));
    if accumulate == Accumulate::Add && place == Place::Node {
        let Var::Param(i) = param else { unreachable!("a leaf is made of a parameter") };
        let mut grad = tape.gradient(*tape.value(param).shape());
        let before = prefill(i as usize, grad.len());
        put(&mut grad, &before);
        tape.close(node, grad);
    }
    node
}
