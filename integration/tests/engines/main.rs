//! podman, Docker and containerd, as Debian ships them, on a signed Debian root filesystem.
//!
//! Each engine is one test, because making its image takes longer than most of what is then asked of it.

mod builds;
mod carried;
mod commands;
mod label_paths;
mod options;
mod papers;
mod passed;
mod readme;
mod recorded;
mod refusals;
mod seeds;
mod storms;
mod traces;
mod users;

use anyhow::{Context, Result, ensure};
use integration::engine::{Cli, Ctr, Ended, Host, Image};
use integration::process::output;
use integration::{Need, Scratch, need};

/// One engine at a time: each looks for what it has left in places that are the host's.
fn alone() -> parking_lot::MutexGuard<'static, ()> {
    static ALONE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    ALONE.lock()
}

/// What a profile enforcing the shipped exec policy says.
fn exec_profile(image: &Image) -> String {
    format!("policy: exec\nkey: {}\n", image.keys.certificate.display())
}

/// The profiles of every test here: `exec`, and `locked`, whose key does not exist.
fn host(scratch: &Scratch, image: &Image) -> Result<Host> {
    let locked = "policy: exec\nkey: /nonexistent/key.pem\n".to_owned();
    let permit = "{policy: [immutable], appraise: [log]}";
    let mut profiles = vec![("exec", exec_profile(image), permit), ("locked", locked, "{}")];
    profiles.push(("immutable", exec_profile(image).replace("policy: exec", "policy: immutable"), "{}"));
    profiles.extend(carried::profiles(&exec_profile(image)));
    let policies = scratch.dir("policies")?;
    profiles.extend(seeds::profiles(&policies, &image.keys.certificate)?);
    profiles.extend(users::profiles(&policies, &image.keys.certificate)?);
    Host::new(scratch, "", &profiles)
}

/// A shell line that shows all we ask of a checked container: what is signed runs, what was tampered with and what was
/// copied do not, the list can be read and names what ran.
const PROOF: &str = "set -e
    ls / > /dev/null
    sha256sum /etc/hostname && exit 91 || test $? = 126
    cp /usr/bin/ls /tmp/copied; /tmp/copied && exit 92 || test $? = 126
    grep -q ' /usr/bin/ls' /.imafs/measurements || exit 93
    grep -q invalid-signature /.imafs/audit || exit 94
    echo proven";

fn proven(ended: Ended) -> Result<()> {
    let words = ended.well()?;
    ensure!(words.contains("proven"), "{words}");
    Ok(())
}

#[test]
fn podman_runs_containers_on_checked_root_filesystems() -> Result<()> {
    need!(
        Need::Root,
        Need::Fuse,
        Need::Program("podman"),
        Need::Program("runc"),
        Need::Program("mmdebstrap")
    );
    let _alone = alone();
    let scratch = Scratch::new()?;
    let Some(image) = Image::make(&scratch)? else { return Ok(()) };
    let host = host(&scratch, &image)?;
    let podman = Cli::podman(&scratch, &host)?;
    podman.import(&image.tar, "signed")?;
    proven(podman.once(Some("exec"), &[], &["signed", "sh", "-c", PROOF])?).context("run")?;
    let unchecked =
        podman.once(None, &[], &["signed", "sh", "-c", "test ! -e /.imafs && sha256sum /etc/hostname"])?;
    unchecked.well().context("a container without a profile runs as without us")?;
    commands::on_a_running_container(&podman, &scratch)?;
    refusals::are_told(&podman)?;
    refusals::by_annotation(&podman)?;
    options::are_heeded(&podman)?;
    passed::to_the_real_runtime(&podman, &host)?;
    users::of_a_user_namespace(&podman, &["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"])?;
    carried::by_podman(&scratch, &podman, &carried::labelled_thrice(&scratch, &image)?)?;
    builds::signed_in_stages(&scratch, &podman, &image.keys)?;
    storms::of_containers(&podman)?;
    storms::of_kills(&podman)?;
    seeds::walk_through(&podman)?;
    recorded::calls_are_replayed(&host, "podman")
}

#[test]
fn podman_and_buildah_build_on_layers_that_imafs_mounts() -> Result<()> {
    need!(
        Need::Root,
        Need::Fuse,
        Need::Program("podman"),
        Need::Program("buildah"),
        Need::Program("mmdebstrap")
    );
    let _alone = alone();
    let scratch = Scratch::new()?;
    let Some(image) = Image::make(&scratch)? else { return Ok(()) };
    builds::on_checked_layers(&scratch, &host(&scratch, &image)?, &image)
}

#[test]
fn the_readme_leads_from_nothing_to_a_refusal() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("podman"), Need::Program("unshare"));
    let _alone = alone();
    readme::leads_to_a_refusal(&Scratch::new()?)
}

#[test]
fn docker_runs_containers_on_checked_root_filesystems() -> Result<()> {
    need!(
        Need::Root,
        Need::Fuse,
        Need::Program("dockerd"),
        Need::Program("docker-compose"),
        Need::Program("runc"),
        Need::Program("mmdebstrap")
    );
    let _alone = alone();
    let scratch = Scratch::new()?;
    let Some(image) = Image::make(&scratch)? else { return Ok(()) };
    let host = host(&scratch, &image)?;
    let docker = Cli::docker(
        &scratch,
        &host,
        &[
            "exec",
            "immutable",
            "attribute",
            "manifest",
            "locked",
            "nosuch",
            "tcb-fix",
            "tcb",
            "user-fix",
            "user",
        ],
        &[],
    )?;
    docker.import(&image.tar, "signed")?;
    proven(docker.once(Some("exec"), &[], &["signed", "sh", "-c", PROOF])?).context("run")?;
    commands::on_a_running_container(&docker, &scratch)?;
    refusals::are_told(&docker)?;
    storms::of_containers(&docker)?;
    storms::of_kills(&docker)?;
    papers::compose_brings_it_up(&docker)?;
    options::are_heeded(&docker)?;
    carried::by_docker(&scratch, &docker, &carried::labelled_thrice(&scratch, &image)?)?;
    seeds::commit_drops_labels(&docker)?;
    seeds::walk_through(&docker)?;
    drop(docker);
    users::of_docker(&scratch, &host, &image)?;
    recorded::calls_are_replayed(&host, "docker")
}

#[test]
fn containerd_runs_containers_on_checked_root_filesystems() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("containerd"), Need::Program("ctr"), Need::Program("podman"));
    let _alone = alone();
    let scratch = Scratch::new()?;
    let Some(image) = Image::make(&scratch)? else { return Ok(()) };
    let host = host(&scratch, &image)?;
    let podman = Cli::podman(&scratch, &host)?;
    podman.import(&image.tar, "signed")?;
    let archive = scratch.path().join("signed.oci");
    let archive_name = archive.to_string_lossy().into_owned();
    podman
        .say(&["save", "--quiet", "--format", "oci-archive", "--output", &archive_name, "signed"])?
        .well()?;
    let mut ctr = Ctr::new(&scratch, &host)?;
    ctr.import(&archive)?;
    let run = |profile: &str, id: &str, program: &[&str]| -> Result<Ended> {
        Ok(Ended::of(&output(&mut ctr.run(profile, &["--rm"], id, program))?))
    };
    proven(run("exec", "proof", &["sh", "-c", PROOF])?)?;
    run("nosuch", "nosuch", &["true"])?.refused("there is no imafs profile 'nosuch'")?;
    run("locked", "locked", &["true"])?.refused("/nonexistent/key.pem")?;
    // In the background: exec into it, pause it, go on, kill it.
    let background = output(&mut ctr.run("exec", &["--detach"], "web", &["sleep", "600"]))?;
    Ended::of(&background).well()?;
    let exec = |program: &[&str]| ctr.say(&[&["task", "exec", "--exec-id", "e", "web"], program].concat());
    exec(&["ls", "/"])?.well()?;
    exec(&["sha256sum", "/etc/hostname"])?.refused("permission denied")?;
    ctr.say(&["task", "checkpoint", "web"])?.refused("cannot be checkpointed")?;
    ctr.say(&["task", "pause", "web"])?.well()?;
    ctr.say(&["task", "resume", "web"])?.well()?;
    exec(&["ls", "/"])?.well()?;
    ctr.say(&["task", "rm", "--force", "web"])?.well()?;
    ctr.say(&["container", "rm", "web"])?.well()?;
    Host::is_clean_of(&["proof", "nosuch", "locked", "web"].map(str::to_owned))?;
    storms::of_containers(&ctr)?;
    storms::of_kills(&ctr)?;
    recorded::calls_are_replayed(&host, "containerd")
}
