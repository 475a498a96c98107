//! Reverse-mode differentiation as a stack: forward pushes values and how to undo them, backward pops.
//!
//! Popping an entry drops its values, so activation memory shrinks while backward runs. The tape knows [`Backward`] and no
//! operation; a tape lives for one step.

use crate::base::{Accumulate, DType, Shape};
use crate::cpu;
use crate::cuda;
use crate::device::Device;
use crate::tensor::{Slab, Tensor};

/// A parameter, or a value that this step computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Var {
    Param(u32),
    Node(u32),
}

/// What the values of a [`Tape::block`] are kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Training: every value stays until its backward has run.
    Everything,
    /// Training in less memory: a block keeps its outputs and is run again when backward reaches it.
    BlockOutputs,
    /// Inference: a block keeps its outputs until [`Tape::release`], and backward is refused.
    Nothing,
}

/// The undo of one operation: the handles of its inputs and what its forward saved.
///
/// An operation is as large as one fused backward needs, and may have several outputs.
pub trait Backward {
    /// Turns the gradients of the outputs into gradients of the inputs, through [`Tape::open`] and [`Tape::close`].
    ///
    /// The outputs are owned and die here. At least one of them has a gradient.
    fn backward(self: Box<Self>, outputs: Vec<Output>, tape: &mut Tape);

    /// Whether [`Backward::remake`] makes output `output` again from values that the tape keeps.
    fn remakes(&self, _output: usize) -> bool {
        false
    }

    /// Makes an output again, to the bit; `outputs` are the operation's own.
    fn remake(&self, _outputs: &[Var], _output: usize, _tape: &Tape) -> Tensor {
        unreachable!("only what an operation says it remakes is released")
    }
}

/// An output of an operation when backward reaches it.
pub struct Output {
    /// `None` if the value was handed over to a later operation by [`Tape::take`].
    pub value: Option<Tensor>,
    /// `None` if nothing depends on this output.
    pub grad: Option<Tensor>,
}

impl Output {
    /// The gradient of an operation's only output.
    pub fn only_grad(outputs: Vec<Output>) -> Tensor {
        let [output] = <[Output; 1]>::try_from(outputs).ok().expect("the operation has one output");
        output.grad.expect("backward runs only where a gradient arrived")
    }
}

#[derive(Default)]
enum Grad {
    #[default]
    Empty,
    /// Out with the operation that writes it.
    Open,
    Ready(Tensor),
}

struct Node {
    value: Option<Tensor>,
    grad: Grad,
}

struct Entry {
    /// The outputs are the nodes from here to the next entry's.
    first: usize,
    op: Box<dyn Backward>,
}

/// The stack of one step.
pub struct Tape<'p> {
    device: Device,
    params: &'p Slab,
    grads: Option<ParamGrads<'p>>,
    nodes: Vec<Node>,
    entries: Vec<Entry>,
    keep: Keep,
}

struct ParamGrads<'p> {
    slab: &'p mut Slab,
    /// Which parts some operation of this step has written.
    written: Vec<bool>,
}

impl<'p> Tape<'p> {
    /// A tape that computes values alone.
    pub fn inference(device: &Device, params: &'p Slab) -> Tape<'p> {
        Tape { device: device.clone(), params, grads: None, nodes: vec![], entries: vec![], keep: Keep::Nothing }
    }

    /// A tape whose backward writes the gradient of parameter `i` into part `i` of `grads`, in f32.
    ///
    /// `grads` may have fewer parts than `params`: the parameters beyond them are constants. With `Accumulate::Add` the
    /// gradients of this tape are added to what `grads` holds.
    pub fn training(
        device: &Device,
        params: &'p Slab,
        grads: &'p mut Slab,
        accumulate: Accumulate,
        keep: Keep,
    ) -> Tape<'p> {
        assert!(keep != Keep::Nothing, "a training tape keeps what backward needs");
        let written = vec![accumulate == Accumulate::Add; grads.count()];
        let grads = Some(ParamGrads { slab: grads, written });
        Tape { device: device.clone(), params, grads, nodes: vec![], entries: vec![], keep }
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Memory for an output of `shape`, not yet written.
    pub fn output(&self, shape: impl Into<Shape>) -> Tensor {
        Tensor::new(&self.device, "activations", shape, self.device.activations())
    }

    /// Memory for f32 numbers that forward leaves to backward, not yet written.
    pub fn statistics(&self, shape: impl Into<Shape>) -> Tensor {
        Tensor::new(&self.device, "activations", shape, DType::F32)
    }

    /// Memory for a gradient of `shape`, not yet written.
    pub fn gradient(&self, shape: impl Into<Shape>) -> Tensor {
        Tensor::new(&self.device, "gradients", shape, self.device.activations())
    }

    pub fn value(&self, var: Var) -> &Tensor {
        match var {
            Var::Param(i) => self.params.part(i as usize),
            Var::Node(i) => self.nodes[i as usize].value.as_ref().expect("the value is used before it is released"),
        }
    }

    /// A value that is an input of the step: nothing flows back into it.
    pub fn input(&mut self, value: Tensor) -> Var {
        struct Input;
        impl Backward for Input {
            fn backward(self: Box<Self>, _: Vec<Output>, _: &mut Tape) {}
        }
        let [var] = self.push([value], Input);
        var
    }

    /// Records the outputs of an operation and its undo.
    pub fn push<const N: usize>(&mut self, values: [Tensor; N], op: impl Backward + 'static) -> [Var; N] {
        let first = self.nodes.len();
        self.entries.push(Entry { first, op: Box::new(op) });
        self.nodes.extend(values.map(|value| Node { value: Some(value), grad: Grad::Empty }));
        std::array::from_fn(|i| Var::Node((first + i) as u32))
    }

    /// Takes a value out of the tape for an operation that writes its gradient over it.
    pub fn take(&mut self, var: Var) -> Tensor {
        let Var::Node(i) = var else { panic!("a parameter stays in its slab") };
        self.nodes[i as usize].value.take().expect("the value is used before it is released")
    }

    /// Says that forward has no further use of a value. Inference frees it; training frees it if its operation can make it
    /// again when backward asks by [`Tape::recall`].
    pub fn release(&mut self, var: Var) {
        let free = match self.keep {
            Keep::Nothing => true,
            Keep::BlockOutputs => false,
            Keep::Everything => {
                let (entry, output) = self.producer(var);
                self.entries[entry].op.remakes(output)
            }
        };
        if free {
            drop(self.take(var));
        }
    }

    /// Sees to it that a value that [`Tape::release`] may have freed is there for backward.
    pub fn recall(&mut self, var: Var) {
        let Var::Node(i) = var else { return };
        if self.nodes[i as usize].value.is_none() {
            let (entry, output) = self.producer(var);
            let end = self.entries.get(entry + 1).map_or(self.nodes.len(), |next| next.first);
            let outputs: Vec<Var> = (self.entries[entry].first..end).map(|node| Var::Node(node as u32)).collect();
            let value = self.entries[entry].op.remake(&outputs, output, self);
            self.nodes[i as usize].value = Some(value);
        }
    }

    /// The entry that pushed a node, and which of its outputs the node is.
    fn producer(&self, var: Var) -> (usize, usize) {
        let Var::Node(node) = var else { panic!("a parameter is no output") };
        let entry = self.entries.partition_point(|entry| entry.first <= node as usize) - 1;
        (entry, node as usize - self.entries[entry].first)
    }

    /// Takes the gradient of `var` out to write it: `Set` for its first writer of this step, `Add` for later ones.
    ///
    /// With `Set` the memory holds anything; [`Tape::close`] gives it back.
    pub fn open(&mut self, var: Var) -> (Tensor, Accumulate) {
        let shape = *self.value(var).shape();
        match var {
            Var::Param(i) => {
                let grads = self.grads.as_mut().expect("a training tape");
                let first = !std::mem::replace(&mut grads.written[i as usize], true);
                (grads.slab.take(i as usize), if first { Accumulate::Set } else { Accumulate::Add })
            }
            Var::Node(i) => match std::mem::replace(&mut self.nodes[i as usize].grad, Grad::Open) {
                Grad::Ready(grad) => (grad, Accumulate::Add),
                Grad::Empty => (self.gradient(shape), Accumulate::Set),
                Grad::Open => panic!("{var:?} is two inputs of one operation: its gradient would be lost"),
            },
        }
    }

    /// As [`Tape::open`] for an operation that writes only a part of the gradient: the first writer finds zeros, and every
    /// writer adds.
    pub fn open_zeroed(&mut self, var: Var) -> Tensor {
        let (mut grad, accumulate) = self.open(var);
        if accumulate == Accumulate::Set {
            grad.zero();
        }
        grad
    }

    /// Gives a gradient back that [`Tape::open`] took out, or sets the gradient that backward starts from.
    pub fn close(&mut self, var: Var, grad: Tensor) {
        match var {
            Var::Param(i) => self.grads.as_mut().expect("a training tape").slab.put_back(i as usize, grad),
            Var::Node(i) => {
                let node = &mut self.nodes[i as usize];
                assert!(!matches!(node.grad, Grad::Ready(_)), "the gradient of {var:?} would be lost");
                node.grad = Grad::Ready(grad);
            }
        }
    }

    /// Hands a finished gradient over to `var`: moved where it is the first, added where it is not.
    pub fn give(&mut self, var: Var, grad: Tensor) {
        let Var::Node(i) = var else { panic!("the gradient of a parameter lives in its slab") };
        match &mut self.nodes[i as usize].grad {
            slot @ Grad::Empty => *slot = Grad::Ready(grad),
            Grad::Ready(sum) => match &self.device {
                Device::Cpu(cpu) => cpu::add(cpu, sum.f32_mut(), grad.f32()),
                Device::Cuda(card) => cuda::add(card, sum, &grad),
            },
            Grad::Open => panic!("{var:?} is two inputs of one operation: its gradient would be lost"),
        }
    }

    /// Pops until the stack is empty. Afterwards every gradient of a parameter is written: zero where nothing depends on
    /// it.
    pub fn backward(mut self) {
        self.unwind(0);
        let Some(grads) = &mut self.grads else { panic!("an inference tape has no backward") };
        for (i, written) in grads.written.iter().enumerate() {
            if !written {
                grads.slab.part_mut(i).zero();
            }
        }
    }

    fn unwind(&mut self, entries: usize) {
        while self.entries.len() > entries {
            let Some(Entry { first, op }) = self.entries.pop() else { unreachable!("the stack is not empty") };
            let outputs: Vec<Output> = self.nodes.drain(first..).map(Output::from).collect();
            if outputs.iter().any(|output| output.grad.is_some()) {
                op.backward(outputs, self);
            }
        }
    }

    /// A stretch of operations whose inner values may be dropped: `f` computes the outputs from `inputs`.
    ///
    /// What is kept is the tape's [`Keep`]; the numbers are the same bits in each. `f` must use no other node than its
    /// inputs, since it may run again when they alone are left.
    pub fn block<const I: usize, const O: usize>(
        &mut self,
        inputs: [Var; I],
        f: impl Fn(&mut Tape, [Var; I]) -> [Var; O] + 'static,
    ) -> [Var; O] {
        if self.keep == Keep::Everything {
            return f(self, inputs);
        }
        let (nodes, entries) = (self.nodes.len(), self.entries.len());
        let outputs = f(self, inputs);
        let values = outputs.map(|output| {
            assert!(matches!(output, Var::Node(i) if i as usize >= nodes), "a block returns values it computed");
            self.take(output)
        });
        self.entries.truncate(entries);
        self.nodes.truncate(nodes);
        self.push(values, Block { inputs, f })
    }
}

impl From<Node> for Output {
    fn from(node: Node) -> Output {
        let grad = match node.grad {
            Grad::Ready(grad) => Some(grad),
            Grad::Empty => None,
            Grad::Open => panic!("a gradient was opened and never closed"),
        };
        Output { value: node.value, grad }
    }
}

struct Block<const I: usize, F> {
    inputs: [Var; I],
    f: F,
}

impl<const I: usize, const O: usize, F> Backward for Block<I, F>
where
    F: Fn(&mut Tape, [Var; I]) -> [Var; O],
{
    fn backward(self: Box<Self>, outputs: Vec<Output>, tape: &mut Tape) {
        let grads: Vec<Option<Tensor>> = outputs.into_iter().map(|output| output.grad).collect();
        let entries = tape.entries.len();
        let keep = std::mem::replace(&mut tape.keep, Keep::Everything);
        let again = (self.f)(tape, self.inputs);
        for (var, grad) in again.into_iter().zip(grads) {
            if let Some(grad) = grad {
                tape.close(var, grad);
            }
        }
        tape.unwind(entries);
        tape.keep = keep;
    }
}
