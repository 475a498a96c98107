use super::positions::sincos;
use crate::base::rng::{Purpose, Stream, uniform};
use crate::base::{Result, Shape};
use crate::device::Device;
use crate::ops::update::{cast, working};
use crate::tape::Var;
use crate::tensor::Slab;
use std::ops::Range;

/// How a parameter starts.
#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    Zeros,
    Ones,
    /// Normal with this standard deviation.
    Normal(f32),
    /// Uniform in `[-a, a]` for this a.
    Uniform(f32),
    /// Uniform in `[-a, a]` with `a = sqrt(6 / (inputs + outputs))` (Glorot and Bengio, 2010), for a matrix (outputs,
    /// inputs).
    Xavier,
    /// The table of positions of a grid, which is not trained. It is computed where memory is taken for it: a file may
    /// name a model of any size.
    SinCos {
        rows: usize,
        columns: usize,
    },
}

/// One published tensor: its name and shape in a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    pub name: String,
    pub shape: Vec<usize>,
}

impl Piece {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a kernel sees as one parameter: one published tensor, or several of one width stacked by rows.
#[derive(Clone, Debug)]
pub struct Param {
    pub shape: Shape,
    pub pieces: Vec<Piece>,
    pub init: Init,
}

impl Param {
    fn trained(&self) -> bool {
        !matches!(self.init, Init::SinCos { .. })
    }
}

/// The parameters of a model in the order of its slab, which serves the kernels and not the names.
#[derive(Clone, Debug, Default)]
pub struct ParamList {
    params: Vec<Param>,
}

impl ParamList {
    /// Adds one published tensor, seen by kernels as `shape`.
    pub fn add(&mut self, name: &str, published: &[usize], shape: impl Into<Shape>, init: Init) -> Var {
        self.stack(vec![Piece { name: name.into(), shape: published.into() }], shape, init)
    }

    /// Adds several published tensors that lie one after the other, seen by kernels as one parameter of `shape`.
    pub fn stack(&mut self, pieces: Vec<Piece>, shape: impl Into<Shape>, init: Init) -> Var {
        let shape = shape.into();
        assert_eq!(pieces.iter().map(Piece::len).sum::<usize>(), shape.len(), "{pieces:?} do not fill {shape:?}");
        let param = Param { shape, pieces, init };
        assert!(
            !param.trained() || self.params.iter().all(Param::trained),
            "constants come last, so that what is trained is one range of the slab"
        );
        self.params.push(param);
        Var::Param(self.params.len() as u32 - 1)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Param> {
        self.params.iter()
    }

    /// How many parameters are trained; they come first.
    pub fn trained(&self) -> usize {
        self.params.iter().filter(|param| param.trained()).count()
    }

    /// The shapes of the first `count` parameters.
    pub fn shapes(&self, count: usize) -> Vec<Shape> {
        self.params[..count].iter().map(|param| param.shape).collect()
    }

    /// Elements of all published tensors, constants included, as `sum(p.numel())` counts them.
    pub fn elements(&self) -> usize {
        self.params.iter().map(|param| param.shape.len()).sum()
    }

    /// Every published tensor with its parameter and its range in it, of the first `count` parameters.
    pub fn pieces(&self, count: usize) -> impl Iterator<Item = (&Piece, usize, Range<usize>)> {
        self.params[..count].iter().enumerate().flat_map(|(i, param)| {
            let mut start = 0;
            param.pieces.iter().map(move |piece| {
                let range = start..start + piece.len();
                start = range.end;
                (piece, i, range)
            })
        })
    }
}

/// The parameters of one model on one device.
pub struct ParamStore {
    pub list: ParamList,
    /// The weights in f32.
    pub weights: Slab,
    /// The weights as products read them, where that is another type; [`ParamStore::round`] makes them.
    pub working: Option<Slab>,
}

impl ParamStore {
    /// Parameters at their initial values, a function of `seed`.
    pub fn new(device: &Device, list: ParamList, seed: u64) -> Result<ParamStore> {
        let mut weights = Slab::zeros(device, "weights", &list.shapes(list.params.len()))?;
        for (i, param) in list.params.iter().enumerate() {
            let stream = Stream::new(seed, i as u32, 0, Purpose::Weights);
            let mut values = vec![0.0; param.shape.len()];
            match &param.init {
                Init::Zeros => {}
                Init::Ones => values.fill(1.0),
                &Init::Uniform(limit) => fill_uniform(stream, limit, &mut values),
                &Init::SinCos { rows, columns } => {
                    values.copy_from_slice(&sincos(rows, columns, param.shape.width()));
                }
                Init::Normal(deviation) => {
                    stream.fill_normals(&mut values);
                    values.iter_mut().for_each(|x| *x *= deviation);
                }
                Init::Xavier => {
                    let limit = (6.0 / (param.shape.rows() + param.shape.width()) as f32).sqrt();
                    fill_uniform(stream, limit, &mut values);
                }
            }
            weights.part_mut(i).write(&values);
        }
        let rounded = working(device, &weights)?;
        let mut store = ParamStore { list, weights, working: rounded };
        store.round(device);
        Ok(store)
    }

    /// What a tape computes with.
    pub fn network(&self) -> &Slab {
        self.working.as_ref().unwrap_or(&self.weights)
    }

    /// Makes the working weights from the weights, after these were written.
    pub fn round(&mut self, device: &Device) {
        if let Some(working) = &mut self.working {
            cast(device, &self.weights, working);
        }
    }

    /// A slab of zeros laid out as the trained parameters: for gradients, moments and averages.
    pub fn zeros(&self, device: &Device, label: &'static str) -> Result<Slab> {
        Slab::zeros(device, label, &self.list.shapes(self.list.trained()))
    }
}

/// Numbers of `[-limit, limit]`.
fn fill_uniform(stream: Stream, limit: f32, values: &mut [f32]) {
    for (block, four) in values.chunks_mut(4).enumerate() {
        for (x, word) in four.iter_mut().zip(stream.words(block as u32)) {
            *x = limit * (2.0 * uniform(word) - 1.0);
        }
    }
}
