//! The last records of a mount, kept in memory for `/.imafs/audit`.
//!
//! The ring is one growing text of JSON lines of which the oldest part falls away: a record is found by its
//! serial, a byte by its offset since the mount began. Both only grow, so a reader that comes back with
//! where it stopped goes on from there, or learns how much it missed.
//!
//! One lock, held for a push or a copy, never while waiting or across a system call. Pushing is the hub's
//! alone ([`crate::Audit::emit`]); it stamps the record under the same lock, so serials have no gaps and
//! stand in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// How much the ring keeps; what exceeds either bound falls away, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Number of records.
    pub records: usize,
    /// Bytes of their JSON lines, newlines included.
    pub bytes: usize,
}

impl Default for Limits {
    /// 4096 records in at most 4 MiB: a record is about 400 bytes, one with the longest possible paths some
    /// 60 KiB.
    fn default() -> Self {
        Self { records: 4096, bytes: 4 << 20 }
    }
}

/// One kept record.
#[derive(Clone, Debug)]
pub struct Line {
    /// The record's serial.
    pub serial: u64,
    /// Its JSON object, without a newline.
    pub json: Arc<str>,
    /// Offset of its first byte in the mount's whole trail.
    offset: u64,
}

/// What [`Ring::read_from`] found.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The records, in order.
    pub lines: Vec<Line>,
    /// How many records between the asked serial and the first line had already fallen away.
    pub missed: u64,
    /// The serial to ask for next.
    pub next: u64,
}

/// See the module's text.
#[derive(Debug)]
pub struct Ring {
    limits: Limits,
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Debug)]
pub(crate) struct State {
    lines: VecDeque<Line>,
    next: u64,
    end: u64,
}

impl State {
    /// The serial the next record gets.
    pub(crate) fn next_serial(&self) -> u64 {
        self.next
    }

    /// Offset of the oldest byte kept.
    fn start(&self) -> u64 {
        self.lines.front().map_or(self.end, |line| line.offset)
    }
}

impl Ring {
    pub(crate) fn new(limits: Limits) -> Self {
        let state = State { lines: VecDeque::new(), next: 1, end: 0 };
        Self { limits, state: Mutex::new(state), grown: Condvar::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Adds the record whose serial is `state.next_serial()`, and wakes who waits.
    pub(crate) fn push(&self, state: &mut State, json: Arc<str>) {
        let (serial, offset) = (state.next, state.end);
        state.next += 1;
        state.end += json.len() as u64 + 1;
        state.lines.push_back(Line { serial, json, offset });
        while state.lines.len() > self.limits.records || state.end - state.start() > self.limits.bytes as u64
        {
            state.lines.pop_front();
        }
        self.grown.notify_all();
    }

    /// The kept records from `serial` on; 0 asks for all. Does not wait.
    #[must_use]
    pub fn read_from(&self, serial: u64) -> Batch {
        let state = self.state.lock();
        let oldest = state.lines.front().map_or(state.next, |line| line.serial);
        let from = serial.max(1);
        let skip = usize::try_from(from.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let lines = state.lines.iter().skip(skip).cloned().collect();
        Batch { lines, missed: oldest.saturating_sub(from), next: state.next }
    }

    /// Waits until there is a record with this serial or a later one, or until `patience` is over; says
    /// whether there is.
    #[must_use]
    pub fn wait_for(&self, serial: u64, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        while state.next <= serial {
            if self.grown.wait_until(&mut state, until).timed_out() {
                return state.next > serial;
            }
        }
        true
    }

    /// Offsets of the oldest byte kept and of the end, in the trail as one text of lines.
    #[must_use]
    pub fn span(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.start(), state.end)
    }

    /// At most `max` bytes of that text from `offset` on, each record followed by a newline. Where the
    /// bytes at `offset` have fallen away it begins at the oldest kept; empty at the end.
    #[must_use]
    pub fn read_at(&self, offset: u64, max: usize) -> Vec<u8> {
        let state = self.state.lock();
        let from = offset.max(state.start());
        let first = state.lines.partition_point(|line| line.offset + (line.json.len() as u64) < from);
        let mut out = Vec::new();
        for line in state.lines.iter().skip(first) {
            let skip = usize::try_from(from.saturating_sub(line.offset)).unwrap_or(usize::MAX);
            let bytes = line.json.bytes().chain(std::iter::once(b'\n'));
            out.extend(bytes.skip(skip).take(max.saturating_sub(out.len())));
            if out.len() >= max {
                break;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(records: usize, bytes: usize, pushed: usize) -> Ring {
        let ring = Ring::new(Limits { records, bytes });
        for n in 1..=pushed {
            ring.push(&mut ring.lock(), format!("line {n}").into());
        }
        ring
    }

    #[test]
    fn the_count_and_the_bytes_each_bound_what_is_kept() {
        assert_eq!(ring(3, 1000, 5).read_from(0).lines.len(), 3);
        // Two lines of seven bytes fit into 20, three do not.
        assert_eq!(ring(100, 20, 5).read_from(0).lines.len(), 2);
        assert_eq!(ring(100, 3, 5).read_from(0).lines.len(), 0);
    }

    #[test]
    fn a_reader_goes_on_where_it_stopped_and_learns_what_it_missed() {
        let ring = ring(3, 1000, 5);
        let batch = ring.read_from(1);
        assert_eq!((batch.missed, batch.next), (2, 6));
        assert_eq!(batch.lines.iter().map(|l| l.serial).collect::<Vec<_>>(), [3, 4, 5]);
        let batch = ring.read_from(5);
        assert_eq!((batch.lines.len(), batch.missed), (1, 0));
        let batch = ring.read_from(6);
        assert_eq!((batch.lines.len(), batch.missed, batch.next), (0, 0, 6));
    }

    #[test]
    fn bytes_are_read_by_their_offset_in_the_whole_trail() {
        let ring = ring(3, 1000, 5);
        assert_eq!(ring.span(), (14, 35));
        assert_eq!(ring.read_at(0, 100), b"line 3\nline 4\nline 5\n");
        assert_eq!(ring.read_at(19, 4), b"3\nli");
        assert_eq!(ring.read_at(20, 1), b"\n");
        assert_eq!(ring.read_at(34, 9), b"\n");
        assert_eq!(ring.read_at(35, 9), b"");
        assert_eq!(ring.read_at(99, 9), b"");
    }

    #[test]
    fn waiting_ends_with_the_record_or_with_patience() {
        let ring = Arc::new(ring(3, 1000, 1));
        assert!(ring.wait_for(1, Duration::ZERO));
        assert!(!ring.wait_for(2, Duration::from_millis(10)));
        let other = Arc::clone(&ring);
        let waiter = std::thread::spawn(move || other.wait_for(2, Duration::from_secs(60)));
        ring.push(&mut ring.lock(), "more".into());
        assert!(waiter.join().unwrap());
    }
}
