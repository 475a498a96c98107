use super::Parts;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// How often an idle thread looks for work before it sleeps: a few tens of microseconds, the gap between two kernels.
const SPINS: usize = 20_000;

/// A team of threads that run the tasks of one kernel at a time; the caller is one of them.
///
/// Tasks are handed out by a counter, so a slow thread takes fewer. A kernel must give the same bits whichever thread
/// runs a task: it may split outputs between tasks, never a sum.
pub struct Threads {
    team: Arc<Team>,
    handles: Vec<JoinHandle<()>>,
    /// One kernel at a time: two callers of one device take turns.
    turn: Mutex<()>,
}

struct Team {
    /// Counts the kernels started; a worker that sees it move has work.
    epoch: AtomicUsize,
    /// The current kernel, valid while `busy` workers have not yet left it.
    kernel: Mutex<Option<Kernel>>,
    next: AtomicUsize,
    busy: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
}

#[derive(Clone, Copy)]
struct Kernel {
    task: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

// SAFETY: the pointee is `Sync`, and `Threads::run` keeps it alive until every worker has left the kernel.
unsafe impl Send for Kernel {}

impl Threads {
    /// A team of `count` threads, the caller included.
    pub fn new(count: usize) -> Threads {
        let team = Arc::new(Team {
            epoch: AtomicUsize::new(0),
            kernel: Mutex::new(None),
            next: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        let handles = (1..count)
            .map(|i| {
                let team = team.clone();
                let name = format!("engine-{i}");
                std::thread::Builder::new().name(name).spawn(move || team.work()).expect("a thread can be started")
            })
            .collect();
        Threads { team, handles, turn: Mutex::new(()) }
    }

    /// How many threads run a kernel.
    pub fn count(&self) -> usize {
        self.handles.len() + 1
    }

    /// Runs `task(0)` to `task(tasks - 1)`, each once, and returns when all are done.
    ///
    /// A task must not start a kernel of its own on the same team.
    pub fn run(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        if tasks <= 1 || self.handles.is_empty() {
            (0..tasks).for_each(task);
            return;
        }
        let _turn = self.turn.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let team = &*self.team;
        let task: &(dyn Fn(usize) + Sync) = &task;
        // SAFETY: only the lifetime changes. The guard below waits for every worker to leave the kernel before this frame
        // ends, by return or by panic, so the pointer never outlives the closure.
        let task = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(task)
        };
        let kernel = Kernel { task, tasks };
        *team.kernel.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(kernel);
        team.next.store(0, Ordering::Relaxed);
        // Where the caller's own task panicked as well, nobody has looked at the last kernel's flag.
        team.panicked.store(false, Ordering::Relaxed);
        team.busy.store(self.handles.len(), Ordering::Relaxed);
        team.epoch.fetch_add(1, Ordering::Release);
        {
            // Taken so that a worker between its last look and its sleep cannot miss the call.
            let _sleep = team.sleep.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            team.wake.notify_all();
        }
        struct Leave<'a>(&'a Team);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                // A panic in the caller's own task leaves the rest of the counter to the workers.
                while self.0.busy.load(Ordering::Acquire) > 0 {
                    std::hint::spin_loop();
                }
            }
        }
        let leave = Leave(team);
        team.take_tasks(kernel);
        drop(leave);
        assert!(!team.panicked.swap(false, Ordering::Relaxed), "a task of a kernel panicked; its message is above");
    }

    /// Splits `0..n` into ranges of at least `grain`, a few per thread, and runs `task` on each.
    pub fn ranges(&self, n: usize, grain: usize, task: impl Fn(Range<usize>) + Sync) {
        let size = grain.max(n.div_ceil(4 * self.count())).max(1);
        self.run(n.div_ceil(size), |i| task(i * size..n.min((i + 1) * size)));
    }

    /// Runs `task` on every chunk of `parts`, with the chunk's index; `grain` chunks at least go to one task.
    ///
    /// `parts` is a [`Chunks`] or a tuple of them that advance together.
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

impl Team {
    fn work(&self) {
        let mut seen = 0;
        loop {
            let mut spins = 0;
            while self.epoch.load(Ordering::Acquire) == seen {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                spins += 1;
                if spins < SPINS {
                    std::hint::spin_loop();
                    continue;
                }
                let mut sleep = self.sleep.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                while self.epoch.load(Ordering::Acquire) == seen && !self.stop.load(Ordering::Relaxed) {
                    sleep = self.wake.wait(sleep).unwrap_or_else(|poisoned| poisoned.into_inner());
                }
            }
            seen = self.epoch.load(Ordering::Acquire);
            let kernel = *self.kernel.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let kernel = kernel.expect("an epoch has a kernel");
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.take_tasks(kernel))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.busy.fetch_sub(1, Ordering::Release);
        }
    }

    fn take_tasks(&self, kernel: Kernel) {
        // SAFETY: `Threads::run` keeps the closure alive until this call has returned in every thread.
        let task = unsafe { &*kernel.task };
        loop {
            let i = self.next.fetch_add(1, Ordering::Relaxed);
            if i >= kernel.tasks {
                return;
            }
            task(i);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.team.stop.store(true, Ordering::Relaxed);
        drop(self.team.sleep.lock());
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
            let threads = Threads::new(count);
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
    fn a_panic_in_a_task_reaches_the_caller_and_the_team_survives() {
        let threads = Threads::new(4);
        for _ in 0..50 {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                threads.run(64, |i| assert!(i != 13, "planted"));
            }));
            assert!(result.is_err());
            let sum = AtomicUsize::new(0);
            threads.run(64, |i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 63 * 32);
        }
    }
}
