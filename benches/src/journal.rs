//! What a journal costs the measurement list.
//!
//! Question: how many new entries per second does a list with a soft bank (SHA-1 and SHA-256) take, with and without a
//! journal, from 1 and from 8 threads, and how many entries share one wait for the disk? Unit: entries per second.
//! Baseline: a loop that appends the same bytes to a file and calls `fdatasync`, once per entry, from one thread: what the
//! disk can do for a journal without group commit.
//!
//! All cases run in the same process, one after the other, round by round, so that what else the machine does falls
//! on all alike. The files lie in
//! `$IMAFS_SCRATCH`, by default /var/tmp, which has to be a disk: a tmpfs waits for nothing.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use benches::{Cell, Results, median};
use ima::template::FileAttrs;
use ima::{Entry, Event, HashAlgo, PcrIndex, Template};
use measure::journal::Identity;
use measure::{Journal, List, ListOptions, PcrBank as _, SoftBank};

const ROUNDS: usize = 7;
/// Entries of one case in one round, where none waits for a disk, and where each does.
const FAST: usize = 40_000;
const SLOW: usize = 1_000;
/// Entries that a restart finds.
const RESTART: usize = 100_000;
/// Bytes of one entry and its share of a batch, about.
const PAYLOAD: usize = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Append,
    List { threads: usize, journal: bool },
}

const CASES: [Case; 5] = [
    Case::Append,
    Case::List { threads: 1, journal: false },
    Case::List { threads: 8, journal: false },
    Case::List { threads: 1, journal: true },
    Case::List { threads: 8, journal: true },
];

/// What one case did in one round.
#[derive(Debug, Clone, Copy)]
struct Run {
    per_second: f64,
    per_wait: Option<f64>,
}

fn main() -> Result<()> {
    let base = std::env::var_os("IMAFS_SCRATCH").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let scratch = tempfile::tempdir_in(&base).with_context(|| format!("cannot use {}", base.display()))?;
    let mut cells: Vec<Cell> = CASES.iter().map(|case| Cell::new(name(*case))).collect();
    let mut waits = vec![Vec::new(); CASES.len()];
    for round in 0..ROUNDS {
        for (number, ((case, cell), waits)) in CASES.iter().zip(&mut cells).zip(&mut waits).enumerate() {
            let run = run(*case, &scratch.path().join(format!("{round}-{number}")))?;
            cell.runs.push(run.per_second);
            waits.extend(run.per_wait);
        }
    }
    for ((case, cell), waits) in CASES.iter().zip(&mut cells).zip(&waits) {
        if !waits.is_empty() {
            cell.facts.push(("entries a wait", median(waits)));
        }
        if let Case::List { threads, journal: true } = *case {
            cell.baseline = Some(name(Case::List { threads, journal: false }));
        }
    }
    let mut restart_cell = Cell::new(format!("a restart, with {RESTART} entries to replay"));
    restart_cell.runs = restart(scratch.path())?;
    cells.push(restart_cell);
    let results = Results {
        name: "journal",
        question: "What does a journal cost the measurement list?",
        unit: "Entries per second",
        rounds: ROUNDS,
        cells,
    };
    results.publish()
}

fn name(case: Case) -> String {
    match case {
        Case::Append => "append and fdatasync, 1 thread".to_owned(),
        Case::List { threads, journal } => {
            let threads = format!("{threads} thread{}", if threads == 1 { "" } else { "s" });
            format!("list, {} journal, {threads}", if journal { "with a" } else { "no" })
        }
    }
}

fn run(case: Case, place: &Path) -> Result<Run> {
    match case {
        Case::Append => append(place),
        Case::List { threads, journal } => {
            let list = list(journal.then_some(place))?;
            let count = if journal { SLOW } else { FAST };
            let took = fill(&list, threads, count)?;
            let facts = list.journal().map(Journal::facts);
            #[expect(clippy::cast_precision_loss, reason = "counts of some thousands")]
            let per_wait = facts.map(|facts| facts.entries as f64 / facts.batches as f64);
            Ok(Run { per_second: rate(count, took), per_wait })
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of some thousands")]
fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn append(place: &Path) -> Result<Run> {
    let mut file = File::create(place)?;
    let payload = [7_u8; PAYLOAD];
    let begun = Instant::now();
    for _ in 0..SLOW {
        file.write_all(&payload)?;
        file.sync_data()?;
    }
    Ok(Run { per_second: rate(SLOW, begun.elapsed()), per_wait: Some(1.0) })
}

fn list(journal: Option<&Path>) -> Result<List> {
    let bank = Arc::new(SoftBank::new(&[HashAlgo::Sha1, HashAlgo::Sha256])?);
    let template = Template::named("ima-sig").context("no template ima-sig")?;
    let identity = Identity {
        ns_id: "bench".to_owned(),
        default_algo: HashAlgo::Sha256,
        template: template.clone(),
        pcr: PcrIndex::DEFAULT,
        banks: bank.algos(),
    };
    let journal = journal.map(|place| Journal::open(place, &identity, &*bank)).transpose()?;
    Ok(List::new(ListOptions { journal, ..ListOptions::new(template, bank) })?)
}

fn entry(number: usize) -> Result<Entry> {
    let digest = ima::hash(HashAlgo::Sha256, &number.to_le_bytes())?;
    let name = format!("/usr/lib/x86_64-linux-gnu/libsomething{number}.so.6");
    let file = FileAttrs { uid: 0, gid: 0, mode: 0o100_755 };
    let template = Template::named("ima-sig").context("no template ima-sig")?;
    Ok(template.entry(PcrIndex::DEFAULT, &Event::file(digest, name.as_bytes(), file))?)
}

/// Adds `count` entries from so many threads; the entries are made before the clock runs.
fn fill(list: &List, threads: usize, count: usize) -> Result<Duration> {
    let mut shares = Vec::new();
    for first in 0..threads {
        shares.push((first..count).step_by(threads).map(entry).collect::<Result<Vec<_>>>()?);
    }
    let begun = Instant::now();
    let all = std::thread::scope(|scope| {
        let adders: Vec<_> = shares
            .into_iter()
            .map(|share| {
                scope.spawn(move || share.into_iter().try_for_each(|entry| list.add(entry).map(drop)))
            })
            .collect();
        adders.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let took = begun.elapsed();
    for one in all {
        match one {
            Ok(added) => added?,
            Err(_) => bail!("a thread panicked"),
        }
    }
    Ok(took)
}

/// What a restart takes, reading, replaying, proving: entries per second.
fn restart(base: &Path) -> Result<Vec<f64>> {
    let place = base.join("restart");
    drop({
        let before = list(Some(&place))?;
        fill(&before, 64, RESTART)?;
        before
    });
    let mut runs = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let again = list(Some(&place))?;
        runs.push(rate(RESTART, begun.elapsed()));
        if again.count() != RESTART + 1 {
            bail!("{} entries after the restart", again.count());
        }
    }
    Ok(runs)
}
