//! Container engines as Debian ships them, started by a test and gone with it.
//!
//! podman and Docker speak one command line ([`Cli`]); containerd is driven through `ctr` ([`Ctr`]). Each has its data
//! below the test's scratch directory. What imafs itself keeps lies in its usual place, `/run/imafs`, because engines
//! start runtimes with an environment of their own.

mod cli;
mod ctr;
mod host;
mod image;

pub use cli::Cli;
pub use ctr::Ctr;
pub use host::Host;
pub use image::Image;

use anyhow::{Result, ensure};
use std::borrow::Cow;
use std::path::Path;
use std::process::{Command, Output};

/// What storms need of an engine: containers by name, from the signed image, with the profile `exec`.
pub trait Engine {
    /// Runs one in the foreground; it is there when the program has ended, to be removed.
    ///
    /// # Errors
    /// Fails when the runtime is not built.
    fn run_named(&self, name: &str, program: &[&str]) -> Result<Command>;

    /// Removes one, whatever has become of it.
    fn remove_named(&self, name: &str) -> Command;

    /// The program that watches over a container.
    fn shim(&self) -> &'static str;

    /// What stands on the command lines of all its processes, and of nobody else's.
    fn mark(&self) -> Cow<'_, str>;
}

/// Ends what is left of containerd's shims on this socket, once their engine is gone. One whose deletion was killed would
/// stay for ever.
fn end_shims(socket: &Path) {
    use rustix::process::{Pid, Signal, kill_process};
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let mut words = line.split('\0');
        let is_shim = words.next().is_some_and(|program| program.ends_with("/containerd-shim-runc-v2"));
        let pid = entry.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?));
        if let (true, Some(pid)) = (is_shim && words.any(|word| Path::new(word) == socket), pid)
            && let Err(error) = kill_process(pid, Signal::KILL)
        {
            eprintln!("cannot end a shim: {error}");
        }
    }
}

/// What a program in a container ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status as the engine passes it on; `None` when a signal ended the engine's client.
    pub status: Option<i32>,
    /// What it and the engine wrote, both streams, one after the other.
    pub words: String,
}

impl Ended {
    /// From a finished command.
    pub fn of(output: &Output) -> Self {
        let words = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        Self { status: output.status.code(), words: String::from_utf8_lossy(&words).into_owned() }
    }

    /// It did what it should; gives its words.
    ///
    /// # Errors
    /// Fails with its words when the status is not 0.
    pub fn well(self) -> Result<String> {
        ensure!(self.status == Some(0), "ended with {:?}: {}", self.status, self.words);
        Ok(self.words)
    }

    /// It was refused: not status 0, and the words hold `reason`.
    ///
    /// # Errors
    /// Fails with its words otherwise.
    pub fn refused(self, reason: &str) -> Result<()> {
        ensure!(self.status != Some(0), "it was not refused: {}", self.words);
        ensure!(
            self.words.contains(reason),
            "refused ({:?}) without '{reason}': {}",
            self.status,
            self.words
        );
        Ok(())
    }
}
