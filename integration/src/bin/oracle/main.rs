//! `make oracle`: generated scenarios under a real kernel with IMA and under imafs, which have to agree.
//!
//! Exit 0: all agree, but for what docs/differences.md explains. 1: something is unexplained. 2: could not be found
//! out.

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use integration::golden::Scenario;
use integration::oracle::campaign::{self, Plan};
use integration::oracle::guest::Guest;
use integration::oracle::render::Signers;
use integration::oracle::steps::{self, Difference};
use integration::oracle::{both, prove, stop};
use integration::{Need, Scratch, need};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Plays generated scenarios on Debian's kernel in a virtual machine and on imafs, and compares
///
/// Each seed is a random policy, a random tree and random operations. Both sides must come to the same results, list
/// entries, audit records and files, but for the differences that docs/differences.md tells of. A disagreement is made
/// small and kept as a scenario directory, which can be moved to integration/golden/ to be replayed by the tests.
#[derive(Debug, Parser)]
#[command(
    name = "imafs-oracle",
    after_help = "Examples:\n  imafs-oracle --seed 1..50\n      fifty scenarios, two guests at a time\n  \
                  imafs-oracle --seed 7 --ops 30 --keep /var/tmp/seven\n      one scenario, kept with what both sides \
                  made of it\n  imafs-oracle --prove-recorder measure-basics,audit-rules\n      records these of \
                  integration/golden anew: the same bytes must come out\n  \
                  imafs-oracle --scenario integration/golden/new\n      records a scenario written by hand"
)]
struct Arguments {
    /// A seed, or a first and a last one
    #[arg(long, value_name = "N|N..M", default_value = "1..5", value_parser = seeds)]
    seed: (u64, u64),
    /// About how many operations a scenario has
    #[arg(long, value_name = "N", default_value_t = 100)]
    ops: usize,
    /// Keep every scenario in this directory, not only those that disagree (those: target/oracle)
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// How many guests run at once
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
    /// How long one disagreement is made smaller; 0 for not at all
    #[arg(long, value_name = "SECONDS", default_value_t = 240)]
    shrink: u64,
    /// Instead: record scenarios of integration/golden anew and compare with their recordings; all, without names
    #[arg(long, value_name = "NAMES", num_args = 0..=1, default_missing_value = "", value_delimiter = ',')]
    prove_recorder: Option<Vec<String>>,
    /// Instead: record the scenario in this directory on the kernel, play it on imafs, and show every difference
    #[arg(long, value_name = "DIR", conflicts_with = "prove_recorder")]
    scenario: Option<PathBuf>,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| text.trim_start_matches('=').parse::<u64>();
    match (number(first), number(last)) {
        (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
        _ => Err("a number, or two as in 1..50".to_owned()),
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("imafs-oracle: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> Result<bool> {
    for wanted in [Need::Root, Need::Fuse] {
        if let Some(reason) = wanted.missing() {
            bail!("cannot mount: {reason}");
        }
    }
    for program in
        ["qemu-system-x86_64", "swtpm", "busybox", "cpio", "evmctl", "openssl", "mkfs.ext4", "setfattr"]
    {
        ensure!(
            need::Need::Program(program).missing().is_none(),
            "{program} is not installed: run scripts/install-deps.sh oracle"
        );
    }
    stop::on_signals()?;
    let scratch = Scratch::new()?;
    let guest = Guest::prepare(scratch.path())?;
    if let Some(names) = arguments.prove_recorder {
        return prove_recorder(&guest, &scratch, names);
    }
    if let Some(dir) = arguments.scenario {
        return one_scenario(&guest, &dir);
    }
    let target = integration::process::repository().join("target/oracle");
    let keep = arguments.keep.clone().unwrap_or(target);
    std::fs::create_dir_all(&keep).with_context(|| format!("cannot make {}", keep.display()))?;
    let keep = keep.canonicalize().context("cannot find the directory to keep scenarios in")?;
    let plan = Plan {
        seeds: arguments.seed,
        operations: arguments.ops,
        keep,
        keep_all: arguments.keep.is_some(),
        jobs: arguments.jobs,
        shrink: Duration::from_secs(arguments.shrink),
    };
    let signers = Signers::make(scratch.path())?;
    let totals = campaign::run(&guest, &signers, &plan)?;
    println!("kernel      {}", guest.release());
    println!("{totals}");
    Ok(totals.agreed())
}

/// Records a scenario that somebody wrote, and shows what imafs makes of it. Nothing is explained: what a difference
/// means is for its author to say, in `integration/src/golden/differences.rs`.
fn one_scenario(guest: &Guest, dir: &Path) -> Result<bool> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let scenario =
        Scenario { name, dir: dir.canonicalize().with_context(|| format!("no {}", dir.display()))? };
    let runs = both::run(guest, &scenario)?;
    let ops = scenario.operations("ops")?;
    let found = steps::differences(&runs.kernel, &runs.imafs)?;
    for difference in &found {
        if let Difference::Step { index, .. } = difference {
            let op = ops.get(*index).map(|op| op.escape_ascii().to_string()).unwrap_or_default();
            println!("operation {}: {op}", index + 1);
        }
        println!("  {difference}");
    }
    println!("recorded in {}: {} differences", scenario.dir.join("kernel").display(), found.len());
    Ok(found.is_empty())
}

/// Whether recorded scenarios come out as they did.
fn prove_recorder(guest: &Guest, scratch: &Scratch, names: Vec<String>) -> Result<bool> {
    let mut names: Vec<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        names = Scenario::names()?;
    }
    let mut same = true;
    for name in names {
        let differing = prove::again(guest, &name, &scratch.path().join("again"))?;
        println!("{name}: {}", if differing.is_empty() { "the same" } else { "differs" });
        differing.iter().for_each(|part| println!("  {part}"));
        same &= differing.is_empty();
    }
    Ok(same)
}
