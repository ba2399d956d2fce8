//! Two kinds of time. One also passes while the machine sleeps: a TPM may be restarted in that time. The other passes
//! only while this process runs: who was stopped has not waited in vain.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A moment on `CLOCK_BOOTTIME`, which all processes of a boot share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(Duration);

impl Moment {
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Self(Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or(0)))
    }

    /// How long ago it was.
    pub(crate) fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

/// The longest wait that counts as one. A process that is stopped in the midst of it loses no more than this.
const SLICE: Duration = Duration::from_secs(1);

/// How long one is still ready to wait, in time in which this process runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    left: Duration,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { left: limit }
    }

    /// Runs `wait`, which is to return after the time it is given, or earlier.
    pub(crate) fn wait<T>(&mut self, wait: impl FnOnce(Duration) -> T) -> T {
        let slice = self.left.min(SLICE);
        let began = Instant::now();
        let came = wait(slice);
        self.left = self.left.saturating_sub(began.elapsed().min(slice));
        came
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_was_cut_by_a_stop_counts_as_one_slice() {
        let mut patience = Patience::new(SLICE * 2);
        // Longer than it was told, as for one who was stopped meanwhile.
        patience.wait(|slice| std::thread::sleep(slice * 3));
        assert!(!patience.is_over());
        patience.wait(std::thread::sleep);
        assert!(patience.is_over());
    }

    #[test]
    fn what_is_left_after_an_early_return_is_kept() {
        let mut patience = Patience::new(SLICE / 100);
        patience.wait(|_| ());
        assert!(!patience.is_over());
        patience.wait(std::thread::sleep);
        assert!(patience.is_over());
    }
}
