//! Images and labels as they are published, row by row as a store holds them.

use crate::base::Result;
use crate::data::file_dtype::FileDType;
use crate::data::idx::Idx;
use crate::data::pack::Rows;
use std::path::Path;

/// Gray images of an IDX file, (M, H, W).
pub(super) struct IdxRows {
    idx: Idx,
    shape: [usize; 3],
}

impl IdxRows {
    pub fn new(idx: Idx) -> Result<IdxRows> {
        let &[_, height, width] = idx.extents() else {
            let what = format_args!("has extents {:?}, images have (M, H, W)", idx.extents());
            return Err(idx.source().error(format_args!("{what}; give the file of images")));
        };
        Ok(IdxRows { idx, shape: [1, height, width] })
    }
}

impl Rows for IdxRows {
    fn name(&self) -> &Path {
        self.idx.source().name()
    }

    fn count(&self) -> usize {
        self.idx.extents()[0]
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn dtype(&self) -> FileDType {
        FileDType::U8
    }

    fn read(&self, row: u32, out: &mut [u8]) -> Result<()> {
        self.idx.read(u64::from(row) * out.len() as u64, out)
    }
}

/// The classes of an IDX file of labels, (M).
pub(super) fn idx_labels(idx: &Idx) -> Result<Vec<u32>> {
    let &[count] = idx.extents() else {
        let what = format_args!("has extents {:?}, labels have (M)", idx.extents());
        return Err(idx.source().error(format_args!("{what}; give the file of labels")));
    };
    let mut labels = vec![0; count];
    idx.read(0, &mut labels)?;
    Ok(labels.into_iter().map(u32::from).collect())
}
