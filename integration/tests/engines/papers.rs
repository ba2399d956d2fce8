//! What `docker/` holds besides what the other tests run: manifests, units and a compose file, held against the schemas
//! and by the programs they are written for.

use anyhow::{Context, Result, ensure};
use integration::engine::Ended;
use integration::need::skipping_is_forbidden;
use integration::process::{output, repository};
use integration::{Need, Scratch, need};
use std::path::Path;
use std::process::Command;

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
