//! Which rows a step trains on, and a thread that has them ready.

use crate::base::rng::{Purpose, Stream};
use crate::base::{Error, Result};
use crate::data::store::Store;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Batches in flight: one that the step reads, one that is ready, one that is being filled.
const BUFFERS: usize = 3;

/// The rows that are trained on and those that never are: a function of their number alone, so that every run on a store
/// shares it and held-out losses can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub train: Vec<u32>,
    pub held_out: Vec<u32>,
}

impl Split {
    /// Holds out a tenth of `rows`, at most 10,000: one row, drawn at random, of each of as many equal stretches. Rows
    /// are sorted by class, so every class keeps its share.
    pub fn of(rows: u32) -> Split {
        let strata = u64::from((rows / 10).min(10_000));
        let start = |stratum: u64| stratum * u64::from(rows) / strata;
        let held_out: Vec<u32> = (0..strata)
            .map(|stratum| {
                let (start, end) = (start(stratum), start(stratum + 1));
                (start + Stream::new(0, stratum as u32, 0, Purpose::HeldOut).below(0, end - start)) as u32
            })
            .collect();
        let mut next = held_out.iter().copied().peekable();
        let train = (0..rows).filter(|&row| next.next_if_eq(&row).is_none()).collect();
        Split { train, held_out }
    }
}

/// The order in which rows are trained on: a new permutation every epoch, batches running on across its end.
///
/// A pure function of seed and step; the permutation of the current epoch is kept only to save time.
pub struct Order {
    rows: Vec<u32>,
    seed: u64,
    /// A step, and the images that come before its own.
    begin: (u64, u64),
    epoch: u32,
    shuffled: Vec<u32>,
}

impl Order {
    /// Panics without rows.
    pub fn new(rows: Vec<u32>, seed: u64) -> Order {
        assert!(!rows.is_empty(), "order: there is no row to train on");
        let shuffled = shuffle(&rows, epoch_stream(seed, 0));
        Order { rows, seed, begin: (0, 0), epoch: 0, shuffled }
    }

    /// The same order for steps from `step` on, before which `images` were seen in batches of other lengths.
    pub fn from(self, step: u64, images: u64) -> Order {
        Order { begin: (step, images), ..self }
    }

    /// Fills `batch` with the rows of `step`; all steps have batches of this length.
    pub fn step(&mut self, step: u64, batch: &mut [u32]) {
        let rows = self.rows.len() as u64;
        let position = self.begin.1 + (step - self.begin.0) * batch.len() as u64;
        for (position, row) in (position..).zip(batch) {
            let epoch = (position / rows) as u32;
            if epoch != self.epoch {
                self.shuffled = shuffle(&self.rows, epoch_stream(self.seed, epoch));
                self.epoch = epoch;
            }
            *row = self.shuffled[(position % rows) as usize];
        }
    }
}

fn epoch_stream(seed: u64, epoch: u32) -> Stream {
    Stream::new(seed, 0, epoch, Purpose::Shuffle)
}

/// Fisher and Yates's shuffle, with the draws of `stream`.
pub(super) fn shuffle(rows: &[u32], stream: Stream) -> Vec<u32> {
    let mut shuffled = rows.to_vec();
    for last in (1..shuffled.len()).rev() {
        shuffled.swap(last, stream.below(last as u32, last as u64 + 1) as usize);
    }
    shuffled
}

/// What one step trains on.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub step: u64,
    pub rows: Vec<u32>,   // (B), of the store
    pub labels: Vec<u32>, // (B)
    pub values: Vec<f32>, // (B, C, H, W)
}

/// Batches, step after step, read ahead by a thread of its own so that no step waits for the disk.
pub struct Loader {
    current: Option<Batch>,
    filled: Option<Receiver<Result<Batch>>>,
    empty: Option<SyncSender<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Batches of `batch` rows in the order of `order`, from step `first` on. Fails where they do not fit in memory.
    pub fn start(store: Arc<Store>, mut order: Order, batch: usize, first: u64) -> Result<Loader> {
        assert!(batch > 0, "loader: a batch has at least one row");
        let (to_loader, empty) = sync_channel::<Batch>(BUFFERS);
        let (to_step, filled) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            let (rows, labels) = (zeros(batch, 1)?, zeros(batch, 1)?);
            let values = zeros(batch, store.width())?;
            to_loader.send(Batch { step: 0, rows, labels, values }).expect("its receiver is still here");
        }
        let work = move || {
            for (step, mut batch) in (first..).zip(empty) {
                batch.step = step;
                order.step(step, &mut batch.rows);
                batch.labels.iter_mut().zip(&batch.rows).for_each(|(label, &row)| *label = store.label(row));
                let read = store.read(&batch.rows, &mut batch.values).map(|()| batch);
                let stop = read.is_err();
                if to_step.send(read).is_err() || stop {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("loader".into()).spawn(work);
        let thread = thread.map_err(|error| Error::Device(format!("loader: its thread cannot be started: {error}")))?;
        Ok(Loader { current: None, filled: Some(filled), empty: Some(to_loader), thread: Some(thread) })
    }

    /// The batch of the next step; it is valid until the next call, when its memory is filled again.
    pub fn next_batch(&mut self) -> Result<&Batch> {
        if let (Some(done), Some(empty)) = (self.current.take(), &self.empty) {
            // A loader that has stopped says why below.
            let _ = empty.send(done);
        }
        let next = self.filled.as_ref().and_then(|filled| filled.recv().ok());
        let next =
            next.unwrap_or_else(|| Err(Error::Data("loader: it stopped after an error; see its first message".into())));
        Ok(self.current.insert(next?))
    }
}

/// `batch` rows of `width` zeros each, or an error where they do not fit.
fn zeros<T: Clone + Default>(batch: usize, width: usize) -> Result<Vec<T>> {
    let mut zeros = Vec::new();
    if batch.checked_mul(width).is_none_or(|values| zeros.try_reserve_exact(values).is_err()) {
        let what = format_args!("{BUFFERS} batches of {batch} rows of {width} values are read ahead");
        return Err(Error::Memory(format!("out of memory: {what}; lower train.batch_size")));
    }
    zeros.resize(batch * width, T::default());
    Ok(zeros)
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Without its channels the thread ends at its next batch.
        self.filled = None;
        self.empty = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fashion_mnist;

    fn rows_of_step(order: &mut Order, step: u64, batch: usize) -> Vec<u32> {
        let mut rows = vec![0; batch];
        order.step(step, &mut rows);
        rows
    }

    #[test]
    fn every_epoch_visits_every_row_once_in_an_order_of_its_own() {
        let mut order = Order::new((100..200).collect(), 7);
        let mut epochs: Vec<Vec<u32>> = (0..3).map(|epoch| rows_of_step(&mut order, epoch, 100)).collect();
        assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2] && epochs[0] != epochs[2]);
        for epoch in &mut epochs {
            epoch.sort();
            assert_eq!(*epoch, (100..200).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_step_does_not_depend_on_the_steps_before_it() {
        let mut walked = Order::new((0..50).collect(), 7);
        let steps: Vec<_> = (0..40).map(|step| rows_of_step(&mut walked, step, 7)).collect();
        for step in [39, 0, 7, 8, 20, 7] {
            let mut fresh = Order::new((0..50).collect(), 7);
            assert_eq!(rows_of_step(&mut fresh, step, 7), steps[step as usize], "step {step}");
            assert_eq!(rows_of_step(&mut walked, step, 7), steps[step as usize], "step {step}");
        }
        assert_ne!(rows_of_step(&mut Order::new((0..50).collect(), 8), 0, 7), steps[0]);
    }

    #[test]
    fn the_order_of_rows_does_not_depend_on_the_batch() {
        let rows = |batch: usize| -> Vec<u32> {
            let mut order = Order::new((0..50).collect(), 3);
            (0..210 / batch as u64).flat_map(|step| rows_of_step(&mut order, step, batch)).collect()
        };
        assert_eq!(rows(7), rows(70));
        assert_eq!(rows(7), rows(1));
        // Ten steps of 7, then steps of 20.
        let mut order = Order::new((0..50).collect(), 3).from(10, 70);
        let later: Vec<u32> = (10..17).flat_map(|step| rows_of_step(&mut order, step, 20)).collect();
        assert_eq!(rows(7)[70..], later);
    }

    #[test]
    fn a_shuffle_is_uniform_over_the_permutations() {
        let mut counts = [0u32; 24];
        let epochs = 24_000;
        for epoch in 0..epochs {
            let p = shuffle(&[0, 1, 2, 3], epoch_stream(11, epoch));
            let rank = |i: usize| p[i + 1..].iter().filter(|&&later| later < p[i]).count();
            counts[rank(0) * 6 + rank(1) * 2 + rank(2)] += 1;
        }
        // Chi-squared with 23 degrees of freedom exceeds 49.73 once in a thousand seeds.
        let expected = f64::from(epochs) / 24.0;
        let chi: f64 = counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
        assert!(chi < 49.73, "{chi}: {counts:?}");
    }

    #[test]
    fn the_split_parts_the_rows_and_keeps_the_share_of_every_class() {
        for rows in [1, 9, 10, 11, 999, 10_000, 250_001] {
            let split = Split::of(rows);
            assert_eq!(split.held_out.len(), (rows as usize / 10).min(10_000));
            let mut all = [split.train, split.held_out].concat();
            all.sort();
            assert_eq!(all, (0..rows).collect::<Vec<_>>());
        }
        let classes =
            Split::of(10_000).held_out.chunk_by(|a, b| a / 1000 == b / 1000).map(<[u32]>::len).collect::<Vec<_>>();
        assert_eq!(classes, [100; 10]);
    }

    #[test]
    fn batches_come_in_order_with_the_values_and_labels_of_their_rows() {
        let store = Arc::new(fashion_mnist().unwrap());
        let split = Split::of(store.rows());
        let order = || Order::new(split.train.clone(), 1);
        let mut loader = Loader::start(store.clone(), order(), 64, 139).unwrap();
        // 9,000 rows end within step 140.
        for step in 139..150 {
            let batch = loader.next_batch().unwrap();
            assert_eq!((batch.step, &batch.rows), (step, &rows_of_step(&mut order(), step, 64)));
            let mut values = vec![0.0; 64 * 784];
            store.read(&batch.rows, &mut values).unwrap();
            assert_eq!(batch.values, values);
            assert!(batch.rows.iter().zip(&batch.labels).all(|(&row, &label)| label == row / 1000));
        }
    }

    #[test]
    fn batches_that_no_memory_holds_are_refused() {
        let store = Arc::new(fashion_mnist().unwrap());
        for batch in [1 << 50, usize::MAX] {
            let refused = Loader::start(store.clone(), Order::new(vec![0], 1), batch, 0).err().unwrap();
            assert_eq!(refused.exit_code(), 5, "{refused}");
        }
    }

    #[test]
    fn a_store_that_fails_ends_the_loader_with_its_message() {
        let scratch = crate::data::scratch::Scratch::new();
        let path = scratch.file("store", &crate::data::embedded::bytes().unwrap());
        let store = Arc::new(Store::open(&path).unwrap());
        std::fs::File::options().write(true).open(&path).unwrap().set_len(5_000_000).unwrap();
        let mut loader = Loader::start(store, Order::new((9000..10_000).collect(), 1), 8, 0).unwrap();
        let message = loader.next_batch().unwrap_err().to_string();
        assert!(
            message.contains("store: 784 bytes are needed at offset") && message.contains("ends at 5000000"),
            "{message}"
        );
        assert!(loader.next_batch().is_err());
    }
}
