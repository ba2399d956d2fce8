//! A container whose check cannot be made does not start, and the engine shows why in one line.

use anyhow::{Context, Result};
use integration::engine::{Cli, Host};

/// A profile that does not exist, and one whose key is not there.
pub fn are_told(engine: &Cli) -> Result<()> {
    let unknown = engine.once(Some("nosuch"), &["--name", "unknown"], &["signed", "true"])?;
    unknown.refused("there is no imafs profile 'nosuch'").context("an unknown profile")?;
    let locked = engine.once(Some("locked"), &["--name", "locked"], &["signed", "true"])?;
    locked.refused("/nonexistent/key.pem").context("a mount that fails")?;
    // Neither is in the way of the next.
    engine.say(&["rm", "--force", "unknown", "locked"]).map(drop)?;
    engine.once(Some("exec"), &["--name", "locked"], &["signed", "true"])?.well().map(drop)
}

/// Annotations choose what is permitted and nothing else. Only podman hands them through.
pub fn by_annotation(podman: &Cli) -> Result<()> {
    let with = |annotation: &str, program: &str| {
        let annotation = format!("org.imafs.{annotation}");
        podman.once(Some("exec"), &["--annotation", &annotation], &["signed", "sh", "-c", program])
    };
    with("policy=immutable", "ls / > /dev/null; grep -q imasig /.imafs/ima/policy")?.well()?;
    with("policy=measure", "true")?.refused("permitted are immutable")?;
    with("appraise=log", "sha256sum /etc/hostname")?.well().context("log is permitted")?;
    with("appraise=off", "true")?.refused("'off' is not permitted")?;
    with("keys=/etc/keys", "true")?.refused("is not permitted")?;
    with("profil=exec", "true")?.refused("org.imafs.profil")?;
    with("contid=named-by-annotation", "grep -q named-by-annotation /.imafs/ns_id")?.well()?;
    with("contid=../escaped", "true")?.refused("../escaped")?;
    Host::is_clean_of(&[])
}
