//! containerd, through `ctr`.

use super::{Ended, Host};
use crate::Scratch;
use crate::process::{output, succeed, until, wait_for};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long the daemon may take to answer first.
const PATIENCE: Duration = Duration::from_secs(60);

/// A containerd of the test's own.
#[derive(Debug)]
pub struct Ctr {
    socket: PathBuf,
    daemon: Child,
}

impl Ctr {
    /// Starts it. The shim has no option for arguments of the runtime, so the configuration is named in the
    /// environment, which shims hand on.
    ///
    /// # Errors
    /// Fails when it does not answer; its log says why.
    pub fn new(scratch: &Scratch, host: &Host) -> Result<Self> {
        let dir = scratch.dir("containerd")?;
        let socket = dir.join("sock");
        let text = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{0}/sock\"\n[ttrpc]\naddress = \"{0}/ttrpc\"\n",
            dir.display()
        );
        let config = scratch.file("containerd/config.toml", text)?;
        let log = std::fs::File::create(dir.join("log")).context("cannot make the daemon's log")?;
        let mut daemon = Command::new("containerd");
        daemon.arg("--config").arg(config).env("IMAFS_RUNTIME_CONFIG", &host.config);
        daemon.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let ctr = Self { socket, daemon: daemon.spawn().context("cannot start containerd")? };
        let up = until(PATIENCE, || Ok(ctr.say(&["version"])?.status == Some(0)))?;
        ensure!(
            up,
            "containerd does not answer: {}",
            std::fs::read_to_string(dir.join("log")).unwrap_or_default()
        );
        Ok(ctr)
    }

    /// A command line of `ctr`.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket).args(words).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// Fails when `ctr` cannot be started.
    pub fn say(&self, words: &[&str]) -> Result<Ended> {
        output(&mut self.command(words)).map(|output| Ended::of(&output))
    }

    /// Gives it an OCI archive; the image's name.
    ///
    /// # Errors
    /// Fails when it does not take it.
    pub fn import(&self, archive: &Path) -> Result<String> {
        succeed(self.command(&["image", "import", "--base-name", "signed", "--digests"]).arg(archive))?;
        let names = self.say(&["image", "ls", "--quiet"])?.well()?;
        names.lines().next().map(str::to_owned).context("ctr imported no image")
    }

    /// `run` of a container with a profile.
    ///
    /// # Errors
    /// Fails when the runtime is not built.
    pub fn run(
        &self,
        profile: &str,
        options: &[&str],
        image: &str,
        id: &str,
        program: &[&str],
    ) -> Result<Command> {
        let mut command = self.command(&["run", "--runc-binary"]);
        command.arg(Host::runtime()?).args(["--annotation", &format!("org.imafs.profile={profile}")]);
        command.args(options).args([image, id]).args(program);
        Ok(command)
    }
}

impl Drop for Ctr {
    fn drop(&mut self) {
        if let Ok(list) = self.say(&["task", "ls", "--quiet"]) {
            for id in list.words.split_whitespace() {
                drop(self.say(&["task", "rm", "--force", id]));
            }
        }
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let asked = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if asked.is_err() || !matches!(wait_for(&mut self.daemon, PATIENCE), Ok(Some(_))) {
            eprintln!("containerd does not end by itself");
            drop(self.daemon.kill());
        }
    }
}
