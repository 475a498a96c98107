use crate::base::Gelu;

/// A matrix of f32 read through strides; `map` is applied to each element as it is read.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
    pub(super) map: Map,
}

/// A function applied to the elements of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    None,
    Gelu(Gelu),
}

impl<'a> Matrix<'a> {
    /// A row-major matrix (rows, cols).
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Matrix<'a> {
        assert_eq!(data.len(), rows * cols, "a matrix of {rows} x {cols} has {} elements", rows * cols);
        Matrix::strided(data, rows, cols, cols)
    }

    /// A matrix whose rows of `cols` consecutive elements start `row_stride` apart.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Matrix<'a> {
        let needed = if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_stride + cols };
        assert!(data.len() >= needed, "a matrix of {rows} x {cols}, stride {row_stride}, in {} elements", data.len());
        Matrix { data, rows, cols, row_stride, col_stride: 1, map: Map::None }
    }

    /// Its transpose, by exchange of the strides.
    pub fn transposed(self) -> Matrix<'a> {
        let Matrix { rows, cols, row_stride, col_stride, .. } = self;
        Matrix { rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride, ..self }
    }

    /// Its rows from `start` to `start + rows`.
    pub fn rows_from(self, start: usize, rows: usize) -> Matrix<'a> {
        assert!(start + rows <= self.rows, "rows {start} to {} of {}", start + rows, self.rows);
        Matrix { data: &self.data[start * self.row_stride..], rows, ..self }
    }

    /// One row, for a matrix whose rows are contiguous.
    pub fn row(&self, row: usize) -> &'a [f32] {
        assert_eq!(self.col_stride, 1, "the rows of a transpose are not contiguous");
        &self.data[row * self.row_stride..][..self.cols]
    }

    /// The matrix with `map` applied to each element.
    pub fn mapped(self, map: Map) -> Matrix<'a> {
        Matrix { map, ..self }
    }
}
