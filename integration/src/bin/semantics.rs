//! `make semantics`: pjdfstest and fsx on each backing filesystem and on mounts of it, in every mode.
//!
//! Question: is there anything that the backing filesystem does right and a mount of it does wrong? Of pjdfstest each case
//! that passes on the backing must pass on the mount; fsx must find in its file what it wrote. `IMAFS_BACKINGS` names the
//! filesystems (default: all), `IMAFS_FSX_OPS` says how many operations (default 5000) for each of `IMAFS_FSX_SEEDS`
//! seeds (default 2), each with mappings and without.

use anyhow::{Context, Result, bail};
use integration::Scratch;
use integration::suites::{Backing, Kind, Mode, Outcomes, fsx, pjdfstest};

fn number(name: &str, default: u64) -> Result<u64> {
    std::env::var(name)
        .map_or(Ok(default), |text| text.parse().with_context(|| format!("{name} is not a number")))
}

/// Runs both suites in one mode. Gives what is wrong, a line each.
fn one_mode(scratch: &Scratch, backing: &Backing, mode: Mode, expected: &Outcomes) -> Result<Vec<String>> {
    let source = backing.dir(&format!("source-{mode}").replace([' ', ','], "-"))?;
    let mount = mode.mount(scratch, &source)?;
    let found = pjdfstest(scratch, mount.target(), &[])?;
    let mut wrong: Vec<String> =
        expected.lost_in(&found).map(|(name, outcome)| format!("{name}: {outcome}")).collect();
    let operations = number("IMAFS_FSX_OPS", 5_000)?;
    for seed in 1..=number("IMAFS_FSX_SEEDS", 2)? {
        for mapped in [true, false] {
            if let Err(error) = fsx(scratch, mount.target(), seed, operations, mapped) {
                wrong.push(format!("{error:#}"));
            }
        }
    }
    Ok(wrong)
}

fn main() -> Result<()> {
    let wanted = std::env::var("IMAFS_BACKINGS").unwrap_or_default();
    let mut count = 0;
    for kind in Kind::ALL {
        if !wanted.is_empty() && !wanted.split([',', ' ']).any(|name| name == kind.name()) {
            continue;
        }
        let scratch = Scratch::new()?;
        let backing = Backing::new(&scratch, kind)?;
        let expected = pjdfstest(&scratch, &backing.dir("plain")?, &[])?;
        println!("{}: {} cases pass on the backing", kind.name(), expected.passed());
        for mode in Mode::all() {
            let wrong = one_mode(&scratch, &backing, mode, &expected)?;
            let verdict =
                if wrong.is_empty() { "all of them pass, and fsx".to_owned() } else { wrong.join("\n    ") };
            println!("  {mode}: {verdict}");
            count += wrong.len();
        }
    }
    if count > 0 {
        bail!("{count} things that the backing does right go wrong on a mount");
    }
    Ok(())
}
