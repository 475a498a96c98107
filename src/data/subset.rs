//! Parts of a store: subsets that lie within each other, and a store of some rows alone.

use super::loader::shuffle;
use super::pack::{self, Notes, pack};
use super::{Source, Store};
use crate::base::Result;
use crate::base::rng::{Purpose, Stream};
use crate::data::tensors::FileDType;
use std::path::Path;

/// The `count` rows of each class that come first in an order drawn by `seed`, of `rows`, which ascend; 0 takes all.
///
/// A larger count of the same seed takes the same rows and more. A class that has fewer gives all it has.
pub fn per_class(store: &Store, rows: &[u32], count: usize, seed: u64) -> Vec<u32> {
    if count == 0 {
        return rows.to_vec();
    }
    let classes = rows.chunk_by(|&a, &b| store.label(a) == store.label(b));
    let mut taken: Vec<u32> = classes
        .flat_map(|rows| {
            let stream = Stream::new(seed, store.label(rows[0]), 0, Purpose::Subset);
            shuffle(rows, stream).into_iter().take(count)
        })
        .collect();
    taken.sort_unstable();
    taken
}

impl Store {
    /// A store in memory of `rows` alone, which ascend, with their classes.
    pub fn part(&self, rows: &[u32]) -> Result<Store> {
        let part = Part { store: self, bytes: self.mapped()?, rows, shape: self.shape() };
        let labels: Vec<u32> = rows.iter().map(|&row| self.label(row)).collect();
        let names: Vec<&str> = self.info().class_names.iter().map(String::as_str).collect();
        let notes = Notes { provenance: &self.info().provenance, class_names: &names };
        let labels = (self.classes() > 0).then_some(&*labels);
        let bytes = pack(&part, labels, &notes, Vec::new(), pack::Rows::name(&part), &mut |_, _| {})?;
        Store::from_source(Source::memory("part of a store", bytes))
    }
}

/// Rows of a store as what is ingested.
struct Part<'a> {
    store: &'a Store,
    bytes: &'a [u8],
    rows: &'a [u32],
    shape: [usize; 3],
}

impl pack::Rows for Part<'_> {
    fn name(&self) -> &Path {
        Path::new("part of a store")
    }

    fn count(&self) -> usize {
        self.rows.len()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn dtype(&self) -> FileDType {
        self.store.info().dtype
    }

    fn read(&self, row: u32, out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(&self.bytes[self.rows[row as usize] as usize * out.len()..][..out.len()]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fashion_mnist;

    #[test]
    fn subsets_of_one_seed_lie_within_each_other_and_have_as_many_rows_of_every_class() {
        let store = fashion_mnist().unwrap();
        let rows: Vec<u32> = (0..10_000).filter(|row| row % 7 > 0).collect();
        let subsets = [1, 10, 100, 857, 900].map(|count| per_class(&store, &rows, count, 3));
        for (subset, count) in subsets.iter().zip([1, 10, 100, 857, 857]) {
            let counts = subset.chunk_by(|&a, &b| store.label(a) == store.label(b)).map(<[u32]>::len);
            assert!(
                counts.clone().all(|there| (count..=count + 1).contains(&there)),
                "{:?}",
                counts.collect::<Vec<_>>()
            );
            assert!(subset.is_sorted() && subset.iter().all(|row| rows.binary_search(row).is_ok()));
        }
        for pair in subsets.windows(2) {
            assert!(pair[0].iter().all(|row| pair[1].binary_search(row).is_ok()));
        }
        assert_ne!(subsets[1], per_class(&store, &rows, 10, 4));
        assert_eq!(per_class(&store, &rows, 0, 3), rows);
    }

    #[test]
    fn a_part_of_a_store_holds_its_rows_with_their_classes() {
        let store = fashion_mnist().unwrap();
        let rows = [3, 999, 1000, 9_999];
        let part = store.part(&rows).unwrap();
        assert_eq!((part.rows(), part.shape(), part.classes()), (4, [1, 28, 28], 10));
        for (i, &row) in (0..).zip(&rows) {
            let [mut ours, mut theirs] = [vec![0.0; 784], vec![0.0; 784]];
            part.read(&[i], &mut ours).unwrap();
            store.read(&[row], &mut theirs).unwrap();
            assert_eq!((ours, part.label(i)), (theirs, store.label(row)));
        }
    }
}
