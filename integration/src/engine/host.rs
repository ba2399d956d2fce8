//! The host's side: the runtime's configuration, and whether anything was left behind.

use crate::Scratch;
use crate::process::{ours, until};
use crate::scratch::mount_table;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where imafs-runtime keeps what it has mounted.
const SLOTS: &str = "/run/imafs/runtime";

/// How long an engine may take to clean up after a container.
const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration of imafs-runtime.
#[derive(Debug)]
pub struct Host {
    /// Its directory.
    pub dir: PathBuf,
    /// `runtime.yaml`.
    pub config: PathBuf,
    /// What engines are given as their runtime: it writes down how it was called and becomes the runtime.
    pub recorder: PathBuf,
}

impl Host {
    /// Writes one with these profiles, each a name, its text, and what it permits (YAML, `{}` for nothing).
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn new(scratch: &Scratch, settings: &str, profiles: &[(&str, String, &str)]) -> Result<Self> {
        let dir = scratch.dir("etc")?;
        let mut text = format!("runtime: runc\n{settings}profiles:\n");
        for (name, profile, permit) in profiles {
            std::fs::write(dir.join(format!("{name}.yaml")), profile).context("cannot write a profile")?;
            text.push_str(&format!("  {name}: {{file: {name}.yaml, permit: {permit}}}\n"));
        }
        let config = dir.join("runtime.yaml");
        std::fs::write(&config, text).context("cannot write runtime.yaml")?;
        let recorder = dir.join("imafs-runtime");
        // A whole line at once: engines call side by side.
        let script = format!(
            "#!/bin/sh\nexport IMAFS_ENGINE={} IMAFS_RUNTIME_CONFIG={}\nline=; for word in \"$@\"; do line=\"$line$word\t\"; done\n\
             printf '%s\\n' \"$line\" >> {}\nexec {} \"$@\"\n",
            // By which the test finds its processes: not every call names one of its paths.
            scratch.path().display(),
            // podman's clean-up, which restarts containers, is not told of `--runtime-flag`.
            config.display(),
            dir.join("calls").display(),
            Self::runtime()?.display()
        );
        std::fs::write(&recorder, script).context("cannot write the recorder")?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&recorder, mode).context("cannot make the recorder a program")?;
        Ok(Self { dir, config, recorder })
    }

    /// How the runtime was called so far, our own options left out: the words of each call.
    ///
    /// # Errors
    /// Fails when nothing was recorded.
    pub fn calls(&self) -> Result<Vec<Vec<String>>> {
        let text = std::fs::read_to_string(self.dir.join("calls")).context("no call was recorded")?;
        let words = |line: &str| {
            let words = line.split('\t').filter(|word| !word.is_empty() && !word.starts_with("--imafs-"));
            words.map(str::to_owned).collect()
        };
        Ok(text.lines().map(words).collect())
    }

    /// The runtime itself.
    ///
    /// # Errors
    /// Fails when it is not built.
    pub fn runtime() -> Result<PathBuf> {
        ours("imafs-runtime")
    }

    /// Waits until nothing of these containers is left: no slot, no mount.
    ///
    /// # Errors
    /// Fails with what is left.
    pub fn is_clean_of(ids: &[String]) -> Result<()> {
        let mut left = Vec::new();
        let clean = until(PATIENCE, || {
            left = ids.iter().flat_map(|id| left_of(id)).collect();
            Ok(left.is_empty())
        })?;
        ensure!(clean, "left behind: {left:?}");
        Ok(())
    }
}

/// Slots and mounts whose path names the container.
fn left_of(id: &str) -> Vec<PathBuf> {
    let slots = std::fs::read_dir(SLOTS).into_iter().flatten().flatten().map(|entry| entry.path());
    let mounts =
        mount_table().into_iter().map(|mount| mount.target).filter(|path| path.starts_with("/run/imafs"));
    slots.chain(mounts).filter(|path| names(path, id)).collect()
}

fn names(path: &Path, id: &str) -> bool {
    path.iter().any(|part| part.to_str().is_some_and(|part| part.ends_with(&format!("-{id}"))))
}
