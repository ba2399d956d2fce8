//! podman and Docker, which take the same words.

use super::{Ended, Engine, Host};
use crate::Scratch;
use crate::process::{output, succeed, until};
use anyhow::{Context, Result, ensure};
use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
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
    dir: PathBuf,
    base: Vec<OsString>,
    environment: Vec<(&'static str, PathBuf)>,
    daemon: Option<Child>,
}

impl Cli {
    /// podman: it has no daemon.
    ///
    /// # Errors
    /// Fails when the runtime is not built.
    pub fn podman(scratch: &Scratch, host: &Host) -> Result<Self> {
        let mut base = Self::podman_in(scratch, "podman")?;
        base.extend(["--runtime".into(), host.recorder.clone().into_os_string()]);
        base.extend(["--runtime-flag".into(), format!("imafs-config={}", host.config.display()).into()]);
        Ok(Self::without_daemon(scratch, base, Vec::new()))
    }

    /// podman with the real runtime, on layers that `mount_program` mounts as its configuration says.
    ///
    /// # Errors
    /// Fails when its directories cannot be made.
    pub fn podman_on_layers(scratch: &Scratch, mount_program: &Path, config: &Path) -> Result<Self> {
        let mut base = Self::podman_in(scratch, "layers")?;
        base.extend(["--storage-driver", "overlay", "--storage-opt"].map(OsString::from));
        base.push(format!("overlay.mount_program={}", mount_program.display()).into());
        base.extend(["--runtime", "runc"].map(OsString::from));
        let environment = vec![("IMAFS_MOUNT_PROGRAM_CONFIG", config.to_owned())];
        Ok(Self::without_daemon(scratch, base, environment))
    }

    fn without_daemon(
        scratch: &Scratch,
        base: Vec<OsString>,
        environment: Vec<(&'static str, PathBuf)>,
    ) -> Self {
        Self { kind: Kind::Podman, dir: scratch.path().to_owned(), base, environment, daemon: None }
    }

    /// podman with its data in one directory.
    fn podman_in(scratch: &Scratch, name: &str) -> Result<Vec<OsString>> {
        let mut base = vec![OsString::from("podman")];
        for (option, part) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            base.extend([option.into(), scratch.dir(&format!("{name}/{part}"))?.into_os_string()]);
        }
        base.extend(["--cgroup-manager", "cgroupfs"].map(OsString::from));
        Ok(base)
    }

    /// A command line of buildah on podman's store.
    pub fn buildah(&self, words: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        let shared = ["--root", "--runroot", "--storage-driver", "--storage-opt"];
        for pair in self.base.windows(2) {
            if let [name, value] = pair
                && shared.iter().any(|shared| name == shared)
            {
                command.arg(name).arg(value);
            }
        }
        command.args(words).envs(self.environment.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// Docker, with a runtime `imafs-PROFILE` for each of the profiles.
    ///
    /// # Errors
    /// Fails when dockerd does not answer; its log says why.
    pub fn docker(scratch: &Scratch, host: &Host, profiles: &[&str], more: &[&str]) -> Result<Self> {
        let dir = scratch.dir("docker")?;
        let socket = format!("unix://{}/docker.sock", dir.display());
        let program = &host.recorder;
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
        let docker = Self {
            kind: Kind::Docker,
            dir: scratch.path().to_owned(),
            base,
            environment: Vec::new(),
            daemon: Some(daemon),
        };
        let up = until(PATIENCE, || Ok(docker.say(&["version"])?.status == Some(0)))?;
        ensure!(
            up,
            "dockerd does not answer: {}",
            std::fs::read_to_string(dir.join("log")).unwrap_or_default()
        );
        Ok(docker)
    }

    /// Where Docker's daemon listens.
    pub fn socket(&self) -> OsString {
        self.base.iter().skip_while(|word| *word != "--host").nth(1).cloned().unwrap_or_default()
    }

    /// An image of podman's store, as skopeo names it.
    pub fn store(&self, image: &str) -> String {
        let of = |option: &str| {
            let after = self.base.iter().skip_while(|word| *word != option).nth(1);
            after.map(|word| word.to_string_lossy().into_owned()).unwrap_or_default()
        };
        format!("containers-storage:[overlay@{}+{}]{image}", of("--root"), of("--runroot"))
    }

    /// A command line of this engine.
    pub fn command(&self, words: &[&str]) -> Command {
        self.command_from(&self.base, words)
    }

    fn command_from(&self, base: &[OsString], words: &[&str]) -> Command {
        let mut all = base.iter();
        let mut command = Command::new(all.next().cloned().unwrap_or_default());
        command.args(all).args(words).envs(self.environment.iter().cloned()).stdin(Stdio::null());
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
        self.run_from(&self.base, profile, options, image_and_program)
    }

    /// `run` with the real runtime alone.
    pub fn run_plain(&self, options: &[&str], image_and_program: &[&str]) -> Command {
        self.run_from(&self.plain_base(), None, options, image_and_program)
    }

    /// A command line about a container of the real runtime, which would not take our options.
    pub fn command_plain(&self, words: &[&str]) -> Command {
        self.command_from(&self.plain_base(), words)
    }

    fn plain_base(&self) -> Vec<OsString> {
        let ours = ["--runtime", "--runtime-flag"];
        let mut base = self.base.iter();
        let mut plain: Vec<OsString> = base.next().into_iter().cloned().collect();
        while let (Some(name), Some(value)) = (base.next(), base.next()) {
            if !ours.iter().any(|ours| name == ours) {
                plain.extend([name.clone(), value.clone()]);
            }
        }
        if self.kind == Kind::Podman {
            plain.extend(["--runtime", "runc"].map(OsString::from));
        }
        plain
    }

    fn run_from(
        &self,
        base: &[OsString],
        profile: Option<&str>,
        options: &[&str],
        image_and_program: &[&str],
    ) -> Command {
        let mut command = self.command_from(base, &["run", "--network", "none"]);
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

    /// Keeps a stopped container as an image, the labels of what it has written included. Docker's `commit` drops those and
    /// its `import` does not, so there the layers are packed.
    ///
    /// # Errors
    /// Fails when the engine does, or the layers cannot be packed.
    pub fn keep(&self, container: &str, image: &str) -> Result<()> {
        if self.kind == Kind::Podman {
            return self.say(&["commit", "--quiet", container, image])?.well().map(drop);
        }
        let format = "{{.GraphDriver.Data.UpperDir}}:{{.GraphDriver.Data.LowerDir}}";
        let layers = self.say(&["inspect", "--format", format, container])?.well()?;
        let all = tempfile::tempdir_in(&self.dir).context("cannot make a directory")?;
        let options = format!("ro,lowerdir={}", layers.trim());
        succeed(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(all.path()))?;
        let tar = self.dir.join("kept.tar");
        let mut pack = Command::new("tar");
        pack.args(["--create", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--file"]).arg(&tar);
        let packed = succeed(pack.arg("--directory").arg(all.path()).arg("."));
        succeed(Command::new("umount").arg(all.path()))?;
        packed?;
        self.import(&tar, image)?;
        std::fs::remove_file(&tar).context("cannot remove the tar")
    }

    /// The process of a running container, as the host sees it.
    ///
    /// # Errors
    /// Fails when the engine does not say.
    pub fn pid(&self, container: &str) -> Result<u32> {
        let words = self.say(&["inspect", "--format", "{{.State.Pid}}", container])?.well()?;
        words.trim().parse().with_context(|| format!("no pid: {words}"))
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

impl Engine for Cli {
    fn run_named(&self, name: &str, program: &[&str]) -> Result<Command> {
        Ok(self.run(Some("exec"), &["--name", name], &[&["signed"], program].concat()))
    }

    fn remove_named(&self, name: &str) -> Command {
        let mut command = self.command(&["rm", "--force"]);
        if self.kind == Kind::Podman {
            command.args(["--time", "1"]);
        }
        command.arg(name);
        command
    }

    fn shim(&self) -> &'static str {
        match self.kind {
            Kind::Podman => "conmon",
            Kind::Docker => "containerd-shim-runc-v2",
        }
    }

    fn mark(&self) -> Cow<'_, str> {
        self.dir.to_string_lossy()
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        // Whatever a failed test left running would hold the scratch directory.
        if let Ok(list) = self.say(&["ps", "--all", "--quiet"]) {
            for id in list.words.split_whitespace() {
                // By the real runtime those that are its own, which does not know our options.
                drop(output(&mut self.command_plain(&["rm", "--force", id])));
                drop(self.say(&["rm", "--force", id]));
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
            super::end_shims(&self.dir.join("docker/exec/containerd/containerd.sock"));
        }
    }
}
