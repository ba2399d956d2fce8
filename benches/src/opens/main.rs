//! What measuring costs an open, through a mount.
//!
//! Question: how many files per second that a mount has not measured yet can be opened, read and closed, with registers in
//! the process, in a swtpm, in one that mounts share by a host list, and in one that takes 5 ms for each command, with and
//! without a journal, from 1 and from 8 threads? How many extends does an open take, and does anything but the
//! extend make opens wait for each other? Unit: opens per second. Baselines: the directory itself; the mount with a policy
//! that measures nothing; the soft bank without a journal, to which ratios refer; and extends alone, back to back.
//!
//! Small files are 4 KiB, large ones 1 MiB: those are worth hashing side by side. Every run is a mount of its own, so
//! each file is new to its list; the source stays in the page cache. All cases run in turn, round by round.
//! `IMAFS_BENCH_ROUNDS` (5) and `IMAFS_BENCH_FILES` (1000) ask for more or fewer.

mod case;
mod relay;

use anyhow::{Context as _, Result};
use benches::{Cell, Results};
use integration::Stand;

use case::{Bank, Case, What};

/// Bytes of a small and of a large file.
const SMALL: usize = 4 << 10;
const LARGE: usize = 1 << 20;
/// Large files for each hundred small ones.
const SHARE: usize = 10;

fn setting(name: &str, default: usize) -> Result<usize> {
    std::env::var(name)
        .map_or(Ok(default), |text| text.parse().with_context(|| format!("{name} is no number")))
}

/// The source tree: `small-N` and `large-N`, no two alike.
fn fill(stand: &Stand, files: usize) -> Result<usize> {
    let large = (files * SHARE / 100).max(8);
    for (name, size, count) in [("small", SMALL, files), ("large", LARGE, large)] {
        for number in 0..count {
            let mut content = vec![0x5a; size];
            content.splice(..8, (number as u64).to_le_bytes());
            stand.file(&format!("{name}-{number}"), content, 0o644)?;
        }
    }
    Ok(large)
}

fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for threads in [1, 8] {
        cases.extend([What::Directory, What::Unmeasured].map(|what| Case::new(what, threads)));
        for bank in [Bank::Soft, Bank::Swtpm, Bank::Shared] {
            for journal in [false, true] {
                cases.push(Case::new(What::Measured { bank, journal, large: false }, threads));
            }
        }
        for bank in [Bank::Soft, Bank::Swtpm, Bank::Slow] {
            cases.push(Case::new(What::Measured { bank, journal: false, large: true }, threads));
        }
    }
    cases.extend([Bank::Swtpm, Bank::Slow].map(|bank| Case::new(What::Extends(bank), 1)));
    cases
}

fn main() -> Result<()> {
    let (rounds, files) = (setting("IMAFS_BENCH_ROUNDS", 5)?, setting("IMAFS_BENCH_FILES", 1000)?);
    let stand = Stand::new()?;
    let large = fill(&stand, files)?;
    let cases = cases();
    let mut cells: Vec<Cell> = cases.iter().map(Case::cell).collect();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for (case, cell) in cases.iter().zip(&mut cells) {
            cell.runs.push(case.run(&stand, (files, large)).with_context(|| cell.name.clone())?);
        }
    }
    for (case, cell) in cases.iter().zip(&mut cells) {
        cell.facts = case.count(&stand, (files, large)).with_context(|| cell.name.clone())?;
    }
    let results = Results {
        name: "opens",
        question: "What does measuring cost an open of a new file?",
        unit: "Opens per second (for 'extends alone': extends)",
        rounds,
        cells,
    };
    results.publish()
}
