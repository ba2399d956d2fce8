//! What the imafs process holds, over time, and whether that grew.
//!
//! The first quarter of a run fills the inode table and the caches; growth is what the last quarter holds beyond the
//! second. The list is part of memory by design and only grows, so what it gained is allowed for.

use anyhow::{Context, Result};
use integration::Mount;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// Time between samples.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// Memory that one more entry of the list may cost: template data, digests of each bank and the index.
const ENTRY_KIB: u64 = 1;
/// Memory that the allocator may keep more of at one time than at another.
const SLACK_KIB: u64 = 16 * 1024;
/// Descriptors that may be open at one moment and not at another: requests in flight, data descriptors.
const SLACK_FDS: u64 = 64;

/// One look at the process.
#[derive(Debug, Clone, Copy)]
struct Sample {
    seconds: u64,
    rss_kib: u64,
    fds: u64,
    threads: u64,
    entries: u64,
    violations: u64,
}

/// All looks, in time order.
#[derive(Debug, Default)]
pub struct Samples(Vec<Sample>);

impl Samples {
    /// Looks once, and prints each twelfth look.
    ///
    /// # Errors
    /// Fails when the process is gone.
    pub fn take(&mut self, mount: &Mount, elapsed: Duration) -> Result<()> {
        let proc = Path::new("/proc").join(mount.pid().to_string());
        let status = std::fs::read_to_string(proc.join("status")).context("the imafs process is gone")?;
        let field = |name: &str| -> Result<u64> {
            let line =
                status.lines().find_map(|l| l.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            line.split_whitespace()
                .next()
                .and_then(|n| n.parse().ok())
                .with_context(|| format!("{name} {line}"))
        };
        let sample = Sample {
            seconds: elapsed.as_secs(),
            rss_kib: field("VmRSS:")?,
            fds: std::fs::read_dir(proc.join("fd")).context("cannot count descriptors")?.count() as u64,
            threads: field("Threads:")?,
            entries: mount.control_number("integrity/ima/runtime_measurements_count")?,
            violations: mount.violations()?,
        };
        if self.0.is_empty() {
            println!(
                "{:>7} {:>9} {:>6} {:>7} {:>9} {:>10}",
                "seconds", "RSS KiB", "fds", "threads", "entries", "violations"
            );
        }
        if self.0.len().is_multiple_of(12) {
            println!("{sample}");
        }
        self.0.push(sample);
        Ok(())
    }

    /// The `n`th quarter, counted from 0.
    fn quarter(&self, n: usize) -> &[Sample] {
        let size = self.0.len() / 4;
        self.0.get(n * size..(n + 1) * size).unwrap_or_default()
    }

    /// What grew, a line each. Too few samples to tell count as growth too, for nothing was shown.
    pub fn growth(&self) -> Vec<String> {
        let (early, late) = (self.quarter(1), self.quarter(3));
        if early.is_empty() || late.is_empty() {
            return vec!["too short to tell growth from noise: 20 seconds at least".to_owned()];
        }
        let entries = median(late, |s| s.entries).saturating_sub(median(early, |s| s.entries));
        let rss = median(early, |s| s.rss_kib);
        let limits = [
            ("memory, KiB", rss, median(late, |s| s.rss_kib), rss / 10 + SLACK_KIB + entries * ENTRY_KIB),
            ("descriptors", median(early, |s| s.fds), median(late, |s| s.fds), SLACK_FDS),
            ("threads", median(early, |s| s.threads), median(late, |s| s.threads), 0),
        ];
        let grown = limits.into_iter().filter(|(_, early, late, allowed)| *late > early + allowed);
        grown.map(|(what, early, late, _)| format!("{what} grew from {early} to {late}")).collect()
    }

    /// Prints the medians of each quarter, and the greatest values.
    pub fn summary(&self) {
        println!("\n{:>10} {:>9} {:>6} {:>7} {:>9}", "median of", "RSS KiB", "fds", "threads", "entries");
        for (n, name) in ["quarter 1", "quarter 2", "quarter 3", "quarter 4"].into_iter().enumerate() {
            let part = self.quarter(n);
            let of = |pick: fn(&Sample) -> u64| median(part, pick);
            println!(
                "{name:>10} {:>9} {:>6} {:>7} {:>9}",
                of(|s| s.rss_kib),
                of(|s| s.fds),
                of(|s| s.threads),
                of(|s| s.entries)
            );
        }
        let most = |pick: fn(&Sample) -> u64| self.0.iter().map(pick).max().unwrap_or(0);
        println!(
            "{:>10} {:>9} {:>6} {:>7} {:>9}",
            "most",
            most(|s| s.rss_kib),
            most(|s| s.fds),
            most(|s| s.threads),
            most(|s| s.entries)
        );
    }

    /// Writes every sample as comma-separated values.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = "seconds,rss_kib,fds,threads,entries,violations\n".to_owned();
        for s in &self.0 {
            writeln!(
                text,
                "{},{},{},{},{},{}",
                s.seconds, s.rss_kib, s.fds, s.threads, s.entries, s.violations
            )?;
        }
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seconds, rss_kib, fds, threads, entries, violations } = self;
        write!(f, "{seconds:>7} {rss_kib:>9} {fds:>6} {threads:>7} {entries:>9} {violations:>10}")
    }
}

/// The middle value; 0 of nothing.
fn median(samples: &[Sample], pick: fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(pick).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(rss: impl Fn(u64) -> u64, fds: impl Fn(u64) -> u64) -> Samples {
        let at = |n| Sample {
            seconds: n * 5,
            rss_kib: rss(n),
            fds: fds(n),
            threads: 8,
            entries: 100,
            violations: 0,
        };
        Samples((0..40).map(at).collect())
    }

    #[test]
    fn what_fills_up_and_stays_has_not_grown() {
        assert_eq!(
            samples(|n| 50_000 + n.min(5) * 10_000, |n| 100 + n.min(8) * 40).growth(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_keeps_rising_has_grown() {
        let grown = samples(|n| 50_000 + n * 5_000, |n| 100 + n * 10).growth();
        assert_eq!(grown, ["memory, KiB grew from 125000 to 225000", "descriptors grew from 250 to 450"]);
    }

    #[test]
    fn a_run_too_short_to_tell_does_not_pass() {
        assert_eq!(Samples::default().growth().len(), 1);
    }
}
