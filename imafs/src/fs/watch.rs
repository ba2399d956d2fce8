//! Labels that are owed when a mapping ends.
//!
//! A lent file is mapped without us, and nobody tells when a mapping ends that outlived its open. Until then the kernel
//! would not have renewed the hash label; we look now and then, a few files at a time, however many there are. Records
//! that are watched are kept. Whoever opens such a file or asks for its label has it looked at first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use monitor::{Closed, Closing, Object, Step};
use parking_lot::Mutex;

use super::Filesystem;
use super::node::Node;
use super::pool::Next;

/// How often some are looked at.
const TICK: Duration = Duration::from_millis(200);

/// How many are looked at each time. A look costs some ten microseconds, so this is under a hundredth of a processor.
const BATCH: usize = 64;

/// Records that are watched, each with one lookup for it, in the order they are looked at.
#[derive(Debug, Default)]
pub(super) struct Watched {
    queue: Mutex<VecDeque<Arc<Node>>>,
    ticking: AtomicBool,
}

impl Filesystem {
    /// Queues what the last writer's close of a record left to be done.
    pub(super) fn queue_closing(self: &Arc<Self>, node: &Arc<Node>, closing: Closing) {
        // The kernel may forget the inode before the work is done. The record must not go: an inode looked up again
        // would get another one, whose opens do not wait for this work.
        node.lookups.fetch_add(1, Ordering::AcqRel);
        let (fs, node) = (Arc::clone(self), Arc::clone(node));
        self.checks.submit_steps(node.ino(), move || fs.close(node, closing));
    }

    /// Queues the renewal of a label that is owed, if one is.
    pub(super) fn queue_owed(self: &Arc<Self>, node: &Arc<Node>) {
        if let Some(closing) = self.monitor.owed(Arc::clone(node) as Arc<dyn Object>) {
            self.queue_closing(node, closing);
        }
    }

    /// Works off what the last writer's close left, now or when those who are just leaving have left.
    fn close(self: Arc<Self>, node: Arc<Node>, closing: Closing) -> Next {
        match self.telling_changes(&node, || closing.run()) {
            Step::Done(Closed::Settled) => self.forget(node.ino(), 1),
            Step::Done(Closed::Mapped) => self.watch(node),
            Step::Later { work, at } => return Next::later(at, move || self.close(node, work)),
            Step::Large { work, user } => return Next::large(user, move || self.close(node, work)),
        }
        Next::DONE
    }

    /// Watches a record, whose lookup is handed over.
    fn watch(self: &Arc<Self>, node: Arc<Node>) {
        if node.watched.swap(true, Ordering::AcqRel) {
            return self.forget(node.ino(), 1);
        }
        self.watched.queue.lock().push_back(node);
        if !self.watched.ticking.swap(true, Ordering::AcqRel) {
            self.tick_later();
        }
    }

    fn tick_later(self: &Arc<Self>) {
        let fs = Arc::clone(self);
        self.checks.submit_at(Instant::now() + TICK, move || fs.tick());
    }

    fn tick(self: &Arc<Self>) {
        let mut queue = self.watched.queue.lock();
        let due: Vec<_> = (0..BATCH).map_while(|_| queue.pop_front()).collect();
        // Cleared under the lock, so that whoever queues another one afterwards sees it.
        let more = !queue.is_empty();
        self.watched.ticking.store(more, Ordering::Release);
        drop(queue);
        for node in due {
            node.watched.store(false, Ordering::Release);
            self.queue_owed(&node);
            self.forget(node.ino(), 1);
        }
        if more {
            self.tick_later();
        }
    }
}
