//! The TPM's own thread, and a bounded queue in front of it.
//!
//! A job is a closure that uses the connection. Who waits for an answer waits no longer than a limit: a job that has
//! not begun by then is taken back, one that has begun is in doubt, and until it ends every other call fails at once.
//! The limit is no matter of load (each command is answered within a second); it is for a TPM that hangs. Time in which
//! this process was stopped (by a signal, a freezer, a debugger) does not count: its TPM may have answered long since.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::TpmError;
use crate::clock::Patience;
use crate::device::Device;
use crate::link::{End, Link};

/// Jobs that may wait. Extends come one at a time; the rest are reads.
const QUEUE: usize = 64;

/// How long an extend or a read may take before the TPM counts as hung. Slow hardware needs some tens of
/// milliseconds, its self test a few seconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// States of a job.
const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const TAKEN_BACK: u8 = 2;

struct Job {
    state: Arc<AtomicU8>,
    work: Box<dyn FnOnce(&mut Link) + Send>,
}

/// See the module's text. Clones share the thread; it ends, and with it a swtpm of its own, after the last of them
/// or by [`Service::end`].
#[derive(Clone)]
pub(crate) struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Option<Sender<Job>>>,
    /// Answers nothing; that it is disconnected says that the thread has ended.
    ended: Receiver<()>,
    hung: Arc<AtomicBool>,
    limit: Duration,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("hung", &self.is_hung()).finish_non_exhaustive()
    }
}

impl Service {
    /// Starts the thread; it connects at the first call.
    pub(crate) fn start(end: End, limit: Duration) -> Result<Self, TpmError> {
        let (queue, jobs) = bounded::<Job>(QUEUE);
        let (alive, ended) = bounded(0);
        let hung = Arc::new(AtomicBool::new(false));
        let recovered = Arc::clone(&hung);
        let serve = move || {
            let _alive = alive;
            let mut link = Link::new(end);
            for job in jobs {
                let began = job.state.compare_exchange(WAITING, BEGUN, Ordering::AcqRel, Ordering::Acquire);
                if began.is_ok() {
                    (job.work)(&mut link);
                    recovered.store(false, Ordering::Release);
                }
            }
        };
        let started = std::thread::Builder::new().name("imafs-tpm".to_owned()).spawn(serve);
        started.map_err(|_| TpmError::Ended)?;
        Ok(Self { shared: Arc::new(Shared { queue: Mutex::new(Some(queue)), ended, hung, limit }) })
    }

    /// Runs `what` on the connection, in the TPM's thread, and waits for its answer.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Device) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, TpmError> {
        self.call_within(self.shared.limit, what)
    }

    /// As [`Service::call`], for what takes longer.
    pub(crate) fn call_within<T: Send + 'static>(
        &self,
        limit: Duration,
        what: impl FnOnce(&mut Device) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, TpmError> {
        self.silence()?;
        let mut patience = Patience::new(limit);
        let queue = self.shared.queue.lock().clone().ok_or(TpmError::Ended)?;
        let (reply, answer) = bounded(1);
        let state = Arc::new(AtomicU8::new(WAITING));
        // Whoever asked may have stopped waiting.
        let work = Box::new(move |link: &mut Link| drop(reply.send(link.with(what))));
        let mut job = Job { state: Arc::clone(&state), work };
        while let Err(error) = patience.wait(|slice| queue.send_timeout(job, slice)) {
            job = match error {
                SendTimeoutError::Timeout(job) if !patience.is_over() => job,
                SendTimeoutError::Timeout(_) => return Err(TpmError::Silent { limit, sent: false }),
                SendTimeoutError::Disconnected(_) => return Err(TpmError::Ended),
            };
        }
        loop {
            match patience.wait(|slice| answer.recv_timeout(slice)) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => return Err(TpmError::Ended),
                Err(RecvTimeoutError::Timeout) if patience.is_over() => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        let back = state.compare_exchange(WAITING, TAKEN_BACK, Ordering::AcqRel, Ordering::Acquire);
        if back.is_err() {
            self.shared.hung.store(true, Ordering::Release);
            // It may have ended in this very moment, and nobody else would say so.
            if let Ok(answer) = answer.try_recv() {
                self.shared.hung.store(false, Ordering::Release);
                return answer;
            }
        }
        Err(TpmError::Silent { limit, sent: back.is_err() })
    }

    /// Whether a command that was sent has not been answered in time, nor since.
    pub(crate) fn is_hung(&self) -> bool {
        self.shared.hung.load(Ordering::Acquire)
    }

    /// What every call fails with while that is so.
    pub(crate) fn silence(&self) -> Result<(), TpmError> {
        let limit = self.shared.limit;
        if self.is_hung() { Err(TpmError::Silent { limit, sent: false }) } else { Ok(()) }
    }

    /// Ends the thread after what waits in its queue, and waits for that; a hung TPM is not waited for. Later calls
    /// fail with [`TpmError::Ended`].
    pub(crate) fn end(&self, limit: Duration) {
        drop(self.shared.queue.lock().take());
        if !self.is_hung() {
            // Nothing is ever sent on it: it is disconnected, or the limit passes.
            let _ended = self.shared.ended.recv_timeout(limit);
        }
    }
}
