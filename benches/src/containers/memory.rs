//! The memory of imafs under many containers.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use benches::{Cell, Results};
use integration::engine::Ended;
use integration::process::output;

use crate::engine::Started;

/// Where running mounts are registered.
const MOUNTS: &str = "/run/imafs/mounts";

/// Starts so many containers, a program in each, and adds up what their imafs processes have: pages shared by several are
/// counted once (`Pss`).
pub(crate) fn of_containers(engine: &Started, counts: &[usize]) -> Result<()> {
    let others = processes(&engine.mark())?;
    let mut cells = Vec::new();
    let mut running = 0;
    for count in counts.iter().copied() {
        for number in running..count {
            let name = format!("many-{number}");
            Ended::of(&output(&mut engine.stay(&name))?).well().with_context(|| name.clone())?;
            Ended::of(&output(&mut engine.exec_in(&name))?).well().with_context(|| name.clone())?;
        }
        running = running.max(count);
        eprintln!("{running} containers");
        let mut cell = Cell::new(format!("{}: {running} containers", engine.name()));
        let all = processes(&engine.mark())?.into_iter().filter(|pid| !others.contains(pid));
        let all = all.map(memory).collect::<Result<Vec<_>>>()?;
        let sum = |part: fn(&Memory) -> f64| all.iter().map(part).sum::<f64>();
        cell.runs.push(sum(|memory| memory.proportional));
        cell.facts.push(("processes", processes_of(all.len())));
        cell.facts.push(("KiB each", sum(|memory| memory.proportional) / processes_of(all.len())));
        cell.facts.push(("resident KiB each", sum(|memory| memory.resident) / processes_of(all.len())));
        cells.push(cell);
    }
    for number in 0..running {
        output(&mut engine.remove(&format!("many-{number}")))?;
    }
    let results = Results {
        name: "containers-memory",
        question: "How much memory has imafs under so many running containers?",
        unit: "KiB, shared pages counted once",
        rounds: 1,
        cells,
    };
    results.publish()
}

#[expect(clippy::cast_precision_loss, reason = "some hundred processes")]
fn processes_of(count: usize) -> f64 {
    count as f64
}

/// The processes of mounts whose source has this mark.
fn processes(mark: &str) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(MOUNTS).with_context(|| format!("cannot list {MOUNTS}"))?.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let state: serde_json::Value = read(&path).and_then(|text| Ok(serde_json::from_str(&text)?))?;
        let of = |key: &str| state.get(key).cloned().unwrap_or_default();
        if of("source").as_str().is_some_and(|source| source.contains(mark)) {
            found.extend(of("pid").as_u64());
        }
    }
    Ok(found)
}

/// KiB of one process.
struct Memory {
    proportional: f64,
    resident: f64,
}

fn memory(pid: u64) -> Result<Memory> {
    let path = PathBuf::from(format!("/proc/{pid}/smaps_rollup"));
    let text = read(&path)?;
    let of = |name: &str| -> Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        line.split_whitespace().next().and_then(|number| number.parse().ok()).context("no number")
    };
    Ok(Memory { proportional: of("Pss:")?, resident: of("Rss:")? })
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
