//! Threads for what takes long. Jobs of one key run in the order they were submitted, one at a time; jobs of
//! different keys, and jobs without one, run as threads come free.
//!
//! The queue is not bounded here: a job exists for each request the kernel has sent and not had answered, and the
//! kernel bounds those. A panicking job takes nothing with it: its reply is dropped, which answers with an error,
//! and the thread goes on.
//!
//! Lock: one mutex over the queues, held for queue operations only.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

use super::Ino;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads and their queue.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    queues: Mutex<Queues>,
    wake: Condvar,
}

#[derive(Default)]
struct Queues {
    /// Jobs that may start now.
    ready: VecDeque<(Option<Ino>, Job)>,
    /// For each key with a job that is ready or running, those that wait behind it.
    behind: HashMap<Ino, VecDeque<Job>>,
    closing: bool,
}

impl Pool {
    /// Starts `threads` threads called `name`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(name: &str, threads: usize) -> io::Result<Self> {
        let pool = Self { shared: Arc::new(Shared::default()), threads: Mutex::new(Vec::new()) };
        for number in 0..threads {
            let shared = Arc::clone(&pool.shared);
            let thread =
                thread::Builder::new().name(format!("{name}-{number}")).spawn(move || shared.work())?;
            pool.threads.lock().push(thread);
        }
        Ok(pool)
    }

    /// Queues a job behind all earlier ones of the same key.
    pub fn submit(&self, key: Ino, job: impl FnOnce() + Send + 'static) {
        let mut queues = self.shared.queues.lock();
        match queues.behind.entry(key) {
            Entry::Occupied(mut behind) => behind.get_mut().push_back(Box::new(job)),
            Entry::Vacant(room) => {
                room.insert(VecDeque::new());
                queues.ready.push_back((Some(key), Box::new(job)));
                drop(queues);
                self.shared.wake.notify_one();
            }
        }
    }

    /// Queues a job that has no order to keep.
    pub fn submit_free(&self, job: impl FnOnce() + Send + 'static) {
        self.shared.queues.lock().ready.push_back((None, Box::new(job)));
        self.shared.wake.notify_one();
    }

    /// Whether a job of `key` waits or runs.
    #[must_use]
    pub fn is_busy(&self, key: Ino) -> bool {
        self.shared.queues.lock().behind.contains_key(&key)
    }

    /// Lets every queued job run, then ends the threads. Safe to call twice, and from a job.
    pub fn shut_down(&self) {
        self.shared.queues.lock().closing = true;
        self.shared.wake.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // A job that drops the last reference to the pool must not wait for its own thread.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a pool thread ended by a panic");
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl Shared {
    fn work(&self) {
        while let Some((key, job)) = self.next() {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!(?key, "a job panicked; its request was answered with an error");
            }
            if let Some(key) = key {
                self.finished(key);
            }
        }
    }

    /// Waits for a job; `None` when the pool closes and nothing is left.
    fn next(&self) -> Option<(Option<Ino>, Job)> {
        let mut queues = self.queues.lock();
        loop {
            if let Some(job) = queues.ready.pop_front() {
                return Some(job);
            }
            // Jobs behind a running one are brought up by the thread that runs it.
            if queues.closing {
                return None;
            }
            self.wake.wait(&mut queues);
        }
    }

    /// Brings up the next job of `key`, or frees the key.
    fn finished(&self, key: Ino) {
        let mut queues = self.queues.lock();
        match queues.behind.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(job) => {
                queues.ready.push_back((Some(key), job));
                drop(queues);
                self.wake.notify_one();
            }
            None => {
                queues.behind.remove(&key);
            }
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn jobs_of_one_key_run_in_order_and_one_at_a_time() {
        let pool = Pool::new("test", 4).unwrap();
        let seen: Arc<[Mutex<Vec<usize>>; 8]> = Arc::new(std::array::from_fn(|_| Mutex::new(Vec::new())));
        let inside: Arc<[AtomicUsize; 8]> = Arc::new(std::array::from_fn(|_| AtomicUsize::new(0)));
        for number in 0..8000 {
            let (seen, inside) = (Arc::clone(&seen), Arc::clone(&inside));
            pool.submit(Ino(number % 8), move || {
                let key = (number % 8) as usize;
                assert_eq!(inside[key].fetch_add(1, Ordering::SeqCst), 0, "two jobs of one key at once");
                seen[key].lock().push(number as usize);
                inside[key].fetch_sub(1, Ordering::SeqCst);
            });
        }
        pool.shut_down();
        for (key, seen) in seen.iter().enumerate() {
            let expected: Vec<usize> = (0..1000).map(|turn| turn * 8 + key).collect();
            assert_eq!(*seen.lock(), expected);
        }
    }

    #[test]
    fn a_waiting_job_of_one_key_does_not_hold_up_another() {
        let pool = Pool::new("test", 2).unwrap();
        let (release, wait) = mpsc::channel::<()>();
        let (told, hear) = mpsc::channel();
        pool.submit(Ino(1), move || assert!(wait.recv().is_err(), "nothing is ever sent"));
        let later = told.clone();
        pool.submit(Ino(1), move || later.send("same key").unwrap());
        pool.submit(Ino(2), move || told.send("other key").unwrap());
        assert_eq!(hear.recv_timeout(Duration::from_secs(10)), Ok("other key"));
        assert!(pool.is_busy(Ino(1)));
        drop(release);
        assert_eq!(hear.recv_timeout(Duration::from_secs(10)), Ok("same key"));
    }

    #[test]
    fn a_panicking_job_drops_its_reply_and_leaves_the_key_and_the_threads_working() {
        struct Reply(mpsc::Sender<&'static str>);
        impl Drop for Reply {
            fn drop(&mut self) {
                self.0.send("dropped").unwrap();
            }
        }
        let pool = Pool::new("test", 1).unwrap();
        let (told, hear) = mpsc::channel();
        let reply = Reply(told.clone());
        pool.submit(Ino(1), move || {
            let _reply = reply;
            panic!("a job that fails, on purpose");
        });
        pool.submit(Ino(1), move || told.send("after").unwrap());
        assert_eq!(hear.recv_timeout(Duration::from_secs(10)), Ok("dropped"));
        assert_eq!(hear.recv_timeout(Duration::from_secs(10)), Ok("after"));
        pool.shut_down();
        assert!(!pool.is_busy(Ino(1)));
    }

    #[test]
    fn shutting_down_runs_what_was_queued() {
        let pool = Pool::new("test", 2).unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        for number in 0..100 {
            let ran = Arc::clone(&ran);
            let job = move || {
                ran.fetch_add(1, Ordering::SeqCst);
            };
            if number % 2 == 0 { pool.submit(Ino(7), job) } else { pool.submit_free(job) }
        }
        pool.shut_down();
        assert_eq!(ran.load(Ordering::SeqCst), 100);
    }
}
