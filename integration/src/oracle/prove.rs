//! The proof of the recorder: what it makes of a scenario that was recorded before must be what was recorded.
//!
//! Byte for byte, but for what is a machine's own: the registers of its boot and boot_aggregate, which is made of
//! them, and what the records leave out of each other's comparison (`golden::outcome`).

use crate::golden::Scenario;
use crate::golden::outcome::Operation;
use crate::golden::scenario::Recording;
use crate::oracle::guest::{Guest, record};
use anyhow::{Context, Result};
use std::path::Path;

/// Records a scenario of `integration/golden` anew, in `dir`, and names what differs from its recording.
///
/// # Errors
/// Fails when it cannot be recorded or read.
pub fn again(guest: &Guest, name: &str, dir: &Path) -> Result<Vec<String>> {
    let golden = Scenario::named(name);
    let copy = Scenario { name: name.to_owned(), dir: dir.join(name) };
    copy_inputs(&golden.dir, &copy.dir)?;
    record::record(guest, &copy)?;
    let (old, new) = (golden.recording()?, copy.recording()?);
    let mut differing = different(&old, &new);
    for file in ["policy.tsv", "tree"] {
        let read = |scenario: &Scenario| std::fs::read(scenario.dir.join("kernel").join(file)).ok();
        if read(&golden) != read(&copy) {
            differing.push(file.to_owned());
        }
    }
    Ok(differing)
}

/// Which parts of two recordings differ, with the first place where they do.
fn different(old: &Recording, new: &Recording) -> Vec<String> {
    let mut found = Vec::new();
    for (part, old, new) in
        [("pre", &old.before, &new.before), ("operations", &old.operations, &new.operations)]
    {
        if old.len() != new.len() {
            found.push(format!("{part}: {} instead of {}", new.len(), old.len()));
        }
        for (number, (old, new)) in (1..).zip(old.iter().zip(new)).filter(|(_, (old, new))| old != new) {
            let show = |operation: &Operation| {
                let records = operation.records.join(&b"; "[..]);
                format!("{} [{}]", operation.result, records.escape_ascii())
            };
            found.push(format!("{part} {number}: {} instead of {}", show(new), show(old)));
        }
    }
    // The first entry is boot_aggregate.
    let lists = (old.list.get(1..), new.list.get(1..));
    if lists.0 != lists.1 || old.counts != new.counts {
        found.push("list".to_owned());
    }
    if old.registers.lines().count() != new.registers.lines().count() {
        found.push("registers".to_owned());
    }
    found
}

fn copy_inputs(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).context("cannot make a directory")?;
    for entry in std::fs::read_dir(from).with_context(|| format!("no scenario {}", from.display()))? {
        let path = entry.context("cannot list a scenario")?.path();
        let Some(name) = path.file_name().filter(|name| *name != "kernel") else { continue };
        if path.is_dir() {
            copy_inputs(&path, &to.join(name))?;
        } else {
            std::fs::copy(&path, to.join(name)).context("cannot copy a scenario")?;
        }
    }
    Ok(())
}
