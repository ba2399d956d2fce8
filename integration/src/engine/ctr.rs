//! containerd, through `ctr`.

use super::{Ended, Engine, Host};
use crate::Scratch;
use crate::process::{output, succeed, until, wait_for};
use anyhow::{Context, Result, ensure};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long the daemon may take to answer first.
const PATIENCE: Duration = Duration::from_secs(60);

/// A containerd of the test's own.
#[derive(Debug)]
pub struct Ctr {
    socket: PathBuf,
    dir: PathBuf,
    image: String,
    recorder: PathBuf,
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
        let daemon = daemon.spawn().context("cannot start containerd")?;
        let ctr = Self {
            socket,
            dir: scratch.path().to_owned(),
            image: String::new(),
            recorder: host.recorder.clone(),
            daemon,
        };
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

    /// Gives it an OCI archive, the image of all its containers from now on.
    ///
    /// # Errors
    /// Fails when it does not take it.
    pub fn import(&mut self, archive: &Path) -> Result<()> {
        succeed(self.command(&["image", "import", "--base-name", "signed", "--digests"]).arg(archive))?;
        let names = self.say(&["image", "ls", "--quiet"])?.well()?;
        self.image = names.lines().next().map(str::to_owned).context("ctr imported no image")?;
        Ok(())
    }

    /// `run` of a container with the real runtime alone.
    pub fn run_plain(&self, options: &[&str], id: &str, program: &[&str]) -> Command {
        let mut command = self.command(&["run"]);
        command.args(options).args([self.image.as_str(), id]).args(program);
        command
    }

    /// `run` of a container with a profile.
    pub fn run(&self, profile: &str, options: &[&str], id: &str, program: &[&str]) -> Command {
        let mut command = self.command(&["run", "--runc-binary"]);
        command.arg(&self.recorder).args(["--annotation", &format!("org.imafs.profile={profile}")]);
        command.args(options).args([self.image.as_str(), id]).args(program);
        command
    }
}

impl Engine for Ctr {
    fn run_named(&self, name: &str, program: &[&str]) -> Result<Command> {
        Ok(self.run("exec", &[], name, program))
    }

    fn remove_named(&self, name: &str) -> Command {
        // Two commands for what is one with the others; the first has nothing to do where the task has ended.
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "ctr --address \"$1\" task rm --force \"$2\"; ctr --address \"$1\" container rm \"$2\"",
        ]);
        command.arg("sh").arg(&self.socket).arg(name).stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn shim(&self) -> &'static str {
        "containerd-shim-runc-v2"
    }

    fn mark(&self) -> Cow<'_, str> {
        self.dir.to_string_lossy()
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
        super::end_shims(&self.socket);
    }
}
