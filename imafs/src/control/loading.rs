//! The policy file being written: staged from open to close, one line per `write(2)`, all or nothing.
//!
//! The kernel's protocol (`ima_open_policy`, `ima_write_policy`, `ima_release_policy` in
//! security/integrity/ima/ima_fs.c): one writer at a time, each call answered for its first line alone, one refused
//! line voids the load, the close answers 0 whatever came of it. What is committed is committed at the last close of
//! the open file, for descriptors that were duplicated or inherited are closed in between.
//!
//! Locks: that of one load, held while a line is parsed and recorded; nothing is taken under it but the audit trail's.

use std::sync::Arc;

use audit::{Integrity, PolicyRule, Process, RecordType};
use monitor::Monitor;
use parking_lot::Mutex;
use policy::{LineError, Load, ParseOptions, Policy, first_line};

use crate::fs::{Caller, Errno, Written};

use super::writer::Writer;

/// One open of the policy file for writing.
#[derive(Debug)]
pub(super) struct Loading {
    monitor: Arc<Monitor>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// None once it has been committed or given up.
    load: Option<Load>,
    writer: Writer,
    offsets: Offsets,
}

impl Loading {
    /// Begins a load onto the container's rules; none when it has no layer of its own.
    pub(super) fn begin(monitor: &Arc<Monitor>, most: usize, flags: i32, caller: &Caller) -> Option<Self> {
        let active = Arc::clone(&monitor.rules().container()?.policy);
        // One entry for a register that cannot be extended would stand in the way of all after it, the host's too.
        let registers = measure::pcrs::extensible(&**monitor.options().list.bank());
        let load = Some(Load::onto(active, ParseOptions::default(), most).for_registers(registers));
        let state = State { load, writer: Writer::of(caller.tid), offsets: Offsets::new(flags) };
        Some(Self { monitor: Arc::clone(monitor), state: Mutex::new(state) })
    }

    /// One `write(2)`.
    pub(super) fn write(self: &Arc<Self>, offset: u64, data: &[u8], caller: &Caller) -> Written {
        let mut state = self.state.lock();
        state.writer = Writer::of(caller.tid);
        if !state.offsets.allows(offset) {
            state.spoil();
            return Written::Done(Err(Errno::INVAL));
        }
        let (line, taken) = first_line(data);
        if line.starts_with(b"/") {
            let (loading, path) = (Arc::clone(self), line.to_vec());
            let then = move |content| loading.file(offset, taken, content);
            return Written::Reads { path, then: Box::new(then) };
        }
        if self.monitor.rules().wants_signed_policy() {
            state.spoil();
            self.emit("policy_update", "signed policy required", false, &state.writer);
            return Written::Done(Err(Errno::ACCESS));
        }
        let line = self.line(&mut state, line);
        Written::Done(line.and_then(|()| state.offsets.moved(offset, taken)))
    }

    /// The answer to a path: every line of the file, which must end in a newline.
    fn file(&self, offset: u64, taken: usize, content: Result<Vec<u8>, Errno>) -> Result<u32, Errno> {
        let mut state = self.state.lock();
        let outcome = content.and_then(|content| {
            // What follows the last newline is a line all the same, and is told of before it is refused.
            let text = content.strip_suffix(b"\n");
            let lines = text.unwrap_or(&content).split(|byte| *byte == b'\n');
            lines.filter(|_| !content.is_empty()).try_for_each(|line| self.line(&mut state, line))?;
            text.map(drop).ok_or(Errno::INVAL)
        });
        match outcome {
            Ok(()) => state.offsets.moved(offset, taken),
            Err(errno) => {
                state.spoil();
                Err(errno)
            }
        }
    }

    fn line(&self, state: &mut State, line: &[u8]) -> Result<(), Errno> {
        let load = state.load.as_mut().ok_or(Errno::BADF)?;
        let read = load.line(line);
        let trail = &self.monitor.options().audit;
        if let Some(text) = read.record {
            trail.emit(PolicyRule { text, res: read.outcome.is_ok() });
        }
        read.outcome.map_err(|error| {
            tracing::debug!("a line of the container's policy is refused: {}", crate::failure::chain(&error));
            let cause = match error {
                LineError::Rule(_) => "invalid-policy",
                LineError::TooMany { .. } | LineError::PathsTooLong | LineError::TooLong => "too-many-rules",
            };
            self.emit("update_policy", cause, false, &state.writer);
            Errno::from_raw_os_error(error.errno())
        })
    }

    /// The last descriptor has been closed: the rules take effect, all or none. Gives who loaded them, if they did.
    pub(super) fn end(&self) -> Option<Process> {
        let mut state = self.state.lock();
        let load = state.load.take()?;
        let killed = state.writer.was_killed();
        if killed {
            tracing::debug!("who wrote the container's policy was killed: nothing of it is loaded");
        }
        let policy = load.finish().filter(|_| !killed);
        let cause = if policy.is_some() { "completed" } else { "failed" };
        self.emit("policy_update", cause, policy.is_some(), &state.writer);
        // The container could fill the log with loads that fail; the audit trail has them.
        tracing::debug!("policy update {cause}");
        let policy = policy?;
        tracing::info!(target: "imafs", "the container has loaded {} rules in all", policy.rules().len());
        let before = self.monitor.rules().container().map_or(0, |layer| layer.policy.rules().len());
        for doubt in doubts(&policy, before) {
            tracing::warn!("{doubt}");
        }
        match self.monitor.load_container(Arc::new(policy)) {
            Ok(()) => Some(state.writer.process().clone()),
            Err(error) => {
                tracing::error!("cannot load the container's policy: {error}");
                None
            }
        }
    }

    fn emit(&self, op: &'static str, cause: &'static str, res: bool, writer: &Writer) {
        let mut record = Integrity::new(RecordType::IntegrityStatus, writer.process().clone(), op, cause);
        record.res = res;
        self.monitor.options().audit.emit(record);
    }
}

impl State {
    fn spoil(&mut self) {
        if let Some(load) = &mut self.load {
            load.spoil();
        }
    }
}

/// What the host is told of rules from the one with index `first` on that will not do what they seem to say. A line of
/// each kind, however many rules there are: the container chooses them.
fn doubts(policy: &Policy, first: usize) -> Vec<String> {
    let mut doubts = Vec::new();
    let warnings: Vec<_> = policy.warnings().into_iter().filter(|warning| warning.rule >= first).collect();
    if let Some(warning) = warnings.first() {
        let more = match warnings.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        doubts.push(format!("the container's {warning}{more}"));
    }
    let new = policy.rules().iter().skip(first);
    let audits = new.filter(|rule| rule.action() == policy::Action::Audit).count();
    if audits > 0 {
        doubts.push(format!(
            "{audits} audit rules of the container have no effect: the audit trail is the host's"
        ));
    }
    doubts
}

/// Which offsets a write may come with. To the kernel's own file every write is at 0, for its position never moves;
/// here the position moves on by what was taken, so that it is known where the next write of the same kind comes.
#[derive(Debug)]
struct Offsets {
    /// With `O_APPEND` the position is none of the writer's doing.
    any: bool,
    /// Where the position is if every write so far moved it.
    next: u64,
    /// Where it is if it was put back to 0 before the last write there.
    rewound: u64,
}

impl Offsets {
    fn new(flags: i32) -> Self {
        Self { any: flags & libc::O_APPEND != 0, next: 0, rewound: 0 }
    }

    fn allows(&self, offset: u64) -> bool {
        self.any || offset == 0 || offset == self.next || offset == self.rewound
    }

    fn moved(&mut self, offset: u64, taken: usize) -> Result<u32, Errno> {
        let end = offset.saturating_add(taken as u64);
        if offset == self.next {
            self.next = end;
        } else {
            self.rewound = end;
        }
        u32::try_from(taken).map_err(|_| Errno::INVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_told_once_of_rules_that_do_nothing_and_in_few_lines() {
        let text = "measure func=MODULE_CHECK\nmeasure\naudit\nmeasure func=MODULE_CHECK\naudit\nmeasure func=FIRMWARE_CHECK\n";
        let policy = Policy::parse(text.as_bytes(), &ParseOptions::default()).unwrap();
        let all = doubts(&policy, 0);
        let [warning, audits] = all.as_slice() else { panic!("{all:?}") };
        assert!(warning.contains("line 1") && warning.ends_with(", and 2 more"), "{warning}");
        assert!(audits.starts_with("2 audit rules"), "{audits}");
        let new = doubts(&policy, 4);
        assert!(new[0].contains("line 6") && !new[0].contains("more"), "{new:?}");
        assert!(new[1].starts_with("1 audit rules"), "{new:?}");
        assert_eq!(doubts(&policy, 6), [""; 0]);
    }

    /// Takes writes of so many bytes at these offsets, and says which was refused.
    fn writes(flags: i32, writes: &[(u64, usize)]) -> Vec<u64> {
        let mut offsets = Offsets::new(flags);
        let mut refused = Vec::new();
        for (offset, taken) in writes {
            if offsets.allows(*offset) {
                offsets.moved(*offset, *taken).unwrap();
            } else {
                refused.push(*offset);
            }
        }
        refused
    }

    #[test]
    fn writes_follow_one_another_or_are_at_the_beginning() {
        assert_eq!(writes(0, &[(0, 5), (5, 7), (12, 3)]), [0; 0]);
        assert_eq!(writes(0, &[(0, 5), (0, 7), (5, 3)]), [0; 0], "pwrite at 0 does not move the position");
        assert_eq!(writes(0, &[(0, 5), (0, 7), (7, 3), (10, 2)]), [0; 0], "lseek to 0 and on from there");
        assert_eq!(writes(0, &[(0, 5), (4, 7), (6, 1), (5, 3), (9, 1)]), [4, 6, 9]);
        assert_eq!(writes(libc::O_APPEND, &[(77, 5), (3, 5)]), [0; 0]);
    }
}
