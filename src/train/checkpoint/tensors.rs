//! Weights and moments as named tensors.

use super::manifest::Marked;
use super::{MODEL_KEY, Model, bad};
use crate::base::Result;
use crate::data::tensors::{FileDType, Spec, TensorFile, Writer};
use crate::nn::{ParamList, Piece};
use crate::tensor::Slab;

/// Writes the first `params` parameters of each slab into `file`, each slab under a prefix of its tensors' names. The host
/// holds one tensor at a time.
pub fn write(file: Marked, model: &Model, list: &ParamList, params: usize, slabs: &[(&str, &Slab)]) -> Result<Marked> {
    let all = || slabs.iter().flat_map(|slab| list.pieces(params).map(move |piece| (slab, piece)));
    let names: Vec<String> = all().map(|((prefix, _), (piece, ..))| format!("{prefix}{}", piece.name)).collect();
    let specs =
        all().zip(&names).map(|((_, (piece, ..)), name)| Spec { name, dtype: FileDType::F32, shape: &piece.shape });
    let path = file.path().to_owned();
    let model = serde_json::to_string(model).expect("a model has a form in JSON");
    let failed = |error| bad(&path, error);
    let mut writer = Writer::new(file, &[(MODEL_KEY, &model)], &specs.collect::<Vec<_>>()).map_err(failed)?;
    let mut values: Vec<f32> = vec![];
    for ((_, slab), (_, param, range)) in all() {
        values.resize(range.len(), 0.0);
        slab.part(param).read_from(range.start, &mut values);
        writer.put(bytemuck::cast_slice(&values)).map_err(failed)?;
    }
    Ok(writer.finish())
}

/// Reads the first `params` parameters of `slab` from the tensors whose names have `prefix`, one at a time.
pub fn read(file: &TensorFile, list: &ParamList, params: usize, prefix: &str, slab: &mut Slab) -> Result<()> {
    let name = |piece: &Piece| vec![Piece { name: format!("{prefix}{}", piece.name), ..piece.clone() }];
    read_as(file, name, list, params, slab)
}

/// As [`read`], each parameter from the tensors that `parts` names.
///
/// A file without a constant leaves it as it is: not every format keeps SiT's table of positions.
pub fn read_as(
    file: &TensorFile,
    parts: impl Fn(&Piece) -> Vec<Piece>,
    list: &ParamList,
    params: usize,
    slab: &mut Slab,
) -> Result<()> {
    let mut values: Vec<f32> = vec![];
    for (piece, param, range) in list.pieces(params) {
        let mut start = range.start;
        for part in parts(piece) {
            if param >= list.trained() && file.find(&part.name).is_none() {
                continue;
            }
            values.resize(part.len(), 0.0);
            file.read_f32(&part.name, &part.shape, &mut values)?;
            slab.part_mut(param).write_from(start, &values);
            start += part.len();
        }
    }
    Ok(())
}
