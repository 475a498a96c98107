//! Arrays of the host as a data set, without a file.

use super::pack::{Notes, Rows, pack};
use super::source::Source;
use super::store::{MAX_CLASSES, Store};
use super::tensors::FileDType;
use crate::base::{Error, Result};
use std::path::Path;

/// How messages call the arrays.
const NAME: &str = "data";

struct Arrays<'a> {
    values: &'a [f32],
    shape: [usize; 1],
}

impl Rows for Arrays<'_> {
    fn name(&self) -> &Path {
        Path::new(NAME)
    }

    fn count(&self) -> usize {
        self.values.len() / self.shape[0]
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn dtype(&self) -> FileDType {
        FileDType::F32
    }

    fn read(&self, row: u32, out: &mut [u8]) -> Result<()> {
        let start = row as usize * self.shape[0];
        out.copy_from_slice(bytemuck::cast_slice(&self.values[start..start + self.shape[0]]));
        Ok(())
    }
}

impl Store {
    /// A store in memory of rows of `width` values, sorted by their labels; [`index`](Store::index) says which is which.
    ///
    /// # Errors
    /// `Data` for rows that are not finite, none, or too many, and for labels that are no classes.
    ///
    /// # Panics
    /// If the values are no whole rows, or labels are given that are not as many.
    pub fn of_arrays(values: &[f32], width: usize, labels: Option<&[u32]>) -> Result<Store> {
        assert!(width > 0 && values.len().is_multiple_of(width), "{} values are no rows of {width}", values.len());
        let most = MAX_CLASSES as u32;
        if let Some((row, label)) = labels.into_iter().flatten().enumerate().find(|&(_, &label)| label >= most) {
            return Err(Error::Data(format!("{NAME}: the label of row {row} is {label}; give classes below {most}")));
        }
        let rows = Arrays { values, shape: [width] };
        let notes = Notes { provenance: "arrays of a program", class_names: &[] };
        let bytes = pack(&rows, labels, &notes, Vec::new(), rows.name(), &mut |_, _| {})?;
        Store::from_source(Source::memory(NAME, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_a_store_of_their_rows_by_class() {
        let values: Vec<f32> = (0..12).map(|i| i as f32 - 4.0).collect();
        let store = Store::of_arrays(&values, 3, Some(&[1, 0, 1, 0])).unwrap();
        store.verify().unwrap();
        assert_eq!((store.rows(), store.width(), store.classes()), (4, 3, 2));
        assert_eq!(store.index().unwrap(), [1, 3, 0, 2]);
        let mut out = [0.0; 6];
        store.read(&[0, 3], &mut out).unwrap();
        assert_eq!(out, [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(Store::of_arrays(&values, 3, None).unwrap().classes(), 0);
    }

    #[test]
    fn arrays_that_are_no_data_set_are_refused() {
        let refused = |values: &[f32], labels: Option<&[u32]>| Store::of_arrays(values, 1, labels).err().unwrap();
        assert!(refused(&[1.0, f32::NAN], None).to_string().starts_with("data: "));
        assert!(refused(&[], None).to_string().starts_with("data: "));
        assert_eq!(
            refused(&[1.0, 2.0], Some(&[0, u32::MAX])).to_string(),
            format!("data: the label of row 1 is 4294967295; give classes below {MAX_CLASSES}")
        );
    }
}
