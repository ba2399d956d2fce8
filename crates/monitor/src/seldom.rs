//! What is logged once and then seldom: a cause that lasts would otherwise fill the host's log at the container's pace.
//!
//! For the log alone. The audit trail has a record for each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often it is told again while it goes on.
const AGAIN: Duration = Duration::from_secs(60);

/// Causes that are told apart. Their names hold numbers that a device chooses.
const CAUSES: usize = 16;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<BTreeMap<String, Told>>);

#[derive(Debug)]
struct Told {
    last: Instant,
    since: u64,
}

impl Seldom {
    /// Whether to tell of this cause now; then with how many others there were since it was told last.
    pub(crate) fn tell(&self, cause: &str, now: Instant) -> Option<u64> {
        let mut causes = self.0.lock();
        if let Some(told) = causes.get_mut(cause) {
            if now.saturating_duration_since(told.last) < AGAIN {
                told.since += 1;
                return None;
            }
            told.last = now;
            return Some(std::mem::take(&mut told.since));
        }
        if causes.len() == CAUSES {
            causes.clear();
        }
        causes.insert(cause.to_owned(), Told { last: now, since: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_cause_is_told_and_later_ones_are_counted() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.tell("a", start), Some(0));
        for second in 1..60 {
            assert_eq!(seldom.tell("a", start + Duration::from_secs(second)), None);
        }
        assert_eq!(seldom.tell("b", start), Some(0));
        assert_eq!(seldom.tell("a", start + AGAIN), Some(59));
        assert_eq!(seldom.tell("a", start + AGAIN), None);
        assert_eq!(seldom.tell("a", start + 3 * AGAIN), Some(1));
        assert_eq!(seldom.tell("a", start + 9 * AGAIN), Some(0));
    }

    #[test]
    fn as_many_causes_are_kept_as_there_may_be() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        for number in 0..1000 {
            assert_eq!(seldom.tell(&number.to_string(), start), Some(0));
            assert!(seldom.0.lock().len() <= CAUSES);
        }
    }
}
