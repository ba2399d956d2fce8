//! podman and Docker, which take the same words.

use super::{Ended, Host};
use crate::Scratch;
use crate::process::{output, succeed, until};
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a daemon may take to answer first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which of the two; they choose a profile in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// By annotation.
    Podman,
    /// By a runtime of its own in `daemon.json`: Docker hands no annotation through before version 24.
    Docker,
}

/// An engine with its data below a scratch directory.
#[derive(Debug)]
pub struct Cli {
    kind: Kind,
    base: Vec<OsString>,
    daemon: Option<Child>,
}

impl Cli {
    /// podman: it has no daemon.
    ///
    /// # Errors
    /// Fails when the runtime is not built.
    pub fn podman(scratch: &Scratch, host: &Host) -> Result<Self> {
        let words = |name: &str, value: &Path| [OsString::from(name), value.into()];
        let mut base = vec![OsString::from("podman")];
        base.extend(words("--root", &scratch.dir("podman/root")?));
        base.extend(words("--runroot", &scratch.dir("podman/run")?));
        base.extend(words("--tmpdir", &scratch.dir("podman/tmp")?));
        base.extend(words("--runtime", &Host::runtime()?));
        base.extend(["--runtime-flag".into(), format!("imafs-config={}", host.config.display()).into()]);
        base.extend(["--cgroup-manager".into(), "cgroupfs".into()]);
        Ok(Self { kind: Kind::Podman, base, daemon: None })
    }

    /// Docker, with a runtime `imafs-PROFILE` for each of the profiles.
    ///
    /// # Errors
    /// Fails when dockerd does not answer; its log says why.
    pub fn docker(scratch: &Scratch, host: &Host, profiles: &[&str], more: &[&str]) -> Result<Self> {
        let dir = scratch.dir("docker")?;
        let socket = format!("unix://{}/docker.sock", dir.display());
        let program = Host::runtime()?;
        let runtime = |name: &&str| {
            let args =
                [format!("--imafs-config={}", host.config.display()), format!("--imafs-profile={name}")];
            (format!("imafs-{name}"), serde_json::json!({ "path": program, "runtimeArgs": args }))
        };
        let runtimes: serde_json::Map<_, _> = profiles.iter().map(runtime).collect();
        let config =
            scratch.file("docker/daemon.json", serde_json::json!({ "runtimes": runtimes }).to_string())?;
        let log = std::fs::File::create(dir.join("log")).context("cannot make the daemon's log")?;
        let mut daemon = Command::new("dockerd");
        daemon.arg("--config-file").arg(config).arg("--data-root").arg(scratch.dir("docker/data")?);
        daemon.arg("--exec-root").arg(scratch.dir("docker/exec")?).arg("--pidfile").arg(dir.join("pid"));
        daemon.args(["--host", &socket, "--bridge=none", "--iptables=false", "--ip6tables=false"]).args(more);
        daemon.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let daemon = daemon.spawn().context("cannot start dockerd")?;
        let base = ["docker", "--host", &socket].map(OsString::from).to_vec();
        let docker = Self { kind: Kind::Docker, base, daemon: Some(daemon) };
        let up = until(PATIENCE, || Ok(docker.say(&["version"])?.status == Some(0)))?;
        ensure!(
            up,
            "dockerd does not answer: {}",
            std::fs::read_to_string(dir.join("log")).unwrap_or_default()
        );
        Ok(docker)
    }

    /// A command line of this engine.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut all = self.base.iter();
        let mut command = Command::new(all.next().cloned().unwrap_or_default());
        command.args(all).args(words).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// Fails when the engine's client cannot be started.
    pub fn say(&self, words: &[&str]) -> Result<Ended> {
        output(&mut self.command(words)).map(|output| Ended::of(&output))
    }

    /// Gives the engine a tar as an image.
    ///
    /// # Errors
    /// Fails when it does not take it.
    pub fn import(&self, tar: &Path, image: &str) -> Result<()> {
        succeed(self.command(&["import"]).arg(tar).arg(image)).map(drop)
    }

    /// `run` with a profile (none: unchecked), options, and the image with its program.
    pub fn run(&self, profile: Option<&str>, options: &[&str], image_and_program: &[&str]) -> Command {
        let mut command = self.command(&["run", "--network", "none"]);
        match (self.kind, profile) {
            (Kind::Podman, profile) => {
                // Its defaults are above the hard limits of a container that tests run in.
                command.args(["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1024:1024"]);
                if let Some(profile) = profile {
                    command.args(["--annotation", &format!("org.imafs.profile={profile}")]);
                }
            }
            (Kind::Docker, Some(profile)) => drop(command.args(["--runtime", &format!("imafs-{profile}")])),
            (Kind::Docker, None) => {}
        }
        command.args(options).args(image_and_program);
        command
    }

    /// [`Cli::run`] to its end, the container removed afterwards.
    ///
    /// # Errors
    /// Fails when the engine's client cannot be started.
    pub fn once(&self, profile: Option<&str>, options: &[&str], image_and_program: &[&str]) -> Result<Ended> {
        let options = [&["--rm"], options].concat();
        output(&mut self.run(profile, &options, image_and_program)).map(|output| Ended::of(&output))
    }

    /// Starts a container in the background; its id.
    ///
    /// # Errors
    /// Fails when it does not start.
    pub fn start(&self, profile: Option<&str>, name: &str, image_and_program: &[&str]) -> Result<String> {
        let words = succeed(&mut self.run(profile, &["--detach", "--name", name], image_and_program))?;
        Ok(words.lines().last().unwrap_or_default().to_owned())
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        // Whatever a failed test left running would hold the scratch directory.
        if let Ok(list) = self.say(&["ps", "--all", "--quiet"]) {
            for id in list.words.split_whitespace() {
                let gone = self.say(&["rm", "--force", id]);
                drop(gone);
            }
        }
        if let Some(mut daemon) = self.daemon.take() {
            let asked = rustix::process::kill_process(
                rustix::process::Pid::from_child(&daemon),
                rustix::process::Signal::TERM,
            );
            let ended = crate::process::wait_for(&mut daemon, PATIENCE);
            if asked.is_err() || !matches!(ended, Ok(Some(_))) {
                eprintln!("dockerd does not end by itself");
                drop(daemon.kill());
            }
        }
    }
}
