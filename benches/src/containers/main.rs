//! What imafs costs a container: its start, a program started in it, and memory.
//!
//! Questions: how long does `run` of a short program take from the client's call to its end, with the real runtime and with
//! imafs-runtime and the policy `exec`, when what it reads is in the page cache (warm) and when nothing is (cold)? How long
//! does `exec` into a running container take, where imafs has seen the program before? And how much memory do the imafs
//! processes of 1, 10 and 100 containers have? Units: milliseconds; KiB. Baselines: the same with the real runtime alone.
//!
//! Each mount is new to its container, so a start always hashes and verifies what it opens; what differs between warm and
//! cold is where the bytes are. All cases of all engines run in turn, round by round, each engine with a daemon of its own.
//! `IMAFS_BENCH_ROUNDS` (5), `IMAFS_BENCH_ENGINES` (podman,docker,containerd) and `IMAFS_BENCH_CONTAINERS` (1,10,100) ask
//! for others. Cold runs empty the page cache of the whole machine.

mod engine;
mod memory;

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use benches::{Cell, Results};
use integration::Scratch;
use integration::engine::{Ended, Host, Image};
use integration::process::output;

use engine::{Check, Started};

/// What one figure is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Start { warm: bool },
    Exec,
}

/// One case.
struct Case {
    engine: usize,
    what: What,
    check: Check,
}

impl Case {
    fn name(&self, engines: &[Started], check: Check) -> Result<String> {
        let engine = engines.get(self.engine).context("no such engine")?;
        let check = match check {
            Check::Plain => "plain",
            Check::Exec => "checked",
        };
        let what = match self.what {
            What::Start { warm: true } => "start, warm",
            What::Start { warm: false } => "start, cold",
            What::Exec => "exec",
        };
        Ok(format!("{}: {what}, {check}", engine.name()))
    }

    fn cell(&self, engines: &[Started]) -> Result<Cell> {
        let mut cell = Cell::new(self.name(engines, self.check)?);
        if self.check == Check::Exec {
            cell.baseline = Some(self.name(engines, Check::Plain)?);
        }
        Ok(cell)
    }

    /// Runs it once and gives the milliseconds it took.
    fn run(&self, engines: &[Started]) -> Result<f64> {
        let engine = engines.get(self.engine).context("no such engine")?;
        let mut command = match self.what {
            What::Start { .. } => engine.run(self.check),
            What::Exec => engine.exec(self.check),
        };
        if self.what == (What::Start { warm: false }) {
            rustix::fs::sync();
            std::fs::write("/proc/sys/vm/drop_caches", "3").context("cannot empty the page cache")?;
        }
        let begun = Instant::now();
        let ended = Ended::of(&output(&mut command)?);
        let took = begun.elapsed();
        ended.well()?;
        Ok(took.as_secs_f64() * 1000.0)
    }
}

fn cases(engines: &[Started]) -> Vec<Case> {
    let mut cases = Vec::new();
    for engine in 0..engines.len() {
        for what in [What::Start { warm: true }, What::Start { warm: false }, What::Exec] {
            cases.extend([Check::Plain, Check::Exec].map(|check| Case { engine, what, check }));
        }
    }
    // What is warm comes before anything empties the cache.
    cases.sort_by_key(|case| case.what == What::Start { warm: false });
    cases
}

/// A list of words that the environment may say otherwise.
fn setting(name: &str, default: &str) -> Vec<String> {
    let text = std::env::var(name).unwrap_or_else(|_| default.to_owned());
    text.split(',').map(str::to_owned).collect()
}

fn number(word: &str) -> Result<usize> {
    word.parse().with_context(|| format!("'{word}' is no number"))
}

fn main() -> Result<()> {
    let rounds = setting("IMAFS_BENCH_ROUNDS", "5").first().map_or(Ok(5), |word| number(word))?;
    let scratch = Scratch::new()?;
    let Some(image) = Image::make(&scratch)? else { bail!("there is no root filesystem") };
    let profile = format!("policy: exec\nkey: {}\n", image.keys.certificate.display());
    let mut host = Host::new(&scratch, "", &[("exec", profile, "{}")])?;
    // Not the shell script that tests have write down each call.
    host.recorder = Host::runtime()?;
    let names = setting("IMAFS_BENCH_ENGINES", "podman,docker,containerd");
    let engines = names.iter().map(|name| Started::new(name, &scratch, &host, &image));
    let engines = engines.collect::<Result<Vec<_>>>()?;
    let cases = cases(&engines);
    let mut cells = cases.iter().map(|case| case.cell(&engines)).collect::<Result<Vec<_>>>()?;
    for round in 0..=rounds {
        eprintln!("round {round} of {rounds}");
        for (case, cell) in cases.iter().zip(&mut cells) {
            let took = case.run(&engines).with_context(|| cell.name.clone())?;
            // The first is what fills caches.
            if round > 0 {
                cell.runs.push(took);
            }
        }
    }
    cells.sort_by(|one, other| one.name.cmp(&other.name));
    let results = Results {
        name: "containers",
        question: "What does imafs add to the start of a container, and to a program started in one?",
        unit: "Milliseconds",
        rounds,
        cells,
    };
    results.publish()?;
    let counts = setting("IMAFS_BENCH_CONTAINERS", "1,10,100");
    let counts = counts.iter().map(|word| number(word)).collect::<Result<Vec<_>>>()?;
    memory::of_containers(engines.first().context("no engine")?, &counts)
}
