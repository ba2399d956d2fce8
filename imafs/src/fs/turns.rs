//! Opens that wait their turn, so that nobody is taken to have a file open who has already closed it.
//!
//! Requests arrive in order, with exceptions: the kernel holds a file open until the reply to its last write-back of
//! a mapping, or to its last read-ahead, has been worked off. That can be after its owner closed it and opened it
//! again, and such an OPEN would find a writer or reader that is gone. (The transport does without read-ahead of its
//! own accord; this holds for any transport.) So an OPEN that meets opens of the other kind is held until what
//! already waits at the device has been handled and no read of that file is being answered; a RELEASE is among that
//! if there is one. The open has not returned yet, so it may as well have come that much later. Opens of the same
//! file keep their order.
//!
//! Lock: the queue, held while held opens are decided; it comes before every other lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use monitor::Names;
use parking_lot::Mutex;

use super::node::Node;
use super::open::Answer;
use super::{Caller, Filesystem, Ino};

/// A RELEASE stands closer behind than this many requests: each client adds one at a time.
const REQUESTS_MAX: u32 = 256;

/// For the case that no request follows that would end the wait, and for reads that never end.
const PATIENCE: Duration = Duration::from_millis(100);

/// An open that waits.
struct Held {
    node: Arc<Node>,
    caller: Caller,
    flags: i32,
    /// What the file was called when the open arrived. Only then they are those it was opened by.
    names: Option<Names>,
    answer: Answer,
    since: Instant,
    handled: u32,
}

/// Opens that wait, in order of arrival.
#[derive(Default)]
pub(super) struct Turns {
    queue: Mutex<VecDeque<Held>>,
    /// Length of the queue, so that the usual request looks no further.
    length: AtomicUsize,
    watched: AtomicBool,
}

impl Filesystem {
    /// Decides an open, now or when it is its turn.
    pub(super) fn take_turn(self: &Arc<Self>, node: &Arc<Node>, caller: &Caller, flags: i32, answer: Answer) {
        if self.turns.length.load(Ordering::Acquire) == 0 && !meets_others(node, flags) {
            return self.decide(node, caller, flags, false, answer);
        }
        let mut queue = self.turns.queue.lock();
        let behind = queue.iter().any(|held| Arc::ptr_eq(&held.node, node));
        if !behind && !meets_others(node, flags) {
            drop(queue);
            return self.decide(node, caller, flags, false, answer);
        }
        let names = self.monitor.names_now(node.as_ref());
        let (node, caller, since) = (Arc::clone(node), *caller, Instant::now());
        queue.push_back(Held { node, caller, flags, names, answer, since, handled: 0 });
        self.turns.length.store(queue.len(), Ordering::Release);
    }

    /// To be called when a request has been handled: decides the opens whose turn it is.
    pub fn request_handled(self: &Arc<Self>) {
        if self.turns.length.load(Ordering::Acquire) > 0 {
            self.settle();
        }
    }

    /// Decides the held opens whose wait is over.
    pub(super) fn settle(self: &Arc<Self>) {
        let mut queue = self.turns.queue.lock();
        let drained = !self.kernel.get().is_some_and(|kernel| kernel.has_requests());
        let mut waiting: Vec<Ino> = Vec::new();
        for mut held in std::mem::take(&mut *queue) {
            held.handled = held.handled.saturating_add(1);
            let ino = held.node.ino();
            if waiting.contains(&ino) || !held.is_due(drained) {
                waiting.push(ino);
                queue.push_back(held);
            } else {
                let Held { node, caller, flags, names, answer, .. } = held;
                self.decide_by(&node, &caller, flags, false, names, answer);
            }
        }
        self.turns.length.store(queue.len(), Ordering::Release);
        if !queue.is_empty() && !self.turns.watched.swap(true, Ordering::AcqRel) {
            let fs = Arc::clone(self);
            self.waits.submit_at(Instant::now() + PATIENCE, move || {
                fs.turns.watched.store(false, Ordering::Release);
                fs.settle();
            });
        }
    }
}

impl Held {
    fn is_due(&self, drained: bool) -> bool {
        let quiet = drained && self.node.reading.load(Ordering::Acquire) == 0;
        quiet || self.handled >= REQUESTS_MAX || self.since.elapsed() >= PATIENCE
    }
}

/// Whether an open with these flags meets opens of the other kind: a writer readers, a reader writers.
fn meets_others(node: &Node, flags: i32) -> bool {
    let (readers, writers) = monitor::Object::state(node).opens();
    let others = if flags & libc::O_ACCMODE == libc::O_RDONLY { writers } else { readers };
    others > 0
}
