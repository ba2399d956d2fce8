//! What `docker/` holds besides what the other tests run: manifests, units and a compose file, held against the schemas
//! and by the programs they are written for.

use anyhow::{Context, Result, ensure};
use integration::engine::{Cli, Ended, Host};
use integration::need::skipping_is_forbidden;
use integration::process::{output, repository, succeed, until};
use integration::{Need, Scratch, need};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[test]
fn kubernetes_manifests_are_what_its_schemas_describe() -> Result<()> {
    let program = repository().join("target/tools/kubernetes-validate/bin/kubernetes-validate");
    if !program.is_file() {
        let reason = "kubernetes-validate is not installed: run scripts/install-kubernetes-validate.sh";
        ensure!(!skipping_is_forbidden(), reason);
        eprintln!("skipped: {reason}");
        return Ok(());
    }
    let validate = |file: &Path| -> Result<Ended> {
        let mut command = Command::new(&program);
        Ok(Ended::of(&output(command.args(["--strict", "-k", "1.28"]).arg(file))?))
    };
    let dir = repository().join("docker/kubernetes");
    for name in ["runtimeclass.yaml", "daemonset.yaml", "pod.yaml"] {
        validate(&dir.join(name))?.well().with_context(|| name.to_owned())?;
    }
    let scratch = Scratch::new()?;
    let mistyped =
        std::fs::read_to_string(dir.join("pod.yaml"))?.replace("runtimeClassName", "runtimeClasName");
    validate(&scratch.file("pod.yaml", mistyped)?)?.refused("runtimeClasName")
}

#[test]
fn units_are_what_systemd_understands() -> Result<()> {
    need!(Need::Program("systemd-analyze"));
    let verify = |unit: &Path| -> Result<Vec<String>> {
        let said = Ended::of(&output(Command::new("systemd-analyze").arg("verify").arg(unit))?).words;
        // That the programs are not installed here is no fault of the unit's.
        let bad = said.lines().filter(|line| line.contains("imafs") && !line.contains("is not executable"));
        Ok(bad.map(str::to_owned).collect())
    };
    let dir = repository().join("docker/systemd");
    for unit in ["imafs@.service", "imafs-sweep.service", "imafs-sweep.timer"] {
        let bad = verify(&dir.join(unit.replace('@', "@web")))?;
        ensure!(bad.is_empty(), "{unit}: {bad:?}");
    }
    let scratch = Scratch::new()?;
    let mistyped = std::fs::read_to_string(dir.join("imafs@.service"))?.replace("ExecStart=", "ExecStrat=");
    let bad = verify(&scratch.file("imafs-mistyped.service", mistyped)?)?;
    ensure!(!bad.is_empty(), "a unit without a program is good");
    Ok(())
}

#[test]
fn docker_compose_understands_its_file() -> Result<()> {
    need!(Need::Program("docker-compose"));
    let file = repository().join("docker/compose.yaml");
    let config = |file: &Path| -> Result<Ended> {
        let mut compose = Command::new("docker-compose");
        Ok(Ended::of(&output(compose.arg("--file").arg(file).args(["config"]))?))
    };
    let words = config(&file)?.well()?;
    ensure!(words.contains("runtime: imafs-immutable"), "{words}");
    let scratch = Scratch::new()?;
    let mistyped = std::fs::read_to_string(&file)?.replace("runtime:", "runtme:");
    config(&scratch.file("compose.yaml", mistyped)?)?.refused("runtme")
}

/// `docker/compose.yaml` on a Docker that has the runtime it names: the service is healthy by what it reads of its own mount,
/// cannot change its root, and is checked again when it was killed and restarted.
pub fn compose_brings_it_up(docker: &Cli) -> Result<()> {
    let file = repository().join("docker/compose.yaml");
    let compose = |words: &[&str]| -> Result<String> {
        let mut compose = Command::new("docker-compose");
        compose.env("DOCKER_HOST", docker.socket()).env("COMPOSE_PROJECT_NAME", "imafs-papers");
        succeed(compose.arg("--file").arg(&file).args(words))
    };
    compose(&["up", "--detach"])?;
    let id = compose(&["ps", "--quiet", "web"])?.trim().to_owned();
    let healthy = || -> Result<()> {
        let mut state = String::new();
        let well = until(Duration::from_secs(120), || {
            let format = "{{.State.Health.Status}}";
            state = docker.say(&["inspect", "--format", format, &id])?.well()?;
            Ok(state.trim() == "healthy")
        })?;
        ensure!(well, "it is {state}");
        Ok(())
    };
    let exec = |program: &str| docker.say(&["exec", &id, "sh", "-c", program]);
    healthy()?;
    exec("echo kept > /srv/note; echo gone > /tmp/note")?.well()?;
    exec("touch /note")?.refused("Read-only file system")?;
    exec("sha256sum /etc/hostname")?.refused("Permission denied")?;
    let pid = docker.pid(&id)?;
    kill_process(Pid::from_raw(i32::try_from(pid)?).context("no pid")?, Signal::KILL)?;
    let again = until(Duration::from_secs(60), || Ok(![0, pid].contains(&docker.pid(&id)?)))?;
    ensure!(again, "it is not restarted");
    healthy()?;
    exec("cat /srv/note; test ! -e /tmp/note")?.well()?;
    exec("sha256sum /etc/hostname")?.refused("Permission denied")?;
    compose(&["down", "--volumes"])?;
    Host::is_clean_of(&[id])
}
