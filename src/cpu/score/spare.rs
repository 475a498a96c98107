use super::Weights;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Memory that one pass leaves to the next: new pages of the size of all logits take longer to come than their logits.
#[derive(Default)]
pub struct Spare {
    logits: Mutex<Vec<Vec<f64>>>,
    digits: Mutex<Vec<i8>>,
    weights: Mutex<Vec<f32>>,
}

impl Spare {
    /// Arrays of arbitrary content.
    pub fn logits(&self, arrays: usize, count: usize) -> Vec<Vec<f64>> {
        let mut spare = lock(&self.logits);
        (0..arrays).map(|_| sized(spare.pop().unwrap_or_default(), count)).collect()
    }

    /// Takes back what began as logits.
    pub fn keep_logits(&self, weights: Weights) {
        lock(&self.logits).push(weights.weights);
    }

    pub fn digits(&self, count: usize) -> Vec<i8> {
        sized(std::mem::take(&mut lock(&self.digits)), count)
    }

    pub fn keep_digits(&self, digits: Vec<i8>) {
        *lock(&self.digits) = digits;
    }

    pub fn weights(&self, count: usize) -> Vec<f32> {
        sized(std::mem::take(&mut lock(&self.weights)), count)
    }

    pub fn keep_weights(&self, weights: Vec<f32>) {
        *lock(&self.weights) = weights;
    }
}

fn sized<T: Copy + Default>(mut memory: Vec<T>, count: usize) -> Vec<T> {
    memory.resize(count, T::default());
    memory
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
