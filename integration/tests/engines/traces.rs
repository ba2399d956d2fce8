//! What containers leave on a host: processes, slots, mounts, and what the real runtime keeps of them.

use anyhow::{Result, ensure};
use integration::engine::Engine;
use integration::process::until;
use integration::scratch::mount_table;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// Where runc keeps containers, by engine, and where imafs keeps what it has mounted.
const KEPT: [&str; 4] =
    ["/run/imafs/runtime", "/run/runc", "/run/docker/runtime-runc/moby", "/run/containerd/runc/default"];

/// A process of an engine's containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub program: String,
    line: String,
}

impl Process {
    /// Whether its command line has this word; every one has the empty word.
    pub fn has(&self, word: &str) -> bool {
        word.is_empty() || self.line.split(' ').any(|other| other == word)
    }

    /// Whether it is still the process it was.
    pub fn is_there(&self) -> bool {
        line_of(self.pid) == self.line
    }
}

fn line_of(pid: i32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

fn environment_of(pid: i32) -> String {
    let all = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    String::from_utf8_lossy(&all).into_owned()
}

/// Processes that name the engine's own directory on their command line or in their environment, engine and clients left
/// out.
pub fn processes(engine: &dyn Engine) -> Result<Vec<Process>> {
    let known = known(engine);
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = line_of(pid);
        let program = line.split(' ').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let named = || line.contains(&*engine.mark()) || environment_of(pid).contains(&*engine.mark());
        if known.contains(&program) && named() {
            all.push(Process { pid, program: program.to_owned(), line: line.clone() });
        }
    }
    Ok(all)
}

/// How far the newest container is, by what is in its slot.
pub fn step() -> String {
    let slots = std::fs::read_dir("/run/imafs/runtime").into_iter().flatten().flatten();
    let newest = slots.max_by_key(|slot| slot.metadata().and_then(|metadata| metadata.modified()).ok());
    let Some(slot) = newest.map(|slot| slot.path()) else { return "before there is a slot".to_owned() };
    let state = std::fs::read_to_string(slot.join("state")).unwrap_or_default();
    let mounted = mount_table().into_iter().any(|mount| mount.target == slot.join("rootfs"));
    match (state.is_empty(), mounted, state.contains("\"created\":true")) {
        (true, ..) => "before the state is written",
        (false, false, false) => "before the mount",
        (false, true, false) => "between mount and creation",
        (false, true, true) => "when it has been created",
        (false, false, true) => "after the unmount",
    }
    .to_owned()
}

/// What there was before.
#[derive(Debug)]
pub struct Traces(BTreeSet<PathBuf>);

impl Traces {
    pub fn before(engine: &dyn Engine) -> Result<Self> {
        Ok(Self(found(engine, &known(engine))?))
    }

    /// Waits until nothing is there that was not there before, with the runtime's own help.
    pub fn nothing_is_new(&self, engine: &dyn Engine) -> Result<()> {
        self.nothing_is_new_of(engine, &known(engine))
    }

    /// The same, after processes were killed. containerd's shim ends when its engine has deleted the container; where the
    /// deletion was killed, Docker and `ctr` leave the shim, with plain runc as well. It holds no container then: those are
    /// looked for here as always.
    pub fn nothing_but_shims_is_new(&self, engine: &dyn Engine) -> Result<()> {
        let known: Vec<_> =
            known(engine).into_iter().filter(|name| !name.starts_with("containerd-")).collect();
        self.nothing_is_new_of(engine, &known)
    }

    fn nothing_is_new_of(&self, engine: &dyn Engine, programs: &[&str]) -> Result<()> {
        let mut left = Vec::new();
        let clean = until(Duration::from_secs(60), || {
            crate::storms::sweep()?;
            left = found(engine, programs)?.difference(&self.0).cloned().collect();
            Ok(left.is_empty())
        })?;
        ensure!(clean, "left behind: {left:#?}");
        Ok(())
    }
}

fn known(engine: &dyn Engine) -> Vec<&'static str> {
    vec!["imafs-runtime", "imafs", "runc", engine.shim()]
}

fn found(engine: &dyn Engine, programs: &[&str]) -> Result<BTreeSet<PathBuf>> {
    let mut all = BTreeSet::new();
    for directory in KEPT {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        all.extend(entries.map(|entry| entry.path()));
    }
    // Mounts of others may come and go meanwhile. A log stays on purpose where a process was killed.
    let registered = std::fs::read_dir("/run/imafs/mounts").into_iter().flatten().flatten();
    let registered =
        registered.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|x| x == "json"));
    let ours =
        |path: &PathBuf| std::fs::read_to_string(path).is_ok_and(|text| text.contains(&*engine.mark()));
    all.extend(registered.filter(ours));
    let mounts = mount_table().into_iter().map(|mount| mount.target);
    all.extend(mounts.filter(|target| target.starts_with("/run/imafs/runtime")));
    let running = processes(engine)?.into_iter();
    let running = running.filter(|process| programs.contains(&process.program.as_str()));
    all.extend(running.map(|process| PathBuf::from(format!("process {}: {}", process.pid, process.line))));
    Ok(all)
}
