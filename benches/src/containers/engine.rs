//! An engine that has the signed image, and one container running with and one without a check.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use integration::Scratch;
use integration::engine::{Cli, Ctr, Ended, Engine as _, Host, Image};
use integration::process::{output, succeed};

/// What is run in containers: a program and the libraries it needs, from a shell.
const PROGRAM: [&str; 3] = ["sh", "-c", "ls /usr"];
/// What keeps a container running.
const WAIT: [&str; 2] = ["sleep", "36000"];

/// Whether imafs stands under a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// The real runtime alone.
    Plain,
    /// With the policy `exec`.
    Exec,
}

impl Check {
    /// The container that runs all the time.
    fn running(self) -> &'static str {
        match self {
            Self::Plain => "running-plain",
            Self::Exec => "running-checked",
        }
    }
}

/// See the module's text. Its containers and its daemon go with it.
pub(crate) enum Started {
    Podman(Cli),
    Docker(Cli),
    Containerd(Ctr),
}

impl Started {
    pub(crate) fn new(name: &str, scratch: &Scratch, host: &Host, image: &Image) -> Result<Self> {
        let started = match name {
            "podman" => Self::Podman(Cli::podman(scratch, host)?),
            "docker" => Self::Docker(Cli::docker(scratch, host, &["exec"], &[])?),
            "containerd" => {
                let mut ctr = Ctr::new(scratch, host)?;
                ctr.import(&archive(scratch, host, image)?)?;
                Self::Containerd(ctr)
            }
            _ => bail!("there is no engine '{name}' here: podman, docker, containerd"),
        };
        if let Self::Podman(cli) | Self::Docker(cli) = &started {
            cli.import(&image.tar, "signed")?;
        }
        for check in [Check::Plain, Check::Exec] {
            let mut background = started.container(check, check.running(), &["--detach"], &WAIT);
            Ended::of(&output(&mut background)?).well()?;
        }
        Ok(started)
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Podman(_) => "podman",
            Self::Docker(_) => "docker",
            Self::Containerd(_) => "containerd",
        }
    }

    /// What stands on the command lines of its processes.
    pub(crate) fn mark(&self) -> String {
        match self {
            Self::Podman(cli) | Self::Docker(cli) => cli.mark().into_owned(),
            Self::Containerd(ctr) => ctr.mark().into_owned(),
        }
    }

    /// A container that runs the program and goes.
    pub(crate) fn run(&self, check: Check) -> Command {
        self.container(check, "short", &["--rm"], &PROGRAM)
    }

    /// A container that stays.
    pub(crate) fn stay(&self, name: &str) -> Command {
        self.container(Check::Exec, name, &["--detach"], &WAIT)
    }

    /// Takes a container away.
    pub(crate) fn remove(&self, name: &str) -> Command {
        let mut command = match self {
            Self::Podman(cli) | Self::Docker(cli) => cli.remove_named(name),
            Self::Containerd(ctr) => ctr.remove_named(name),
        };
        command.stdout(Stdio::null());
        command
    }

    /// The program, in the container that runs all the time.
    pub(crate) fn exec(&self, check: Check) -> Command {
        match self {
            Self::Podman(cli) | Self::Docker(cli) if check == Check::Plain => {
                cli.command_plain(&[&["exec", check.running()], &PROGRAM[..]].concat())
            }
            Self::Podman(_) | Self::Docker(_) | Self::Containerd(_) => self.exec_in(check.running()),
        }
    }

    /// The program, in a container of this name.
    pub(crate) fn exec_in(&self, name: &str) -> Command {
        match self {
            Self::Podman(cli) | Self::Docker(cli) => cli.command(&[&["exec", name], &PROGRAM[..]].concat()),
            Self::Containerd(ctr) => {
                ctr.command(&[&["task", "exec", "--exec-id", "bench", name], &PROGRAM[..]].concat())
            }
        }
    }

    fn container(&self, check: Check, name: &str, options: &[&str], program: &[&str]) -> Command {
        let profile = (check == Check::Exec).then_some("exec");
        let named = [options, &["--name", name]].concat();
        let words = [&["signed"], program].concat();
        match self {
            Self::Podman(cli) | Self::Docker(cli) => match profile {
                Some(_) => cli.run(profile, &named, &words),
                None => cli.run_plain(&named, &words),
            },
            Self::Containerd(ctr) => match profile {
                Some(profile) => ctr.run(profile, options, name, program),
                None => ctr.run_plain(options, name, program),
            },
        }
    }
}

/// The image as `ctr` takes it, made by podman.
fn archive(scratch: &Scratch, host: &Host, image: &Image) -> Result<PathBuf> {
    let archive = scratch.path().join("signed.oci");
    // In a directory of its own: it removes its containers, all there are, when it is dropped.
    let own = Scratch::new()?;
    let podman = Cli::podman(&own, host)?;
    podman.import(&image.tar, "signed")?;
    let mut save = podman.command(&["save", "--quiet", "--format", "oci-archive", "--output"]);
    succeed(save.arg(&archive).arg("signed"))?;
    Ok(archive)
}
