//! Mutable slices that the tasks of one kernel take apart, each part owned by one task.

use std::marker::PhantomData;
use std::sync::Arc;

/// A mutable slice seen as consecutive chunks, for the tasks of a kernel to take apart.
pub struct Chunks<'a, T> {
    start: *mut T,
    length: usize,
    group: usize,
    width: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: a `Chunks` stands for the `&mut [T]` it was made from, and each chunk is taken by one thread alone.
unsafe impl<T: Send> Send for Chunks<'_, T> {}
// SAFETY: as above; sharing it hands out whole chunks, each to one thread, so `T: Send` is enough.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}

impl<'a, T> Chunks<'a, T> {
    /// The chunks of `width` elements of `slice`; the last may be shorter.
    pub fn new(slice: &'a mut [T], width: usize) -> Chunks<'a, T> {
        let group = slice.len().max(1);
        Chunks::grouped(slice, group, width)
    }

    /// As [`Chunks::new`] within groups of `group` elements: the last chunk of each group may be shorter.
    pub fn grouped(slice: &'a mut [T], group: usize, width: usize) -> Chunks<'a, T> {
        assert!(width > 0, "a chunk has at least one element");
        assert!(slice.len().is_multiple_of(group), "{} elements are no groups of {group}", slice.len());
        Chunks { start: slice.as_mut_ptr(), length: slice.len(), group, width, slice: PhantomData }
    }
}

/// A mutable matrix seen as panels of columns: groups of `rows` rows, each cut into panels of `width` columns.
pub struct Columns<'a, T> {
    start: *mut T,
    panels: usize,
    rows: usize,
    stride: usize,
    width: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: as for `Chunks`.
unsafe impl<T: Send> Send for Columns<'_, T> {}
// SAFETY: as for `Chunks`.
unsafe impl<T: Send> Sync for Columns<'_, T> {}

impl<'a, T> Columns<'a, T> {
    /// The panels of `slice`, a row-major matrix of rows of `stride` elements; panel `i` is number `i % (stride / width)`
    /// of row group `i / (stride / width)`.
    pub fn new(slice: &'a mut [T], rows: usize, stride: usize, width: usize) -> Columns<'a, T> {
        assert!(width > 0 && stride.is_multiple_of(width), "rows of {stride} elements are no panels of {width}");
        assert!(slice.len().is_multiple_of(rows * stride), "{} elements are no groups of {rows} rows", slice.len());
        let panels = slice.len() / (rows * width);
        Columns { start: slice.as_mut_ptr(), panels, rows, stride, width, slice: PhantomData }
    }
}

impl<'a, T: Send> Parts for Columns<'a, T> {
    type Item = Panel<'a, T>;

    fn count(&self) -> usize {
        self.panels
    }

    unsafe fn take(&self, i: usize) -> Panel<'a, T> {
        let across = self.stride / self.width;
        let offset = i / across * self.rows * self.stride + i % across * self.width;
        // SAFETY: the panel starts inside the slice.
        let start = unsafe { self.start.add(offset) };
        Panel { start, rows: self.rows, stride: self.stride, width: self.width, slice: PhantomData }
    }
}

/// Some columns of some rows of a matrix, owned by one task.
pub struct Panel<'a, T> {
    start: *mut T,
    rows: usize,
    stride: usize,
    width: usize,
    slice: PhantomData<&'a mut [T]>,
}

impl<T> Panel<'_, T> {
    pub fn width(&self) -> usize {
        self.width
    }

    pub fn row_mut(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "row {row} of a panel of {}", self.rows);
        // SAFETY: the row lies inside the matrix, and a panel is taken once, so no other reference to it lives.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.width) }
    }
}

/// Panels grouped three by three: q, k and v of one head.
pub struct Triples<'a, T> {
    panels: Columns<'a, T>,
    heads: usize,
}

impl<'a, T> Triples<'a, T> {
    /// `slice` is (groups, rows, 3, heads, width); item `i` holds the three panels of head `i % heads` of group
    /// `i / heads`.
    pub fn new(slice: &'a mut [T], rows: usize, heads: usize, width: usize) -> Triples<'a, T> {
        Triples { panels: Columns::new(slice, rows, 3 * heads * width, width), heads }
    }
}

impl<'a, T: Send> Parts for Triples<'a, T> {
    type Item = [Panel<'a, T>; 3];

    fn count(&self) -> usize {
        self.panels.count() / 3
    }

    unsafe fn take(&self, i: usize) -> Self::Item {
        let (group, head) = (i / self.heads, i % self.heads);
        // SAFETY: each triple has its own panels, so the caller's promise holds for the panels.
        [0, 1, 2].map(|part| unsafe { self.panels.take((group * 3 + part) * self.heads + head) })
    }
}

/// Something whose parts can be taken one by one, each by one thread.
pub trait Parts: Sync {
    type Item;

    /// How many parts there are; `usize::MAX` for an empty [`Group`], which goes along with any other.
    fn count(&self) -> usize;

    /// Part `i`.
    ///
    /// # Safety
    /// - `i < self.count()`.
    /// - No two calls on one value take the same `i`.
    unsafe fn take(&self, i: usize) -> Self::Item;
}

impl<'a, T: Send> Parts for Chunks<'a, T> {
    type Item = &'a mut [T];

    fn count(&self) -> usize {
        self.length / self.group * self.group.div_ceil(self.width)
    }

    unsafe fn take(&self, i: usize) -> &'a mut [T] {
        let chunks = self.group.div_ceil(self.width);
        let (group, offset) = (i / chunks, i % chunks * self.width);
        let length = self.width.min(self.group - offset);
        // SAFETY: the chunk lies inside the slice, and the caller takes it only once, so no other reference to it lives.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(group * self.group + offset), length) }
    }
}

macro_rules! tuple_of_parts {
    ($($name:ident $index:tt),*) => {
        impl<$($name: Parts),*> Parts for ($($name,)*) {
            type Item = ($($name::Item,)*);

            fn count(&self) -> usize {
                let counts = [$(self.$index.count()),*];
                assert!(counts.iter().all(|&n| n == counts[0] || n == usize::MAX), "parts that advance together have equal counts: {counts:?}");
                counts[0]
            }

            unsafe fn take(&self, i: usize) -> Self::Item {
                // SAFETY: the caller's promise holds for every member, since all have the same count.
                unsafe { ($(self.$index.take(i),)*) }
            }
        }
    };
}

/// Any number of parts that advance together.
pub struct Group<P>(Arc<[P]>);

impl<P: Parts> FromIterator<P> for Group<P> {
    fn from_iter<I: IntoIterator<Item = P>>(parts: I) -> Group<P> {
        Group(parts.into_iter().collect())
    }
}

impl<P: Parts + Send> Parts for Group<P> {
    type Item = Members<P>;

    fn count(&self) -> usize {
        let count = self.0.first().map_or(usize::MAX, Parts::count);
        assert!(self.0.iter().all(|p| p.count() == count), "parts that advance together have equal counts");
        count
    }

    unsafe fn take(&self, i: usize) -> Members<P> {
        Members { group: self.0.clone(), member: 0, i }
    }
}

/// Part `i` of each member of a [`Group`], in their order.
pub struct Members<P> {
    group: Arc<[P]>,
    member: usize,
    i: usize,
}

impl<P: Parts> Iterator for Members<P> {
    type Item = P::Item;

    fn next(&mut self) -> Option<P::Item> {
        let parts = self.group.get(self.member)?;
        self.member += 1;
        // SAFETY: `i` of the group was taken once, and with it that of every member, since all have the same count; here
        // each member is passed once.
        Some(unsafe { parts.take(self.i) })
    }
}

tuple_of_parts!(A 0, B 1);
tuple_of_parts!(A 0, B 1, C 2);
tuple_of_parts!(A 0, B 1, C 2, D 3);

#[cfg(test)]
mod tests {
    use super::super::Threads;
    use super::*;

    #[test]
    fn chunks_advance_together() {
        let threads = Threads::new(3).unwrap();
        let (mut a, mut b) = (vec![0; 1001], vec![0; 101]);
        threads.each((Chunks::new(&mut a, 10), Chunks::new(&mut b, 1)), 1, |i, (a, b)| {
            a.fill(i);
            b[0] = i;
        });
        assert!(a.iter().enumerate().all(|(j, &x)| x == j / 10) && b.iter().enumerate().all(|(j, &x)| x == j));
    }

    #[test]
    fn chunks_stay_within_their_group() {
        let mut a = vec![0; 3 * 10];
        Threads::new(2).unwrap().each(Chunks::grouped(&mut a, 10, 4), 1, |i, chunk| chunk.fill(100 * i + chunk.len()));
        let expected: Vec<_> = (0..9).flat_map(|i| vec![100 * i + [4, 4, 2][i % 3]; [4, 4, 2][i % 3]]).collect();
        assert_eq!(a, expected);
    }

    #[test]
    fn panels_cover_their_columns() {
        let (groups, rows, heads, width) = (2, 3, 2, 4);
        let mut a = vec![0; groups * rows * 3 * heads * width];
        Threads::new(2).unwrap().each(Triples::new(&mut a, rows, heads, width), 1, |i, panels| {
            for (part, mut panel) in panels.into_iter().enumerate() {
                (0..rows).for_each(|row| panel.row_mut(row).fill(100 * i + 10 * part + row));
            }
        });
        for (at, &x) in a.iter().enumerate() {
            let (row, part, head) = (at / (3 * heads * width), at / (heads * width) % 3, at / width % heads);
            assert_eq!(x, 100 * (row / rows * heads + head) + 10 * part + row % rows);
        }
    }
}
