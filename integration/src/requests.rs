//! Counting the requests that the kernel sends to one mount, by its own trace events.
//!
//! `fuse:fuse_request_send` tells of each request when it is queued, whatever the server makes of it. Each counter has a
//! trace instance of its own, so that several count side by side. FORGET is not among them: the kernel does not wait for
//! it, nor does it trace it.

use crate::{Mount, Scratch, scratch};
use anyhow::{Context, Result};
use rustix::mount::MountFlags;
use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the kernel's trace events are, if they are mounted.
const TRACING: &str = "/sys/kernel/tracing";

/// Sent by the kernel without waiting for the answer.
const ASYNCHRONOUS: [&str; 2] = ["FUSE_RELEASE", "FUSE_RELEASEDIR"];

/// Numbers counters within this process.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// Counts the requests of one mount.
#[derive(Debug)]
pub struct Requests {
    instance: PathBuf,
    /// Where the trace events were mounted for this.
    mounted: Option<Scratch>,
}

/// How many requests of each kind were sent, by the kernel's names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// Those that somebody waited for.
    pub fn synchronous(&self) -> u64 {
        self.sum(|name| !ASYNCHRONOUS.contains(&name))
    }

    /// The others.
    pub fn asynchronous(&self) -> u64 {
        self.sum(|name| ASYNCHRONOUS.contains(&name))
    }

    /// Those of one kind.
    pub fn of(&self, name: &str) -> u64 {
        self.sum(|found| found == name)
    }

    fn sum(&self, counts: impl Fn(&str) -> bool) -> u64 {
        self.0.iter().filter(|(name, _)| counts(name)).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} synchronous, {} asynchronous:", self.synchronous(), self.asynchronous())?;
        self.0.iter().try_for_each(|(name, count)| write!(f, " {name} {count}"))
    }
}

impl Requests {
    /// Of this mount.
    ///
    /// # Errors
    /// Fails where the kernel has no trace events, or does not let us have them.
    pub fn of(mount: &Mount) -> Result<Self> {
        let there = Path::new(TRACING).join("instances").is_dir();
        let mounted = if there { None } else { Some(mount_events()?) };
        let root = mounted.as_ref().map_or(TRACING.into(), |scratch| scratch.path().join("tracing"));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let instance = root.join(format!("instances/imafs-{}-{number}", std::process::id()));
        std::fs::create_dir(&instance).context("cannot make a trace instance")?;
        let requests = Self { instance, mounted };
        let connection = rustix::fs::minor(std::fs::metadata(mount.target())?.dev());
        requests.set("events/fuse/fuse_request_send/filter", &format!("connection == {connection}"))?;
        requests.set("events/fuse/fuse_request_send/enable", "1")?;
        Ok(requests)
    }

    /// What is sent while `work` runs. RELEASE may follow a moment later than the call that it belongs to.
    ///
    /// # Errors
    /// `work`'s, and those of reading the trace.
    pub fn during(&self, work: impl FnOnce() -> Result<()>) -> Result<Counts> {
        self.set("trace", "")?;
        work()?;
        std::thread::sleep(std::time::Duration::from_millis(50));
        let trace = std::fs::read_to_string(self.instance.join("trace")).context("cannot read the trace")?;
        let mut counts = Counts::default();
        for line in trace.lines().filter(|line| line.contains("fuse_request_send:")) {
            // `opcode 14 (FUSE_OPEN) len 48`; a kind that the kernel has no name for stands as its number.
            let (_, name) = line.split_once('(').context("a trace line without a name")?;
            let (name, _) = name.split_once(')').context("a trace line without an end of its name")?;
            *counts.0.entry(name.to_owned()).or_default() += 1;
        }
        Ok(counts)
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        std::fs::write(self.instance.join(file), value).with_context(|| format!("cannot write {file}"))
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // An instance that stays behind costs memory, and nothing else.
        drop(self.set("events/fuse/fuse_request_send/enable", "0"));
        drop(std::fs::remove_dir(&self.instance));
        if let Some(mounted) = &self.mounted {
            scratch::detach(&mounted.path().join("tracing"));
        }
    }
}

fn mount_events() -> Result<Scratch> {
    let scratch = Scratch::new()?;
    let target = scratch.dir("tracing")?;
    rustix::mount::mount("tracefs", &target, "tracefs", MountFlags::empty(), c"")
        .context("cannot mount the kernel's trace events (tracefs)")?;
    Ok(scratch)
}
