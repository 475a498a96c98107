//! Which rows can matter to a query, by one pass over the slices.

use super::digits::Digits;
use super::{Facts, LEAF, Query, Rows, products};
use crate::device::{Chunks, Cpu};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Leaves of a task.
const TASK: usize = 8;
/// Of the size of the terms of a logit, what their rounding in f64 may be, and then some.
const ROUNDING: f64 = 1e-12;

/// What is asked of [`select`].
#[derive(Clone, Copy, Debug)]
pub struct Select {
    /// Rows whose logit is certainly this much below the largest are left out.
    pub cut: f64,
    /// How many nearest rows must be among those that are found.
    pub nearest: usize,
    /// The dimensions of the data, where the row whose distance is closest to `sigma sqrt d` is looked for.
    pub shell: Option<f64>,
}

/// What was found for a query, ascending; it depends on the query and the rows alone.
#[derive(Debug, Default)]
pub struct Selected {
    /// Every row whose logit is not certainly below the largest by the cut.
    pub rows: Vec<u32>,
    /// A superset of the nearest rows.
    pub nearest: Vec<u32>,
    /// A superset of the rows whose distance is closest to `sigma sqrt d`.
    pub shell: Vec<u32>,
}

/// Finds the rows in `range` that can matter to each query.
pub fn select(cpu: &Cpu, rows: &Rows<'_>, range: Range<usize>, queries: &[Query<'_>], what: Select) -> Vec<Selected> {
    let digits: Vec<Digits> = queries.iter().map(|&query| Digits::new(query, 1)).collect();
    let terms: Vec<Terms> =
        queries.iter().zip(&digits).map(|(&query, digits)| Terms::new(query, digits, rows.center, what)).collect();
    let digits = digits.iter().flat_map(|digits| &digits.digits).copied().collect::<Vec<i8>>();
    let known: Vec<Known> = queries.iter().map(|_| Known::default()).collect();
    let mut tasks: Vec<Vec<Found>> = (0..range.len().div_ceil(TASK * LEAF)).map(|_| vec![]).collect();
    cpu.threads.each(Chunks::new(&mut tasks, 1), 1, |task, found| {
        let mut sums = vec![0.0; queries.len() * LEAF];
        found[0] = queries.iter().map(|_| Found::default()).collect();
        let start = range.start + task * TASK * LEAF;
        for first in (start..range.end.min(start + TASK * LEAF)).step_by(LEAF) {
            let leaf = first..range.end.min(first + LEAF);
            products(cpu.isa(), rows.slices(leaf.clone()), &digits, rows.width, &mut sums);
            let facts = Leaf::new(&rows.facts[leaf]);
            for (((found, terms), known), sums) in found[0].iter_mut().zip(&terms).zip(&known).zip(sums.as_chunks().0) {
                found.leaf(cpu, first as u32, facts.bounds(cpu, terms, sums), terms, known, what);
            }
        }
    });
    (0..queries.len()).map(|q| joined(tasks.iter_mut().map(|task| &mut task[q]), &known[q], what)).collect()
}

/// The numbers of a query that make bounds of sums.
#[derive(Clone, Copy)]
struct Terms {
    /// kappa times the step of the digits.
    step: f64,
    /// What the center of the slices adds to each sum.
    shift: f64,
    /// kappa alpha / 2.
    half: f64,
    /// kappa times the length of what the digits leave out.
    rest: f64,
    /// kappa |z|.
    length: f64,
    /// |z|^2 / 2 sigma^2.
    own: f64,
    /// The logit, without `own`, at which a distance is r sigma sqrt d is `own - r^2 d / 2`.
    dimensions: f64,
}

impl Terms {
    fn new(query: Query<'_>, digits: &Digits, center: f64, what: Select) -> Terms {
        let kappa = query.kappa();
        Terms {
            step: kappa * digits.steps[0],
            shift: center * digits.sums[0],
            half: 0.5 * kappa * query.alpha,
            rest: kappa * digits.rest_length,
            length: kappa * digits.length,
            own: -query.logit(digits.length * digits.length),
            dimensions: what.shell.unwrap_or(0.0),
        }
    }
}

/// The facts of the rows of a leaf, one array each.
struct Leaf {
    rows: usize,
    scale: [f64; LEAF],
    square: [f64; LEAF],
    length: [f64; LEAF],
    residual: [f64; LEAF],
}

/// Lower and upper bounds of the logits of a leaf, up to the query's own term, and the largest of both.
struct Bounds {
    rows: usize,
    lower: [f64; LEAF],
    upper: [f64; LEAF],
    largest: [f64; 2],
}

impl Leaf {
    fn new(facts: &[Facts]) -> Leaf {
        let mut leaf = Leaf {
            rows: facts.len(),
            scale: [0.0; LEAF],
            square: [0.0; LEAF],
            length: [0.0; LEAF],
            residual: [0.0; LEAF],
        };
        for (i, facts) in facts.iter().enumerate() {
            leaf.scale[i] = facts.scale;
            leaf.square[i] = facts.square;
            leaf.length[i] = facts.length;
            leaf.residual[i] = facts.residual;
        }
        leaf
    }

    fn bounds(&self, cpu: &Cpu, terms: &Terms, sums: &[f64; LEAF]) -> Bounds {
        let mut bounds =
            Bounds { rows: self.rows, lower: [0.0; LEAF], upper: [0.0; LEAF], largest: [f64::NEG_INFINITY; 2] };
        bound(cpu.isa(), self, terms, sums, &mut bounds);
        let largest = |bounds: &[f64]| bounds[..self.rows].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        bounds.largest = [largest(&bounds.lower), largest(&bounds.upper)];
        bounds
    }
}

vectorised! {
    fn bound(leaf: &Leaf, terms: &Terms, sums: &[f64; LEAF], bounds: &mut Bounds) {
        for (i, sum) in sums.iter().enumerate() {
            let product = terms.step * leaf.scale[i] * (sum - terms.shift);
            let square = terms.half * leaf.square[i];
            let size = terms.length * leaf.length[i];
            // The sum and the shift cancel each other, so what they round is of the size of both.
            let shift = (terms.step * leaf.scale[i] * terms.shift).abs();
            let error = terms.rest * leaf.length[i] + terms.length * leaf.residual[i]
                + ROUNDING * (size + square + terms.own + shift);
            bounds.lower[i] = product - square - error;
            bounds.upper[i] = product - square + error;
        }
    }
}

/// What all tasks know of a query; each value only rises.
struct Known {
    /// A lower bound of the largest logit.
    best: Rising,
    /// A lower bound of the logit of the last of the nearest rows.
    last: Rising,
    /// Minus an upper bound of the smallest distance to the shell.
    shell: Rising,
}

impl Default for Known {
    fn default() -> Known {
        let lowest = || Rising(AtomicU64::new(f64::NEG_INFINITY.to_bits()));
        Known { best: lowest(), last: lowest(), shell: lowest() }
    }
}

struct Rising(AtomicU64);

impl Rising {
    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn raise(&self, value: f64) {
        let higher = |bits| (value > f64::from_bits(bits)).then(|| value.to_bits());
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, higher);
    }
}

/// A row and the bound by which it is judged at the end.
type Candidate = (u32, f64);

/// What a task has found for a query.
#[derive(Default)]
struct Found {
    /// With the upper bounds of their logits.
    rows: Vec<Candidate>,
    /// With minus the lower bounds of their distances to the shell.
    shell: Vec<Candidate>,
    /// The largest lower bounds of logits, as many as nearest rows are asked for.
    nearest: BinaryHeap<Reverse<Ordered>>,
}

struct Ordered(f64);

impl PartialEq for Ordered {
    fn eq(&self, other: &Ordered) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Ordered) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Ordered) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Found {
    fn leaf(&mut self, cpu: &Cpu, first: u32, bounds: Bounds, terms: &Terms, known: &Known, what: Select) {
        known.best.raise(bounds.largest[0]);
        let rows = bounds.rows;
        if what.nearest > 0 {
            self.rank(&bounds, known, what.nearest);
        }
        let least = threshold(known, what);
        if bounds.largest[1] >= least {
            let kept = (0..rows).filter(|&i| bounds.upper[i] >= least);
            self.rows.extend(kept.map(|i| (first + i as u32, bounds.upper[i])));
        }
        if what.shell.is_some() {
            let (mut near, mut far) = ([0.0; LEAF], [0.0; LEAF]);
            shell(cpu.isa(), terms, &bounds, &mut near, &mut far);
            known.shell.raise(-far[..rows].iter().copied().fold(f64::INFINITY, f64::min));
            let least = known.shell.get();
            let kept = (0..rows).filter(|&i| -near[i] >= least);
            self.shell.extend(kept.map(|i| (first + i as u32, -near[i])));
        }
    }

    /// Keeps the `count` largest lower bounds.
    fn rank(&mut self, bounds: &Bounds, known: &Known, count: usize) {
        let last = |heap: &BinaryHeap<Reverse<Ordered>>| match heap.peek() {
            Some(Reverse(Ordered(last))) if heap.len() == count => *last,
            _ => f64::NEG_INFINITY,
        };
        if bounds.largest[0] <= last(&self.nearest) {
            return;
        }
        for &lower in &bounds.lower[..bounds.rows] {
            if lower > last(&self.nearest) || self.nearest.len() < count {
                self.nearest.push(Reverse(Ordered(lower)));
                if self.nearest.len() > count {
                    self.nearest.pop();
                }
            }
        }
        known.last.raise(last(&self.nearest));
    }
}

vectorised! {
    /// Bounds of `||z - alpha x| / sigma sqrt d - 1|`.
    fn shell(terms: &Terms, bounds: &Bounds, near: &mut [f64; LEAF], far: &mut [f64; LEAF]) {
        for i in 0..LEAF {
            let ratio = |logit: f64| {
                let squared = 2.0 * (terms.own - logit) / terms.dimensions;
                (if squared > 0.0 { squared } else { 0.0 }).sqrt() - 1.0
            };
            let (high, low) = (ratio(bounds.lower[i]), ratio(bounds.upper[i]));
            let (a, b) = (low.abs(), high.abs());
            let rounding = 1e-12 * (1.0 + b);
            near[i] = if low < 0.0 && high > 0.0 { 0.0 } else { (if a < b { a } else { b }) - rounding };
            far[i] = (if a > b { a } else { b }) + rounding;
        }
    }
}

/// The upper bound below which a row matters to nobody.
fn threshold(known: &Known, what: Select) -> f64 {
    let mass = known.best.get() - what.cut;
    if what.nearest > 0 { mass.min(known.last.get()) } else { mass }
}

/// What another device's bounds say of a query: those of leaves first, then those of the rows of every leaf that may matter.
pub struct Sieve {
    terms: Terms,
    what: Select,
    known: Known,
    found: Found,
}

/// Of a leaf: the largest lower and upper bound of a logit, and of minus the upper and the lower bound of a distance to the
/// shell.
pub type Extremes = [f64; 4];

impl Sieve {
    /// For `query`, whose only digits are `digits`, and slices around `center`.
    pub fn new(query: Query<'_>, digits: &Digits, center: f64, what: Select) -> Sieve {
        let terms = Terms::new(query, digits, center, what);
        Sieve { terms, what, known: Known::default(), found: Found::default() }
    }

    /// The numbers that make bounds of sums, as `Terms` in `kernels/score/bounds.cuh`.
    pub fn terms(&self) -> [f64; 8] {
        let Terms { step, shift, half, rest, length, own, dimensions } = self.terms;
        [step, shift, half, rest, length, own, dimensions, 0.0]
    }

    /// The leaves that may hold a row that matters, ascending.
    pub fn leaves(&self, extremes: &[Extremes]) -> Vec<u32> {
        let (mut lowers, nearest) = (extremes.iter().map(|leaf| leaf[0]).collect::<Vec<f64>>(), self.what.nearest);
        self.known.best.raise(lowers.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        // Each is the bound of a row of its own.
        if (1..=lowers.len()).contains(&nearest) {
            self.known.last.raise(*lowers.select_nth_unstable_by(nearest - 1, |a, b| b.total_cmp(a)).1);
        }
        self.known.shell.raise(extremes.iter().map(|leaf| leaf[2]).fold(f64::NEG_INFINITY, f64::max));
        let (least, shell) = (threshold(&self.known, self.what), self.known.shell.get());
        let matters = |leaf: &Extremes| leaf[1] >= least || (self.what.shell.is_some() && leaf[3] >= shell);
        (0..).zip(extremes).filter(|(_, leaf)| matters(leaf)).map(|(i, _)| i).collect()
    }

    /// Takes the bounds of the rows of a leaf, the first of which is `first`.
    pub fn leaf(&mut self, cpu: &Cpu, first: u32, lower: &[f64], upper: &[f64]) {
        let mut bounds = Bounds {
            rows: lower.len(),
            lower: [f64::NEG_INFINITY; LEAF],
            upper: [f64::NEG_INFINITY; LEAF],
            largest: [lower, upper].map(|all| all.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        };
        bounds.lower[..lower.len()].copy_from_slice(lower);
        bounds.upper[..upper.len()].copy_from_slice(upper);
        self.found.leaf(cpu, first, bounds, &self.terms, &self.known, self.what);
    }

    pub fn finish(mut self) -> Selected {
        joined([&mut self.found].into_iter(), &self.known, self.what)
    }
}

/// Joins what the tasks found, judged by what all know in the end.
fn joined<'a>(tasks: impl Iterator<Item = &'a mut Found>, known: &Known, what: Select) -> Selected {
    let (mut rows, mut shell, mut lowers) = (vec![], vec![], vec![]);
    for task in tasks {
        rows.append(&mut task.rows);
        shell.append(&mut task.shell);
        lowers.extend(task.nearest.drain().map(|lower| lower.0.0));
    }
    let kept = |candidates: &[Candidate], least: f64| -> Vec<u32> {
        candidates.iter().filter(|candidate| candidate.1 >= least).map(|candidate| candidate.0).collect()
    };
    let nearest = match what.nearest {
        0 => vec![],
        count => {
            let last = if lowers.len() < count {
                f64::NEG_INFINITY
            } else {
                *lowers.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
            };
            kept(&rows, last)
        }
    };
    Selected { rows: kept(&rows, known.best.get() - what.cut), nearest, shell: kept(&shell, known.shell.get()) }
}
