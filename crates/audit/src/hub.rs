//! The mount's audit trail: stamps records and hands them to the ring and to every sink.
//!
//! Order of one [`Audit::emit`]: a place in each sink's queue (the only wait, bounded), then under the
//! ring's lock the serial, the time, the ring, the queues. So serials, times and every sink agree on the
//! order, and no wait happens under a lock. Lock order: the ring, then one outlet.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::outlet::{Outlet, Place};
use crate::record::{Record, Stamped};
use crate::ring::{Batch, Limits, Ring};
use crate::sink::Sink;

/// How an [`Audit`] behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// The mount's namespace id, written into every record.
    pub ns: String,
    /// What the ring keeps.
    pub ring: Limits,
    /// Records each sink's queue holds.
    pub queue: usize,
    /// How long one record may wait for room in the queues before it is lost to the sinks that have none.
    pub patience: Duration,
}

impl Config {
    /// The defaults: a queue of 1024 records per sink and a quarter of a second of patience, long enough
    /// for a disk's hiccup and short enough for an open that waits on it.
    #[must_use]
    pub fn new(ns: impl Into<String>) -> Self {
        Self { ns: ns.into(), ring: Limits::default(), queue: 1024, patience: Duration::from_millis(250) }
    }
}

/// What became of the records meant for one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkStatus {
    /// The sink's name.
    pub name: String,
    /// Records it took.
    pub written: u64,
    /// Records it missed.
    pub dropped: u64,
}

/// See the module's text. Shared by reference; dropping the last one shuts it down.
#[derive(Debug)]
pub struct Audit {
    ns: Arc<str>,
    ring: Ring,
    patience: Duration,
    outlets: Vec<Outlet>,
}

/// How long a drop without [`Audit::shutdown`] waits for the sinks.
const LAST_WAIT: Duration = Duration::from_secs(5);

impl Audit {
    /// Starts a thread for each sink.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(config: Config, sinks: Vec<Box<dyn Sink>>) -> io::Result<Self> {
        let ns: Arc<str> = config.ns.into();
        let outlets = sinks
            .into_iter()
            .map(|sink| Outlet::start(sink, config.queue, Arc::clone(&ns)))
            .collect::<io::Result<_>>()?;
        Ok(Self { ns, ring: Ring::new(config.ring), patience: config.patience, outlets })
    }

    /// An audit trail with a ring and no sinks.
    #[must_use]
    pub fn in_memory(ns: impl Into<String>) -> Self {
        let Config { ns, ring, patience, .. } = Config::new(ns);
        Self { ns: ns.into(), ring: Ring::new(ring), patience, outlets: Vec::new() }
    }

    /// Puts a record into the trail and gives its serial. Waits for room in the sinks' queues, never longer
    /// than the configured patience in all, and never fails: what a sink cannot take is counted.
    pub fn emit(&self, record: impl Into<Record>) -> u64 {
        let record = record.into();
        let until = Instant::now() + self.patience;
        let places: Vec<Place> = self.outlets.iter().map(|outlet| outlet.reserve(until)).collect();
        let mut ring = self.ring.lock();
        let serial = ring.next_serial();
        let stamped = Arc::new(Stamped::new(serial, SystemTime::now(), Arc::clone(&self.ns), record));
        self.ring.push(&mut ring, Arc::clone(stamped.json()));
        for (outlet, place) in self.outlets.iter().zip(places) {
            outlet.push(place, &stamped);
        }
        serial
    }

    /// The kept records from `serial` on; see [`Ring::read_from`].
    #[must_use]
    pub fn read_from(&self, serial: u64) -> Batch {
        self.ring.read_from(serial)
    }

    /// The ring itself, for readers by offset and for followers.
    #[must_use]
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Records lost, over all sinks.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.outlets.iter().map(Outlet::lost).sum()
    }

    /// Each sink's account.
    #[must_use]
    pub fn sinks(&self) -> Vec<SinkStatus> {
        let status = |outlet: &Outlet| SinkStatus {
            name: outlet.name().to_owned(),
            written: outlet.written(),
            dropped: outlet.lost(),
        };
        self.outlets.iter().map(status).collect()
    }

    /// Has every sink open its file anew before its next record (after a log rotation).
    pub fn reopen(&self) {
        self.outlets.iter().for_each(Outlet::reopen);
    }

    /// Has all records so far written and made durable; says whether every sink had done so in time.
    pub fn flush(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        // All are asked before any is waited for, so that one that hangs does not use up the others' time.
        let tickets: Vec<u64> = self.outlets.iter().map(Outlet::begin_flush).collect();
        self.outlets.iter().zip(tickets).filter(|(outlet, ticket)| !outlet.flushed(*ticket, until)).count()
            == 0
    }

    /// Writes what is queued and ends the sinks' threads; says whether all had ended in time. Later records
    /// still reach the ring, and count as lost to the sinks.
    pub fn shutdown(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        self.outlets.iter().for_each(Outlet::begin_close);
        self.outlets.iter().filter(|outlet| !outlet.closed(until)).count() == 0
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.shutdown(LAST_WAIT);
    }
}
