use super::Parts;
use crate::base::{Error, Result};
use std::any::Any;
use std::cell::Cell;
use std::num::NonZero;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// How often a waiting thread looks again before it sleeps or yields: a few tens of microseconds, the gap between two
/// kernels.
const SPINS: usize = 20_000;

thread_local! {
    /// Whether this thread is inside a task.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// A team of threads that run the tasks of one kernel at a time; the caller is one of them.
///
/// Tasks are handed out by a counter, so a slow thread takes fewer. A kernel must give the same bits whichever thread
/// runs a task: a sum that tasks share is cut into blocks that do not depend on the threads, and added in order.
pub struct Threads {
    team: Arc<Team>,
    handles: Vec<JoinHandle<()>>,
    /// One kernel at a time: two callers of one device take turns.
    turn: Mutex<()>,
}

struct Team {
    /// The number of the kernel in the upper half, its next task in the lower: a thread that comes late to a kernel finds
    /// another number and takes nothing.
    ticket: AtomicU64,
    kernel: Mutex<Option<Kernel>>,
    /// Tasks of the kernel that have ended.
    done: AtomicUsize,
    /// What the first task that panicked left.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
    /// Looks before sleep: none where threads share cores, since a look then takes time from a task.
    spins: usize,
}

#[derive(Clone, Copy)]
struct Kernel {
    number: u32,
    task: *const (dyn Fn(usize) + Sync),
    tasks: u32,
}

// SAFETY: the pointee is `Sync`, and it is only followed for a task that was taken, which `Threads::run` waits for.
unsafe impl Send for Kernel {}

impl Threads {
    /// A team of `count` threads, the caller included.
    pub fn new(count: usize) -> Result<Threads> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let team = Arc::new(Team {
            ticket: AtomicU64::new(0),
            kernel: Mutex::new(None),
            done: AtomicUsize::new(0),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            spins: if count <= cores { SPINS } else { 0 },
        });
        let mut threads = Threads { team, handles: vec![], turn: Mutex::new(()) };
        for i in 1..count {
            let team = threads.team.clone();
            let spawned = std::thread::Builder::new().name(format!("engine-{i}")).spawn(move || team.work());
            let handle = spawned.map_err(|error| {
                Error::Device(format!("thread {} of {count} cannot be started: {error}; lower --threads", i + 1))
            })?;
            threads.handles.push(handle);
        }
        Ok(threads)
    }

    /// How many threads run a kernel.
    pub fn count(&self) -> usize {
        self.handles.len() + 1
    }

    /// Runs `task(0)` to `task(tasks - 1)`, each once, and returns when all are done.
    ///
    /// # Panics
    /// With the payload of the first task that panicked; and if a task starts a kernel of its own.
    pub fn run(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        if tasks <= 1 || self.handles.is_empty() {
            (0..tasks).for_each(task);
            return;
        }
        assert!(!IN_TASK.get(), "a task must not start a kernel: it would wait for itself");
        let tasks = u32::try_from(tasks).expect("a kernel has fewer than 2^32 tasks");
        let _turn = lock(&self.turn);
        let team = &*self.team;
        let task: &(dyn Fn(usize) + Sync) = &task;
        // SAFETY: only the lifetime changes. The pointer is followed for taken tasks alone, and this frame does not end
        // before all of them have: nothing below unwinds until `done` has reached `tasks`.
        let task = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(task)
        };
        let number = ((team.ticket.load(Ordering::Relaxed) >> 32) as u32).wrapping_add(1);
        let kernel = Kernel { number, task, tasks };
        *lock(&team.kernel) = Some(kernel);
        team.done.store(0, Ordering::Relaxed);
        team.ticket.store(u64::from(number) << 32, Ordering::Release);
        {
            // Taken so that a worker between its last look and its sleep cannot miss the call.
            let _sleep = lock(&team.sleep);
            team.wake.notify_all();
        }
        team.take_tasks(kernel);
        let mut spins = 0;
        while team.done.load(Ordering::Acquire) < tasks as usize {
            spins += 1;
            if spins < team.spins { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        let panic = lock(&team.panic).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Splits `0..n` into ranges of at least `grain`, a few per thread, and runs `task` on each.
    pub fn ranges(&self, n: usize, grain: usize, task: impl Fn(Range<usize>) + Sync) {
        let size = grain.max(n.div_ceil(4 * self.count())).max(1);
        self.run(n.div_ceil(size), |i| task(i * size..n.min((i + 1) * size)));
    }

    /// Runs `task` on every chunk of `parts`, with the chunk's index; `grain` chunks at least go to one task.
    ///
    /// `parts` is a [`Chunks`](super::Chunks) or a tuple of them that advance together.
    pub fn each<P: Parts>(&self, parts: P, grain: usize, task: impl Fn(usize, P::Item) + Sync) {
        let n = parts.count();
        self.ranges(n, grain, |range| {
            for i in range {
                // SAFETY: `ranges` covers `0..n` with disjoint ranges, so each index is taken once.
                task(i, unsafe { parts.take(i) });
            }
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Team {
    fn number(&self) -> u32 {
        (self.ticket.load(Ordering::Acquire) >> 32) as u32
    }

    fn work(&self) {
        let mut seen = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let mut spins = 0;
            while self.number() == seen && !self.stop.load(Ordering::Relaxed) {
                spins += 1;
                if spins < self.spins {
                    std::hint::spin_loop();
                    continue;
                }
                let mut sleep = lock(&self.sleep);
                while self.number() == seen && !self.stop.load(Ordering::Relaxed) {
                    sleep = self.wake.wait(sleep).unwrap_or_else(|poisoned| poisoned.into_inner());
                }
            }
            let kernel = *lock(&self.kernel);
            if let Some(kernel) = kernel {
                seen = kernel.number;
                self.take_tasks(kernel);
            }
        }
    }

    fn take_tasks(&self, kernel: Kernel) {
        while let Some(i) = self.take(kernel) {
            // SAFETY: the task was taken, so `Threads::run` keeps the closure alive until it is counted below.
            let task = unsafe { &*kernel.task };
            IN_TASK.set(true);
            let result = catch_unwind(AssertUnwindSafe(|| task(i)));
            IN_TASK.set(false);
            if let Err(payload) = result {
                lock(&self.panic).get_or_insert(payload);
            }
            self.done.fetch_add(1, Ordering::Release);
        }
    }

    /// The next task of `kernel`, if it is still the current one and has any left.
    fn take(&self, kernel: Kernel) -> Option<usize> {
        let next = |ticket: u64| {
            let current = (ticket >> 32) as u32 == kernel.number && (ticket as u32) < kernel.tasks;
            current.then(|| ticket + 1)
        };
        let taken = self.ticket.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        taken.ok().map(|ticket| ticket as u32 as usize)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.team.stop.store(true, Ordering::Relaxed);
        drop(lock(&self.team.sleep));
        self.team.wake.notify_all();
        for handle in self.handles.drain(..) {
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for count in [1, 2, 5] {
            let threads = Threads::new(count).unwrap();
            for tasks in [0, 1, 2, 7, 1000] {
                let hits: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                threads.run(tasks, |i| {
                    hits[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_with_its_payload_and_the_team_survives() {
        let threads = Threads::new(4).unwrap();
        for planted in [1, 64] {
            for _ in 0..50 {
                let result = catch_unwind(AssertUnwindSafe(|| {
                    threads.run(64, |i| {
                        if i < planted {
                            std::panic::panic_any("planted");
                        }
                    });
                }));
                assert_eq!(result.unwrap_err().downcast_ref(), Some(&"planted"));
                let sum = AtomicUsize::new(0);
                threads.run(64, |i| {
                    sum.fetch_add(i, Ordering::Relaxed);
                });
                assert_eq!(sum.into_inner(), 63 * 32);
            }
        }
    }

    #[test]
    #[should_panic(expected = "must not start a kernel")]
    fn a_task_that_starts_a_kernel_is_told() {
        let threads = Threads::new(2).unwrap();
        threads.run(2, |_| threads.run(2, |_| {}));
    }
}
