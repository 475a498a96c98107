//! The empirical score against a sum over all rows in twice the digits of f64.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/runs.rs"]
mod runs;

mod answers;
mod certificate;
mod cli;
mod draws;
mod gaussian;
mod ideal;
mod neighbours;
mod oracle;
mod pairs;
mod velocity;

use engine::base::rng::{Purpose, Stream};
use engine::data::tensors::{FileDType, Spec, Writer};
use engine::data::{Source, Store};

/// A store in memory of rows of type U8, F16 or F32; `classes` holds the number of rows of each.
pub fn store(dtype: FileDType, width: usize, bytes: &[u8], classes: &[u32]) -> Store {
    let count = bytes.len() / (width * dtype.size() as usize);
    let index: Vec<u32> = (0..count as u32).collect();
    let labels: Vec<u32> = (0u32..).zip(classes).flat_map(|(class, &rows)| vec![class; rows as usize]).collect();
    let mut offsets = vec![0];
    classes.iter().for_each(|rows| offsets.push(offsets[offsets.len() - 1] + rows));
    let statistic = vec![0u8; 4 * width];
    let (counts, rows, ends) = ([count], [count, width, 1, 1], [offsets.len()]);
    let mut parts: Vec<(&str, FileDType, &[usize], &[u8])> =
        ["mean", "std", "min", "max"].map(|name| (name, FileDType::F32, &rows[1..2], &*statistic)).to_vec();
    parts.push(("index", FileDType::U32, &counts, bytemuck::cast_slice(&index)));
    if !classes.is_empty() {
        parts.push(("labels", FileDType::U32, &counts, bytemuck::cast_slice(&labels)));
        parts.push(("class_offsets", FileDType::U32, &ends, bytemuck::cast_slice(&offsets)));
    }
    parts.push(("rows", dtype, &rows, bytes));
    parts.push(("digest", FileDType::U8, &[32], &[0; 32]));
    let specs: Vec<Spec<'_>> = parts.iter().map(|&(name, dtype, shape, _)| Spec { name, dtype, shape }).collect();
    let mut writer = Writer::new(Vec::new(), &[("engine.store", "1")], &specs).unwrap();
    parts.iter().for_each(|part| writer.put(part.3).unwrap());
    Store::from_source(Source::memory("test.store", writer.finish())).unwrap()
}

/// Words of one stream.
pub fn words(name: u32, len: usize) -> Vec<u32> {
    let stream = Stream::new(0x5c0e, name, 0, Purpose::Fixture);
    (0..len.div_ceil(4) as u32).flat_map(|block| stream.words(block)).take(len).collect()
}

/// The values of a row.
pub fn row(store: &Store, row: u32) -> Vec<f64> {
    let mut x = vec![0.0; store.width()];
    store.read(&[row], &mut x).unwrap();
    x.into_iter().map(f64::from).collect()
}

/// `alpha x + sigma eps` on the linear path.
pub fn noised(x: &[f64], t: f64, name: u32) -> Vec<f64> {
    let eps = common::normals(name, x.len(), 1.0);
    x.iter().zip(eps).map(|(x, eps)| (1.0 - t) * x + t * f64::from(eps)).collect()
}
