//! Threads for what takes long. Jobs of one key run in the order they were submitted, one at a time; jobs of
//! different keys, and jobs without one, run as threads come free.
//!
//! A job that has to wait for something which nobody will tell of says when it wants to be asked again. It keeps its
//! key, so that the order stands, and holds no thread: any number of jobs may wait, and the others go on.
//!
//! A job that turns out to read a large file says so as well, and whom it is for. It goes on where it holds up nobody else:
//! one thread takes no such jobs, and all but one of those that are left may do them for the same user. So what is short
//! always finds a thread, and no user keeps others from having large files read.
//!
//! The queue is not bounded here: a job exists for each request the kernel has sent and not had answered, and for each
//! last close of a record, and the kernel bounds those. A panicking job takes nothing with it: its reply is dropped,
//! which answers with an error, and the thread goes on.
//!
//! Lock: one mutex over the queues, held for queue operations only.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::Ino;

type Job = Box<dyn FnOnce() -> Next + Send>;

/// What a job leaves to be done.
#[must_use]
pub struct Next(Rest);

enum Rest {
    Nothing,
    Later(Instant, Job),
    Large(u32, Job),
}

impl Next {
    /// Nothing.
    pub const DONE: Self = Self(Rest::Nothing);

    /// To go on with `job` at this time, before all later jobs of the same key.
    pub fn later(at: Instant, job: impl FnOnce() -> Self + Send + 'static) -> Self {
        Self(Rest::Later(at, Box::new(job)))
    }

    /// To go on with `job`, which takes long, for this user, before all later jobs of the same key.
    pub fn large(user: u32, job: impl FnOnce() -> Self + Send + 'static) -> Self {
        Self(Rest::Large(user, Box::new(job)))
    }
}

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
    /// Jobs that take long, each with its user.
    large: VecDeque<(u32, Option<Ino>, Job)>,
    /// How many such jobs run for each user.
    running: HashMap<u32, usize>,
    /// How many of them may run at once.
    most: usize,
    /// Jobs that wait for a time, by it and by a number that tells apart those of one time.
    later: BTreeMap<(Instant, u64), (Option<Ino>, Job)>,
    /// The last of those numbers.
    timers: u64,
    /// For each key with a job that is ready, running or waiting for its time, those that wait behind it.
    behind: HashMap<Ino, VecDeque<Job>>,
    closing: bool,
}

impl Queues {
    fn at(&mut self, at: Instant, key: Option<Ino>, job: Job) {
        self.timers = self.timers.wrapping_add(1);
        self.later.insert((at, self.timers), (key, job));
    }

    /// Brings up the jobs whose time has come.
    fn bring_up(&mut self) {
        let mut now = None;
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > *now.get_or_insert_with(Instant::now) {
                break;
            }
            self.ready.push_back(entry.remove());
        }
    }

    /// The next job that may start, and its user if it is one that takes long. Those go first: they cannot take every
    /// thread.
    fn start(&mut self) -> Option<Started> {
        let room = self.running.values().sum::<usize>() < self.most;
        let of = |user: &u32| self.running.get(user).copied().unwrap_or(0);
        let may = |(user, ..): &(u32, Option<Ino>, Job)| of(user) + 1 < self.most;
        if let Some(at) = self.large.iter().position(may).filter(|_| room)
            && let Some((user, key, job)) = self.large.remove(at)
        {
            *self.running.entry(user).or_default() += 1;
            return Some(Started { user: Some(user), key, job });
        }
        let (key, job) = self.ready.pop_front()?;
        Some(Started { user: None, key, job })
    }

    fn ended(&mut self, user: u32) {
        if let Entry::Occupied(mut running) = self.running.entry(user) {
            *running.get_mut() -= 1;
            if *running.get() == 0 {
                running.remove();
            }
        }
    }

    /// Nothing is put off any more but what has begun.
    fn close(&mut self) {
        self.closing = true;
        let (begun, timed): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.later).into_iter().partition(|(_, (key, _))| key.is_some());
        self.later = begun;
        self.ready.extend(timed.into_values());
    }
}

/// A job that a thread has taken.
struct Started {
    /// Whom it takes long for.
    user: Option<u32>,
    key: Option<Ino>,
    job: Job,
}

/// The fewest jobs that take long which may run at once: one for each of two users.
const LARGE_MIN: usize = 2;

impl Pool {
    /// Starts `threads` threads called `name` for jobs of any length, two at least, and one that takes no long ones.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn with_large(name: &str, threads: usize) -> io::Result<Self> {
        let most = threads.max(LARGE_MIN);
        let pool = Self::new(name, most + 1)?;
        pool.shared.queues.lock().most = most;
        Ok(pool)
    }

    /// Starts `threads` threads called `name`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(name: &str, threads: usize) -> io::Result<Self> {
        let pool = Self { shared: Arc::new(Shared::default()), threads: Mutex::new(Vec::new()) };
        // Where nothing is said of long jobs they are like any other.
        pool.shared.queues.lock().most = usize::MAX;
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
        self.submit_steps(key, whole(job));
    }

    /// Queues a job that may want to be asked again, behind all earlier ones of the same key.
    pub fn submit_steps(&self, key: Ino, job: impl FnOnce() -> Next + Send + 'static) {
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
        self.shared.queues.lock().ready.push_back((None, Box::new(whole(job))));
        self.shared.wake.notify_one();
    }

    /// Queues a job that has no order to keep, for this time. When the pool is shut down it runs at once, and no
    /// further one is taken.
    pub fn submit_at(&self, at: Instant, job: impl FnOnce() + Send + 'static) {
        let mut queues = self.shared.queues.lock();
        if !queues.closing {
            queues.at(at, None, Box::new(whole(job)));
            drop(queues);
            self.shared.wake.notify_one();
        }
    }

    /// Whether a job of `key` waits or runs.
    #[must_use]
    pub fn is_busy(&self, key: Ino) -> bool {
        self.shared.queues.lock().behind.contains_key(&key)
    }

    /// Lets every queued job run to its end, then ends the threads. Safe to call twice, and from a job.
    pub fn shut_down(&self) {
        self.shared.queues.lock().close();
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

/// A job of one step.
fn whole(job: impl FnOnce() + Send + 'static) -> impl FnOnce() -> Next + Send + 'static {
    move || {
        job();
        Next::DONE
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl Shared {
    fn work(&self) {
        while let Some(Started { user, key, job }) = self.next() {
            let next = catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|_| {
                tracing::error!(?key, "a job panicked; its request was answered with an error");
                Next::DONE
            });
            self.finished(user, key, next);
        }
    }

    /// Waits for a job; `None` when the pool closes and nothing is left.
    fn next(&self) -> Option<Started> {
        let mut queues = self.queues.lock();
        loop {
            queues.bring_up();
            if let Some(started) = queues.start() {
                // Of several whose time came at once, each wakes the thread for the next.
                if !queues.ready.is_empty() {
                    self.wake.notify_one();
                }
                return Some(started);
            }
            match queues.later.first_key_value().map(|((at, _), _)| *at) {
                Some(at) => {
                    // Woken or in time, it looks again.
                    let _timed_out = self.wake.wait_until(&mut queues, at);
                }
                // Jobs behind a running one are brought up by the thread that runs it, as are those that wait for one
                // that takes long.
                None if queues.closing => return None,
                None => self.wake.wait(&mut queues),
            }
        }
    }

    /// Puts off what is left of a job; or brings up the next of its key, or frees the key.
    fn finished(&self, user: Option<u32>, key: Option<Ino>, next: Next) {
        let mut queues = self.queues.lock();
        if let Some(user) = user {
            queues.ended(user);
        }
        match (next.0, key) {
            (Rest::Later(at, job), _) => queues.at(at, key, job),
            (Rest::Large(user, job), _) => queues.large.push_back((user, key, job)),
            (Rest::Nothing, Some(key)) => match queues.behind.get_mut(&key).and_then(VecDeque::pop_front) {
                Some(job) => queues.ready.push_back((Some(key), job)),
                None => {
                    queues.behind.remove(&key);
                    return;
                }
            },
            (Rest::Nothing, None) => return,
        }
        drop(queues);
        self.wake.notify_one();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Next {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Rest::Nothing => f.write_str("Done"),
            Rest::Later(at, _) => f.debug_tuple("Later").field(at).finish(),
            Rest::Large(user, _) => f.debug_tuple("Large").field(user).finish(),
        }
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

    /// Asks again every millisecond until it is let through, and counts how often it was asked.
    fn wait_until_let(
        gate: Arc<AtomicUsize>,
        asked: Arc<AtomicUsize>,
        end: impl FnOnce() + Send + 'static,
    ) -> Next {
        asked.fetch_add(1, Ordering::SeqCst);
        if gate.load(Ordering::SeqCst) > 0 {
            end();
            return Next::DONE;
        }
        let at = Instant::now() + Duration::from_millis(1);
        Next::later(at, move || wait_until_let(gate, asked, end))
    }

    #[test]
    fn any_number_of_jobs_may_wait_for_their_time_and_others_go_on() {
        let pool = Pool::new("test", 1).unwrap();
        let (gate, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (told, hear) = mpsc::channel();
        for number in 0..100 {
            let (gate, asked, told) = (Arc::clone(&gate), Arc::clone(&asked), told.clone());
            pool.submit_steps(Ino(number), move || {
                wait_until_let(gate, asked, move || told.send(number).unwrap())
            });
        }
        for number in 1000..1200 {
            let told = told.clone();
            let job = move || told.send(number).unwrap();
            if number % 2 == 0 { pool.submit(Ino(number), job) } else { pool.submit_free(job) }
        }
        for _ in 0..200 {
            assert!(hear.recv_timeout(Duration::from_secs(60)).unwrap() >= 1000);
        }
        assert!(hear.try_recv().is_err(), "all that were to wait still do");
        gate.store(1, Ordering::SeqCst);
        let mut waited: Vec<u64> =
            (0..100).map(|_| hear.recv_timeout(Duration::from_secs(60)).unwrap()).collect();
        waited.sort_unstable();
        assert_eq!(waited, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_job_that_waits_for_its_time_keeps_its_place_before_later_ones_of_its_key() {
        let pool = Pool::new("test", 2).unwrap();
        let (gate, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (told, hear) = mpsc::channel();
        let (first, second) = (told.clone(), told.clone());
        let (opened, counted) = (Arc::clone(&gate), Arc::clone(&asked));
        pool.submit_steps(Ino(1), move || {
            wait_until_let(opened, counted, move || first.send("first").unwrap())
        });
        pool.submit(Ino(1), move || second.send("second").unwrap());
        while asked.load(Ordering::SeqCst) < 5 {
            let (told, done) = mpsc::channel();
            pool.submit(Ino(2), move || told.send(()).unwrap());
            done.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        assert!(pool.is_busy(Ino(1)));
        assert!(hear.try_recv().is_err());
        gate.store(1, Ordering::SeqCst);
        assert_eq!(hear.recv_timeout(Duration::from_secs(60)), Ok("first"));
        assert_eq!(hear.recv_timeout(Duration::from_secs(60)), Ok("second"));
    }

    /// Waits as a job that takes long until the sender is dropped.
    fn long(pool: &Pool, key: u64, user: u32, told: &mpsc::Sender<u64>) -> mpsc::Sender<()> {
        let (release, wait) = mpsc::channel::<()>();
        let told = told.clone();
        pool.submit_steps(Ino(key), move || {
            Next::large(user, move || {
                told.send(key).unwrap();
                assert!(wait.recv().is_err(), "nothing is ever sent");
                Next::DONE
            })
        });
        release
    }

    #[test]
    fn what_takes_long_leaves_a_thread_to_the_rest_and_to_each_other_user() {
        for threads in [1, 2, 4] {
            let pool = Pool::with_large("test", threads).unwrap();
            let (told, hear) = mpsc::channel();
            let heard = || hear.recv_timeout(Duration::from_secs(60)).unwrap();
            let room = threads.max(2) as u64 - 1;
            let mut held: HashMap<_, _> = (0..6).map(|key| (key, long(&pool, key, 1234, &told))).collect();
            let running: Vec<_> = (0..room).map(|_| heard()).collect();
            held.insert(10, long(&pool, 10, 0, &told));
            assert_eq!(heard(), 10, "another user's comes before those of the first that wait");
            held.insert(11, long(&pool, 11, 0, &told));
            for key in 100..110 {
                let told = told.clone();
                pool.submit(Ino(key), move || told.send(key).unwrap());
            }
            for key in 100..110 {
                assert_eq!(heard(), key, "short ones go on with {threads} threads");
            }
            assert!(hear.try_recv().is_err(), "no more long ones than there is room for");
            drop(held.remove(&running[0]));
            assert!(heard() < 12, "one that waited");
            drop(held);
            pool.shut_down();
            for key in (0..6).chain([10, 11]) {
                assert!(!pool.is_busy(Ino(key)));
            }
        }
    }

    #[test]
    fn shutting_down_lets_those_that_wait_end_and_takes_no_more_for_later() {
        let pool = Arc::new(Pool::new("test", 2).unwrap());
        let (gate, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (told, hear) = mpsc::channel();
        for number in 0..10 {
            let (gate, asked, told, behind) =
                (Arc::clone(&gate), Arc::clone(&asked), told.clone(), told.clone());
            pool.submit_steps(Ino(number), move || {
                wait_until_let(gate, asked, move || told.send(("waited", number)).unwrap())
            });
            pool.submit(Ino(number), move || behind.send(("behind", number)).unwrap());
        }
        let far = Instant::now() + Duration::from_secs(86_400);
        let (inner, timed) = (Arc::downgrade(&pool), told.clone());
        pool.submit_at(far, move || {
            timed.send(("timed", 0)).unwrap();
            inner.upgrade().unwrap().submit_at(far, move || timed.send(("never", 0)).unwrap());
            gate.store(1, Ordering::SeqCst);
        });
        drop(told);
        pool.shut_down();
        let said: Vec<_> = hear.into_iter().collect();
        assert_eq!(said.len(), 21, "{said:?}");
        for number in 0..10 {
            let place = |what| said.iter().position(|said| *said == (what, number)).unwrap();
            assert!(place("waited") < place("behind"));
            assert!(!pool.is_busy(Ino(number)));
        }
    }
}
