//! Root in the container is somebody else on the host.

use crate::traces::Traces;
use anyhow::{Context, Result, ensure};
use integration::Scratch;
use integration::engine::{Cli, Ended, Engine, Host, Image};
use integration::process::{output, succeed};
use std::path::Path;
use std::process::Command;

/// Who root in the containers of these tests is on the host.
const ROOT: u32 = 100_000;

/// The user whose ids dockerd hands out; made for the test, because Docker takes them from the host's own files.
const USER: &str = "imafs-remap";

/// Profiles that measure what one user of the host reads.
pub fn profiles(dir: &Path, key: &Path) -> Result<Vec<(&'static str, String, &'static str)>> {
    let profile = |name: &'static str, uid: u32| -> Result<_> {
        let policy = dir.join(format!("{name}.policy"));
        std::fs::write(&policy, format!("measure func=FILE_CHECK mask=MAY_READ uid={uid} fowner={uid}\n"))?;
        Ok((name, format!("policy: {}\nkey: {}\n", policy.display(), key.display()), "{}"))
    };
    Ok(vec![profile("read-by-root", 0)?, profile("read-by-mapped", ROOT)?])
}

/// Owners are right inside, the container is checked all the same, and rules are about the ids that the host sees.
pub fn of_a_user_namespace(engine: &Cli, options: &[&str]) -> Result<()> {
    let program = "set -e
        test $(stat -c %u /usr/bin/ls) = 0
        touch /root/mine; test $(stat -c %u:%g /root/mine) = 0:0
        sha256sum /etc/hostname && exit 91 || test $? = 126
        cp /usr/bin/ls /tmp/copied; /tmp/copied && exit 92 || test $? = 126
        awk '{ print $2 }' /proc/self/uid_map";
    let words = engine.once(Some("exec"), options, &["signed", "sh", "-c", program])?.well();
    let words = words.context("in a user namespace")?;
    ensure!(words.lines().any(|line| line.trim() == ROOT.to_string()), "root is not mapped: {words}");
    for (profile, measured) in [("read-by-mapped", true), ("read-by-root", false)] {
        let traces = Traces::before(engine)?;
        let options = [options, &["--detach", "--name", profile]].concat();
        Ended::of(&output(&mut engine.run(Some(profile), &options, &["signed", "sleep", "600"]))?).well()?;
        engine.say(&["exec", profile, "cat", "/etc/debian_version"])?.well()?;
        // Through the container's root: podman has a mount namespace of its own for such containers.
        let list = format!("/proc/{}/root/.imafs/measurements", engine.pid(profile)?);
        let list = std::fs::read_to_string(&list).with_context(|| format!("cannot read {list}"))?;
        ensure!(list.contains("/etc/debian_version") == measured, "{profile} has measured {list}");
        // It is the container's root's, whoever he is outside, and nobody else's inside.
        let seen = engine.say(&["exec", profile, "cat", "/.imafs/measurements"])?.well()?;
        ensure!(seen.lines().any(|line| list.lines().any(|other| other == line)), "inside it is {seen}");
        let owner = engine.say(&["exec", profile, "stat", "-c", "%u:%g", "/.imafs/measurements"])?.well()?;
        ensure!(owner.trim() == "0:0", "it is {owner}'s");
        let other = engine.say(&["exec", "--user", "1234:1234", profile, "cat", "/.imafs/measurements"])?;
        other.refused("ermission denied")?;
        output(&mut engine.remove_named(profile))?;
        traces.nothing_is_new(engine)?;
    }
    Ok(())
}

/// Docker, told to map the root of all containers to a user of its own.
pub fn of_docker(scratch: &Scratch, host: &Host, image: &Image) -> Result<()> {
    let _user = User::new()?;
    let docker =
        Cli::docker(scratch, host, &["exec", "read-by-root", "read-by-mapped"], &["--userns-remap", USER])?;
    docker.import(&image.tar, "signed")?;
    of_a_user_namespace(&docker, &[])
}

/// The user, and its lines in `/etc/subuid` and `/etc/subgid`, until this is dropped.
struct User;

impl User {
    fn new() -> Result<Self> {
        // What an earlier run may have left; there is none as a rule.
        drop(Self);
        succeed(Command::new("useradd").args(["--system", "--no-create-home", "--user-group", USER]))?;
        let user = Self;
        for file in ["/etc/subuid", "/etc/subgid"] {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            std::fs::write(file, format!("{text}{USER}:{ROOT}:65536\n")).with_context(|| file.to_owned())?;
        }
        Ok(user)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        for file in ["/etc/subuid", "/etc/subgid"] {
            let Ok(text) = std::fs::read_to_string(file) else { continue };
            let others = text.lines().filter(|line| !line.starts_with(&format!("{USER}:")));
            let kept: String = others.map(|line| format!("{line}\n")).collect();
            if kept != text
                && let Err(error) = std::fs::write(file, kept)
            {
                eprintln!("{file} keeps {USER}: {error}");
            }
        }
        let known = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        if known.lines().any(|line| line.starts_with(&format!("{USER}:"))) {
            drop(succeed(Command::new("userdel").arg(USER)));
        }
    }
}
