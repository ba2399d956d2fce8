//! Counts of what a run did, and the words for them.

use std::collections::BTreeMap;

use ::sign::walk::Skip;
use serde_json::{Map, Value};

/// How many files were passed over, by reason.
#[derive(Debug, Default)]
pub(crate) struct Skips(BTreeMap<Skip, u64>);

impl Skips {
    pub(crate) fn count(&mut self, reason: Skip) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// `skipped 5: 3 symbolic links, 2 ...`, or nothing when nothing was.
    pub(crate) fn line(&self) -> Option<String> {
        let total: u64 = self.0.values().sum();
        let reasons: Vec<_> = self.0.iter().map(|(skip, n)| format!("{n} {}", skip.reason())).collect();
        (total > 0).then(|| format!("skipped {total}: {}", reasons.join(", ")))
    }

    pub(crate) fn json(&self) -> Value {
        let reasons: Map<_, _> =
            self.0.iter().map(|(skip, n)| (skip.reason().to_owned(), (*n).into())).collect();
        reasons.into()
    }
}

/// `1 file`, `2 files`.
pub(crate) fn files(count: u64) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}
