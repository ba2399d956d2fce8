//! How often a TPM quotes: opens wait for a quote as for another open's extend, so they come one at a time, and after each
//! the TPM rests from them for nine times as long as it took.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// After a quote the TPM has none to make for this many times as long.
const REST: u32 = 9;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Ration {
    rested: Mutex<Instant>,
}

impl Default for Ration {
    fn default() -> Self {
        Self { rested: Mutex::new(Instant::now()) }
    }
}

/// What takes the time of a quote.
pub(super) struct Clock<'a>(&'a mut Instant);

impl Clock<'_> {
    /// Runs what keeps the TPM busy.
    pub(super) fn quoting<T>(&mut self, quote: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let quoted = quote();
        *self.0 = Instant::now() + began.elapsed() * REST;
        quoted
    }
}

impl Ration {
    /// Runs `serve` when it is its turn, within `patience`.
    ///
    /// # Errors
    /// When it is not its turn in time, and as `serve`.
    pub(super) fn serve<T>(
        &self,
        patience: Duration,
        serve: impl FnOnce(&mut Clock<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let busy = || "too many ask for evidence: ask again later".to_owned();
        let until = Instant::now() + patience;
        let mut rested = self.rested.try_lock_until(until).ok_or_else(busy)?;
        let rest = rested.saturating_duration_since(Instant::now());
        if rest > until.saturating_duration_since(Instant::now()) {
            return Err(busy());
        }
        std::thread::sleep(rest);
        serve(&mut Clock(&mut rested))
    }
}
