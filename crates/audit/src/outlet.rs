//! One sink with its thread, its bounded queue, and the account of what it missed.
//!
//! A record that finds the queue full waits for room, but not past its patience; then it is lost to this
//! sink. Once somebody has waited in vain the sink counts as stalled and nobody waits again until it has
//! taken another record: one hung disk costs one wait, not one per open.
//!
//! Losses stand in the queue as gaps, in the place of the records, so that the sink reads "12 records lost"
//! exactly where they are missing. A gap takes no room; neighbouring gaps are one.
//!
//! Locks: `state` alone, never held while the sink works.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use crate::record::{Lost, Record, Stamped};
use crate::sink::Sink;

/// How often a sink that failed is tried again when nothing new comes.
const RETRY: Duration = Duration::from_secs(1);

/// The cause of records that found no room.
const QUEUE_FULL: &str = "queue full";

/// A place in the queue, or none: what [`Outlet::reserve`] gives and [`Outlet::push`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Reserved,
    Full,
}

/// See the module's text.
pub(crate) struct Outlet {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    name: String,
    capacity: usize,
    state: Mutex<State>,
    /// A record left the queue, or the worker came to rest.
    moved: Condvar,
    /// There is work, or the end is near.
    work: Condvar,
    written: AtomicU64,
    lost: AtomicU64,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Item>,
    /// Records in the queue, and places promised to records on their way.
    taken: usize,
    stalled: bool,
    flushes_asked: u64,
    flushes_done: u64,
    busy: bool,
    closing: bool,
    /// The worker did not end in time; nobody waits for it any more.
    abandoned: bool,
    done: bool,
}

impl State {
    /// Records that are queued or in the sink's hands.
    fn held(&self) -> u64 {
        let queued = self.queue.iter().filter(|item| matches!(item, Item::Record(_))).count();
        (queued + usize::from(self.busy)) as u64
    }
}

enum Item {
    Record(Arc<Stamped>),
    Gap(Gap),
    Reopen,
    Flush,
}

/// Records lost in a row.
#[derive(Clone, Debug)]
struct Gap {
    count: u64,
    first: u64,
    last: u64,
    cause: String,
}

impl Gap {
    fn one(serial: u64, cause: &str) -> Self {
        Self { count: 1, first: serial, last: serial, cause: cause.to_owned() }
    }

    fn extend(&mut self, later: Gap) {
        self.count += later.count;
        self.last = later.last;
        self.cause = later.cause;
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl Outlet {
    /// Starts the sink's thread.
    pub(crate) fn start(sink: Box<dyn Sink>, capacity: usize, ns: Arc<str>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            name: sink.name(),
            capacity: capacity.max(1),
            state: Mutex::default(),
            moved: Condvar::new(),
            work: Condvar::new(),
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let worker = Worker { shared: Arc::clone(&shared), sink, ns, missed: None };
        let thread =
            std::thread::Builder::new().name("imafs-audit".to_owned()).spawn(move || worker.run())?;
        Ok(Self { shared, worker: Mutex::new(Some(thread)) })
    }

    pub(crate) fn name(&self) -> &str {
        &self.shared.name
    }

    pub(crate) fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Takes a place in the queue, waiting for one until `until`. Every `Reserved` must be pushed.
    pub(crate) fn reserve(&self, until: Instant) -> Place {
        let mut state = self.shared.state.lock();
        if state.closing {
            return Place::Full;
        }
        while state.taken >= self.shared.capacity {
            if state.stalled || state.closing {
                return Place::Full;
            }
            if self.shared.moved.wait_until(&mut state, until).timed_out()
                && state.taken >= self.shared.capacity
            {
                state.stalled = true;
                return Place::Full;
            }
        }
        state.taken += 1;
        Place::Reserved
    }

    /// Puts a record in its place, or a gap where it would have stood. Never waits.
    pub(crate) fn push(&self, place: Place, record: &Arc<Stamped>) {
        let mut state = self.shared.state.lock();
        if place == Place::Reserved && !state.done && !state.abandoned {
            state.queue.push_back(Item::Record(Arc::clone(record)));
        } else {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            let gap = Gap::one(record.serial, QUEUE_FULL);
            match state.queue.back_mut() {
                Some(Item::Gap(before)) => before.extend(gap),
                _ => state.queue.push_back(Item::Gap(gap)),
            }
        }
        self.shared.work.notify_one();
    }

    /// Has the sink open anew, after what is queued.
    pub(crate) fn reopen(&self) {
        self.shared.state.lock().queue.push_back(Item::Reopen);
        self.shared.work.notify_one();
    }

    /// Has everything pushed so far written and made durable; gives the ticket to wait with.
    pub(crate) fn begin_flush(&self) -> u64 {
        let mut state = self.shared.state.lock();
        state.queue.push_back(Item::Flush);
        state.flushes_asked += 1;
        self.shared.work.notify_one();
        state.flushes_asked
    }

    /// Waits for the flush of that ticket; says whether it was done by `until`.
    pub(crate) fn flushed(&self, ticket: u64, until: Instant) -> bool {
        let mut state = self.shared.state.lock();
        while !state.done && !state.abandoned && state.flushes_done < ticket {
            if self.shared.moved.wait_until(&mut state, until).timed_out() {
                return false;
            }
        }
        !state.abandoned
    }

    /// Lets the thread write what is queued and end. From now on no record finds a place.
    pub(crate) fn begin_close(&self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_one();
        self.shared.moved.notify_all();
    }

    /// Waits for the thread's end; says whether it had ended by `until`. One that has not is left to itself,
    /// and what it still held counts as lost.
    pub(crate) fn closed(&self, until: Instant) -> bool {
        let mut state = self.shared.state.lock();
        while !state.done && !state.abandoned {
            if self.shared.moved.wait_until(&mut state, until).timed_out() {
                self.shared.lost.fetch_add(state.held(), Ordering::Relaxed);
                state.queue.clear();
                state.abandoned = true;
            }
        }
        if !state.done {
            return false;
        }
        drop(state);
        if let Some(thread) = self.worker.lock().take() {
            // It has said that it is done; a panic in a sink was its own.
            drop(thread.join());
        }
        true
    }
}

/// The thread's side.
struct Worker {
    shared: Arc<Shared>,
    sink: Box<dyn Sink>,
    ns: Arc<str>,
    missed: Option<Gap>,
}

/// Says that the worker is done even when a sink panics, so that nobody waits for it, and counts what came
/// too late to be written.
struct Done(Arc<Shared>);

impl Drop for Done {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if !state.abandoned {
            self.0.lost.fetch_add(state.held(), Ordering::Relaxed);
            state.queue.clear();
        }
        state.done = true;
        state.busy = false;
        state.closing = true;
        self.0.moved.notify_all();
    }
}

impl Worker {
    fn run(mut self) {
        let _done = Done(Arc::clone(&self.shared));
        while let Some(item) = self.next() {
            let flush = u64::from(matches!(item, Item::Flush));
            self.handle(item);
            let mut state = self.shared.state.lock();
            state.flushes_done += flush;
            state.busy = false;
            state.stalled = false;
            self.shared.moved.notify_all();
        }
        self.tell_missed();
        self.flush();
    }

    /// The next item; while there is none, a sink that missed something is tried from time to time.
    fn next(&mut self) -> Option<Item> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        loop {
            if let Some(item) = state.queue.pop_front() {
                state.taken -= usize::from(matches!(item, Item::Record(_)));
                state.busy = true;
                shared.moved.notify_all();
                return Some(item);
            }
            if state.closing {
                return None;
            }
            if self.missed.is_none() {
                shared.work.wait(&mut state);
            } else if shared.work.wait_for(&mut state, RETRY).timed_out() {
                drop(state);
                self.tell_missed();
                state = shared.state.lock();
            }
        }
    }

    fn handle(&mut self, item: Item) {
        match item {
            Item::Record(record) => self.record(&record),
            Item::Gap(gap) => {
                self.miss(gap);
                self.tell_missed();
            }
            Item::Reopen => self.sink.reopen(),
            Item::Flush => self.flush(),
        }
    }

    /// Writes a record, after the word about those missed before it.
    fn record(&mut self, record: &Arc<Stamped>) {
        self.tell_missed();
        if let Some(gap) = &self.missed {
            // Still failing. Trying this one would put it before the word about the others.
            let cause = gap.cause.clone();
            self.lose(record.serial, &cause);
            return;
        }
        match self.sink.write(record) {
            Ok(()) => {
                self.shared.written.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::warn!(sink = self.shared.name, %error, "audit sink fails, records are being lost");
                self.lose(record.serial, &error.to_string());
            }
        }
    }

    fn lose(&mut self, serial: u64, cause: &str) {
        self.shared.lost.fetch_add(1, Ordering::Relaxed);
        self.miss(Gap::one(serial, cause));
    }

    fn miss(&mut self, gap: Gap) {
        match &mut self.missed {
            Some(before) => before.extend(gap),
            None => self.missed = Some(gap),
        }
    }

    /// Tells the sink how many records it missed, if it did and can now be told.
    fn tell_missed(&mut self) {
        let Some(gap) = self.missed.clone() else { return };
        let lost = Lost {
            sink: self.shared.name.clone(),
            cause: gap.cause,
            count: gap.count,
            first: gap.first,
            last: gap.last,
        };
        // It takes the place, and so the serial, of the last record it stands for.
        let notice = Stamped::new(gap.last, SystemTime::now(), Arc::clone(&self.ns), Record::Lost(lost));
        if self.sink.write(&notice).is_ok() {
            tracing::warn!(sink = self.shared.name, lost = gap.count, "audit sink works again");
            self.missed = None;
        }
    }

    fn flush(&mut self) {
        if let Err(error) = self.sink.flush() {
            tracing::warn!(sink = self.shared.name, %error, "audit sink cannot make its records durable");
        }
    }
}
