//! Operations of the tape: forward and backward as two laps.

use crate::{Bench, Clock, Size, normals};
use engine::base::{Accumulate, Cost, DType, Shape};
use engine::device::Device;
use engine::tape::{Backward, Keep, Output, Tape, Var};
use engine::tensor::{Slab, Tensor};
use std::cell::RefCell;
use std::rc::Rc;

/// An input of an operation.
pub struct Input {
    shape: Shape,
    /// Computed by an earlier operation, or a parameter.
    node: bool,
    trained: bool,
}

pub fn node(shape: &[usize]) -> Input {
    Input { shape: Shape::new(shape), node: true, trained: false }
}

pub fn param(shape: &[usize]) -> Input {
    Input { shape: Shape::new(shape), node: false, trained: true }
}

/// A parameter without a gradient; it comes last.
pub fn constant(shape: &[usize]) -> Input {
    Input { shape: Shape::new(shape), node: false, trained: false }
}

/// The gradients that arrived at the nodes.
type Arrived = Rc<RefCell<Vec<Tensor>>>;

struct Leaf(Arrived);

impl Backward for Leaf {
    fn backward(self: Box<Self>, outputs: Vec<Output>, _: &mut Tape) {
        self.0.borrow_mut().push(Output::only_grad(outputs));
    }
}

impl Bench {
    /// Times forward and backward of the outputs that `graph`, made on a device, computes from `inputs`.
    pub fn tape<G: Fn(&mut Tape, &[Var]) -> Vec<Var>>(
        &mut self,
        op: &str,
        size: Size,
        products: &[DType],
        inputs: &[Input],
        costs: [Cost; 2],
        graph: impl Fn(&Device) -> G,
    ) {
        let laps: [(&str, &[Cost]); 2] = [("forward", &costs[..1]), ("backward", &costs[1..])];
        self.run(op, size, products, &laps, |device| fixture(device, inputs, graph(device)));
    }
}

/// One forward, and one backward from the outputs themselves as their gradients, which are random and free.
pub fn fixture<'a, G: Fn(&mut Tape, &[Var]) -> Vec<Var>>(
    device: &Device,
    inputs: &'a [Input],
    graph: G,
) -> impl FnMut(&mut Clock) + use<'a, G> {
    let device = device.clone();
    let params: Vec<&Input> = inputs.iter().filter(|input| !input.node).collect();
    let shapes: Vec<Shape> = params.iter().map(|input| input.shape).collect();
    let trained = params.iter().filter(|input| input.trained).count();
    let mut weights = Slab::zeros(&device, "bench", &shapes).expect("memory");
    let mut gradients = Slab::zeros(&device, "bench", &shapes[..trained]).expect("memory");
    for (i, shape) in shapes.iter().enumerate() {
        // Products of normals keep their size.
        let scale = 1.0 / (shape.width() as f32).sqrt();
        let values = normals(i as u32, shape.len()).into_iter().map(|x| x * scale);
        weights.part_mut(i).f32_mut().iter_mut().zip(values).for_each(|(w, x)| *w = x);
    }
    let nodes = inputs.iter().filter(|input| input.node).enumerate();
    let nodes: Vec<Vec<f32>> = nodes.map(|(i, node)| normals(100 + i as u32, node.shape.len())).collect();
    move |clock| {
        let arrived = Arrived::default();
        let mut tape = Tape::training(&device, &weights, &mut gradients, Accumulate::Set, Keep::Everything);
        let (mut param, mut node) = (0.., nodes.iter());
        let vars: Vec<Var> = inputs
            .iter()
            .map(|input| {
                if !input.node {
                    return Var::Param(param.next().expect("endless"));
                }
                let mut value = tape.output(input.shape);
                value.f32_mut().copy_from_slice(node.next().expect("one value for each node"));
                let [node] = tape.push([value], Leaf(arrived.clone()));
                node
            })
            .collect();
        let outputs = clock.lap(|| graph(&mut tape, &vars));
        for output in outputs {
            let value = tape.value(output);
            clock.output(value.f32());
            let mut gradient = tape.gradient(*value.shape());
            gradient.f32_mut().copy_from_slice(value.f32());
            tape.close(output, gradient);
        }
        clock.lap(|| tape.backward());
        arrived.borrow().iter().for_each(|gradient| clock.output(gradient.f32()));
        (0..trained).for_each(|i| clock.output(gradients.part(i).f32()));
    }
}
