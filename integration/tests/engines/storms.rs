//! Many containers at once, and processes killed at random moments: afterwards the host is clean.

use anyhow::{Context, Result, ensure};
use integration::engine::{Cli, Ended, Host};
use integration::process::{output, until};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// Containers of [`of_containers`]: `$IMAFS_ENGINE_CONTAINERS`, else few enough for every run.
fn containers() -> usize {
    number("IMAFS_ENGINE_CONTAINERS", 20)
}

/// Kills of [`of_kills`]: `$IMAFS_ENGINE_KILLS`, else few enough for every run.
fn kills() -> usize {
    number("IMAFS_ENGINE_KILLS", 10)
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Ten at a time.
pub fn of_containers(engine: &Cli) -> Result<()> {
    for batch in 0..containers().div_ceil(10) {
        let start = |n: usize| {
            let name = format!("storm-{batch}-{n}");
            let mut run = engine.run(Some("exec"), &["--rm", "--name", &name], &["signed", "ls", "/usr"]);
            run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        };
        let all = (0..10).map(start).collect::<Result<Vec<_>, _>>()?;
        for child in all {
            let ended = Ended::of(&child.wait_with_output()?);
            ended.well().with_context(|| format!("batch {batch}"))?;
        }
    }
    nothing_is_mounted()
}

/// Kills the engine's monitor, the runtime or imafs while a container comes up or goes down.
pub fn of_kills(engine: &Cli) -> Result<()> {
    let mut killed = 0;
    for round in 0..kills() {
        let name = format!("kill-{round}");
        let mut run = engine.run(Some("exec"), &["--name", &name], &["signed", "sleep", "0.2"]);
        let mut child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // Moments spread over what a container's life takes here; which step is met differs from run to run.
        std::thread::sleep(Duration::from_millis(30 + 61 * (round as u64 * 7 % 20)));
        killed += usize::from(kill_one_of(&name, round)?);
        // A client may wait for a container whose monitor is gone; it is not what is tested.
        if integration::process::wait_for(&mut child, Duration::from_secs(20))?.is_none() {
            child.kill()?;
            child.wait()?;
        }
        let _removed = engine.say(&["rm", "--force", "--time", "1", &name])?;
    }
    eprintln!("{killed} of {} kills met a process", kills());
    engine.once(Some("exec"), &[], &["signed", "ls", "/"])?.well().context("the next container")?;
    nothing_is_mounted()
}

/// Kills one process that has the container's name or the id that belongs to it on its command line.
fn kill_one_of(name: &str, round: usize) -> Result<bool> {
    let wanted: &[&str] = match round % 3 {
        0 => &["imafs-runtime", "runc"],
        1 => &["imafs"],
        _ => &["conmon"],
    };
    // Of a test's own engine alone: its scratch directory is in every path.
    let mine = |words: &str| words.contains("imafs-proof-") && !words.starts_with("podman");
    for pid in pids()? {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&line).replace('\0', " ");
        let program = words.split(' ').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        if wanted.contains(&program)
            && mine(&words)
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            eprintln!("{name}: killing {program}");
            // It may have ended by itself meanwhile.
            return Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok());
        }
    }
    Ok(false)
}

fn pids() -> Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// No slot of a container that is gone, and no mount of imafs: what a kill left, the sweep takes away.
fn nothing_is_mounted() -> Result<()> {
    let sweep = || output(std::process::Command::new(Host::runtime()?).arg("imafs-sweep"));
    let mut left: Vec<PathBuf> = Vec::new();
    let clean = until(Duration::from_secs(30), || {
        sweep()?;
        let slots = std::fs::read_dir("/run/imafs/runtime").into_iter().flatten().flatten();
        left = slots.map(|entry| entry.path()).filter(|path| is_ours(path)).collect();
        Ok(left.is_empty())
    })?;
    ensure!(clean, "left behind: {left:?}");
    Ok(())
}

/// Whether a slot belongs to an engine of a test: its bundle lies in a scratch directory.
fn is_ours(slot: &std::path::Path) -> bool {
    std::fs::read_to_string(slot.join("state")).is_ok_and(|state| state.contains("imafs-proof-"))
}
