//! The registers of one warp: a row of 32 words for each register, a mask of 32 bits for each predicate.
//!
//! A 64-bit register is two neighbouring rows, low words first, so every row has one shape and a lane-wise operation is
//! a loop over 32 lanes that the compiler turns into vector instructions. A register of 16 or 8 bits fills the low bits
//! of its row.

use half::{bf16, f16};

/// Lanes of a warp.
pub const LANES: usize = 32;

/// One 32-bit value for each lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(align(64))]
pub struct Row(pub [u32; LANES]);

/// Index of a register's first row, or of a predicate's mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Slot(pub u32);

impl Slot {
    /// The row after this one: the high words of a 64-bit register.
    pub fn high(self) -> Slot {
        Slot(self.0 + 1)
    }
}

#[derive(Debug, Clone)]
pub struct Regs {
    pub rows: Box<[Row]>,
    pub masks: Box<[u32]>,
}

impl Regs {
    pub fn new(rows: usize, masks: usize) -> Self {
        Self { rows: vec![Row([0; LANES]); rows].into(), masks: vec![0; masks].into() }
    }

    #[inline(always)]
    pub fn row(&self, slot: Slot) -> &[u32; LANES] {
        &self.rows[slot.0 as usize].0
    }

    #[inline(always)]
    pub fn row_mut(&mut self, slot: Slot) -> &mut [u32; LANES] {
        &mut self.rows[slot.0 as usize].0
    }

    #[inline(always)]
    pub fn mask(&self, slot: Slot) -> u32 {
        self.masks[slot.0 as usize]
    }

    /// Sets the predicate of the lanes in `active` to their bit in `value`.
    #[inline(always)]
    pub fn set_mask(&mut self, slot: Slot, active: u32, value: u32) {
        let mask = &mut self.masks[slot.0 as usize];
        *mask = (*mask & !active) | (value & active);
    }

    /// Writes the lanes in `active`.
    #[inline(always)]
    pub fn set_row(&mut self, slot: Slot, active: u32, value: &[u32; LANES]) {
        let row = self.row_mut(slot);
        if active == u32::MAX {
            *row = *value;
        } else {
            for lane in 0..LANES {
                row[lane] = if active >> lane & 1 != 0 { value[lane] } else { row[lane] };
            }
        }
    }

    /// All lanes of a register read as `T`.
    #[inline(always)]
    pub fn get<T: Lane>(&self, slot: Slot) -> [T; LANES] {
        let view = T::view(self, slot);
        each(|lane| T::at(&view, lane))
    }

    #[inline(always)]
    pub fn set<T: Lane>(&mut self, slot: Slot, active: u32, value: &[T; LANES]) {
        T::put(self, slot, active, value);
    }
}

/// A type that a register can be read and written as.
pub trait Lane: Copy + Default {
    type View<'a>;
    fn view(regs: &Regs, slot: Slot) -> Self::View<'_>;
    fn at(view: &Self::View<'_>, lane: usize) -> Self;
    fn put(regs: &mut Regs, slot: Slot, active: u32, value: &[Self; LANES]);

    /// Results as registers hold them, so that no loop has to turn an array of values into rows.
    type Rows;
    fn rows() -> Self::Rows;
    fn keep(self, rows: &mut Self::Rows, lane: usize);
    fn put_rows(regs: &mut Regs, slot: Slot, active: u32, rows: &Self::Rows);
}

/// A 64-bit value as its two words. What needs no carry across words, or a simple one, fills vector registers better
/// this way than as a u64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Halves {
    pub low: u32,
    pub high: u32,
}

/// Lanes that live in the low bits of one row.
macro_rules! narrow {
    ($($t:ty: $from:expr, $to:expr;)*) => {$(
        impl Lane for $t {
            type View<'a> = &'a [u32; LANES];
            #[inline(always)]
            fn view(regs: &Regs, slot: Slot) -> Self::View<'_> {
                regs.row(slot)
            }
            #[inline(always)]
            fn at(view: &Self::View<'_>, lane: usize) -> Self {
                $from(view[lane])
            }
            #[inline(always)]
            fn put(regs: &mut Regs, slot: Slot, active: u32, value: &[Self; LANES]) {
                let row = each(|lane| $to(value[lane]));
                regs.set_row(slot, active, &row);
            }
            type Rows = [u32; LANES];
            #[inline(always)]
            fn rows() -> Self::Rows {
                [0; LANES]
            }
            #[inline(always)]
            fn keep(self, rows: &mut Self::Rows, lane: usize) {
                rows[lane] = $to(self);
            }
            #[inline(always)]
            fn put_rows(regs: &mut Regs, slot: Slot, active: u32, rows: &Self::Rows) {
                regs.set_row(slot, active, rows);
            }
        }
    )*};
}

narrow! {
    u32: |w| w, |v| v;
    i32: |w| w as i32, |v| v as u32;
    f32: f32::from_bits, f32::to_bits;
    u16: |w| w as u16, u32::from;
    i16: |w| w as i16, |v| v as u16 as u32;
    u8: |w| w as u8, u32::from;
    i8: |w| w as i8, |v| v as i32 as u32;
    f16: |w| f16::from_bits(w as u16), |v: f16| v.to_bits() as u32;
    bf16: |w| bf16::from_bits(w as u16), |v: bf16| v.to_bits() as u32;
}

/// Lanes that take two rows.
macro_rules! wide {
    ($($t:ty: $from:expr, $to:expr;)*) => {$(
        impl Lane for $t {
            type View<'a> = (&'a [u32; LANES], &'a [u32; LANES]);
            #[inline(always)]
            fn view(regs: &Regs, slot: Slot) -> Self::View<'_> {
                (regs.row(slot), regs.row(slot.high()))
            }
            #[inline(always)]
            fn at(view: &Self::View<'_>, lane: usize) -> Self {
                $from(Halves { low: view.0[lane], high: view.1[lane] })
            }
            #[inline(always)]
            fn put(regs: &mut Regs, slot: Slot, active: u32, value: &[Self; LANES]) {
                let mut rows = Self::rows();
                (0..LANES).for_each(|lane| value[lane].keep(&mut rows, lane));
                Self::put_rows(regs, slot, active, &rows);
            }
            type Rows = [[u32; LANES]; 2];
            #[inline(always)]
            fn rows() -> Self::Rows {
                [[0; LANES]; 2]
            }
            #[inline(always)]
            fn keep(self, rows: &mut Self::Rows, lane: usize) {
                let Halves { low, high } = $to(self);
                (rows[0][lane], rows[1][lane]) = (low, high);
            }
            #[inline(always)]
            fn put_rows(regs: &mut Regs, slot: Slot, active: u32, rows: &Self::Rows) {
                regs.set_row(slot, active, &rows[0]);
                regs.set_row(slot.high(), active, &rows[1]);
            }
        }
    )*};
}

wide! {
    Halves: |h| h, |v| v;
    u64: |h: Halves| h.whole(), Halves::of;
    i64: |h: Halves| h.whole() as i64, |v| Halves::of(v as u64);
    f64: |h: Halves| f64::from_bits(h.whole()), |v: f64| Halves::of(v.to_bits());
}

impl Halves {
    #[inline(always)]
    fn of(value: u64) -> Self {
        Self { low: value as u32, high: (value >> 32) as u32 }
    }

    #[inline(always)]
    fn whole(self) -> u64 {
        u64::from(self.low) | u64::from(self.high) << 32
    }
}

/// Predicates.
impl Lane for bool {
    type View<'a> = u32;
    #[inline(always)]
    fn view(regs: &Regs, slot: Slot) -> u32 {
        regs.mask(slot)
    }
    #[inline(always)]
    fn at(view: &u32, lane: usize) -> bool {
        view >> lane & 1 != 0
    }
    #[inline(always)]
    fn put(regs: &mut Regs, slot: Slot, active: u32, value: &[bool; LANES]) {
        let mask = value.iter().enumerate().fold(0, |mask, (lane, bit)| mask | u32::from(*bit) << lane);
        regs.set_mask(slot, active, mask);
    }
    type Rows = [bool; LANES];
    #[inline(always)]
    fn rows() -> Self::Rows {
        [false; LANES]
    }
    #[inline(always)]
    fn keep(self, rows: &mut Self::Rows, lane: usize) {
        rows[lane] = self;
    }
    #[inline(always)]
    fn put_rows(regs: &mut Regs, slot: Slot, active: u32, rows: &Self::Rows) {
        Self::put(regs, slot, active, rows);
    }
}

/// A value for each lane. Unlike `array::from_fn` it is always inlined, so that `f` can be compiled with the vector
/// instructions of its caller.
#[inline(always)]
pub fn each<T: Copy + Default>(f: impl Fn(usize) -> T) -> [T; LANES] {
    let mut out = [T::default(); LANES];
    for (lane, value) in out.iter_mut().enumerate() {
        *value = f(lane);
    }
    out
}

/// The lanes whose bit is set, in order.
#[inline(always)]
pub fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros() as usize;
        (mask != 0).then(|| {
            mask &= mask - 1;
            lane
        })
    })
}
