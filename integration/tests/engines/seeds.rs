//! Two walk-throughs that namespace patches of the kernel were shown with, step by step, on stock engines: no patched
//! kernel, no capability, no seccomp change, and a policy for each container instead of one in the daemon's file.

use anyhow::{Context, Result, ensure};
use integration::engine::Cli;
use std::path::Path;

/// Profiles of the walk-throughs, with the file of rules each needs.
pub fn profiles(dir: &Path, key: &Path) -> Result<Vec<(&'static str, String, &'static str)>> {
    // Root's files are appraised as `appraise_tcb` does; a change of one needs a signature.
    let tcb = dir.join("tcb.policy");
    std::fs::write(
        &tcb,
        "appraise func=FILE_CHECK mask=MAY_WRITE fowner=0 appraise_type=imasig\nappraise fowner=0\n",
    )?;
    // Overlayfs is what engines give a container; its magic stands where the seed had tmpfs.
    let user = dir.join("user.policy");
    std::fs::write(&user, "appraise fsmagic=0x794c7630 fowner=71452\n")?;
    let profile = |policy: &Path, mode: &str| {
        format!("policy: {}\nkey: {}\nappraise: {mode}\n", policy.display(), key.display())
    };
    Ok(vec![
        ("tcb-fix", profile(&tcb, "fix"), "{}"),
        ("tcb", profile(&tcb, "enforce"), "{}"),
        ("user-fix", profile(&user, "fix"), "{}"),
        ("user", profile(&user, "enforce"), "{}"),
    ])
}

/// Runs a container, gives what it printed, and keeps what it changed as an image.
fn step(engine: &Cli, profile: Option<&str>, from: &str, to: &str, program: &str) -> Result<String> {
    let words = engine.say(&["rm", "--force", "walk"]).and_then(|_| {
        let ended = integration::process::output(&mut engine.run(
            profile,
            &["--name", "walk"],
            &[from, "sh", "-c", program],
        ))?;
        integration::engine::Ended::of(&ended).well()
    })?;
    engine.keep("walk", to)?;
    engine.say(&["rm", "--force", "walk"])?.well()?;
    Ok(words)
}

const LABEL: &str = "getfattr --absolute-names -m - -e hex -d /root/test.dat | grep security.ima || true";

/// Fix mode labels a file, commit keeps the label, enforce refuses the change, and a file that was changed while
/// nobody looked is refused.
fn label_commit_enforce(engine: &Cli) -> Result<()> {
    let made = step(engine, None, "signed", "walk1", &format!("echo afeaf > /root/test.dat; {LABEL}"))?;
    ensure!(!made.contains("security.ima"), "a new file has a label: {made}");
    let fixed = step(engine, Some("tcb-fix"), "walk1", "walk2", &format!("cat /root/test.dat; {LABEL}"))?;
    // 0x04, sha256, and what sha256sum says of the six bytes.
    let label = "security.ima=0x0404482b5b1db0f693204bf1e557cb28bee1749a17b3df01e465b537f2d052d891e6";
    ensure!(fixed.contains("afeaf"), "fix mode does not serve the file: {fixed}");
    let kept = engine
        .once(Some("tcb"), &[], &["walk2", "sh", "-c", &format!("cat /root/test.dat; {LABEL}")])?
        .well()?;
    ensure!(fixed.contains(label), "fix mode wrote another label than {label}: {fixed}");
    ensure!(kept.contains("afeaf") && kept.contains(label), "the image lost the label: {kept}");
    let change = ["walk2", "sh", "-c", "echo changed > /root/test.dat"];
    engine.once(Some("tcb"), &[], &change)?.refused("Permission denied").context("a change under enforce")?;
    let tampered = step(engine, None, "walk2", "walk3", &format!("echo afadfafa > /root/test.dat; {LABEL}"))?;
    ensure!(tampered.contains(label), "the label did not survive the change: {tampered}");
    let read = ["walk3", "sh", "-c", "cat /root/test.dat || { cat /.imafs/audit; exit 13; }"];
    let refused = engine.once(Some("tcb"), &[], &read)?;
    ensure!(refused.words.contains("invalid-hash"), "no record says why: {}", refused.words);
    refused.refused("Permission denied").context("what was changed while nobody looked")
}

/// A policy for one user's files on one kind of filesystem, and the record of a refusal.
fn one_users_files(engine: &Cli) -> Result<()> {
    let make = "mkdir -p /srv/safe; echo hello > /srv/safe/foo; chown 71452 /srv/safe/foo; echo other > /srv/safe/bar";
    step(engine, None, "signed", "walk1", make)?;
    step(engine, Some("user-fix"), "walk1", "walk2", "cat /srv/safe/foo /srv/safe/bar")?;
    step(engine, None, "walk2", "walk3", "echo foo > /srv/safe/foo; echo foo > /srv/safe/bar")?;
    let read = "cat /srv/safe/bar && { cat /srv/safe/foo || { cat /.imafs/audit; exit 13; }; }";
    let before = engine.once(Some("user"), &[], &["walk2", "sh", "-c", read])?.well()?;
    ensure!(before.contains("hello"), "an untouched file is not served: {before}");
    let after = engine.once(Some("user"), &[], &["walk3", "sh", "-c", read])?;
    let line = after.words.lines().find(|line| line.contains("invalid-hash")).unwrap_or_default().to_owned();
    for part in ["1800", "appraise_data", "invalid-hash", "/srv/safe/foo", "cat"] {
        ensure!(line.contains(part), "the record lacks {part}: {}", after.words);
    }
    after.refused("Permission denied")
}

/// Why the walk-throughs do not end with Docker's own `commit`: its layer code packs no `security.ima`, so a commit keeps
/// the content of what changed and not its label. Then the file is refused, never served unchecked.
pub fn commit_drops_labels(docker: &Cli) -> Result<()> {
    let program = format!("echo afeaf > /root/test.dat; cat /root/test.dat; {LABEL}");
    let fix = ["signed", "sh", "-c", &program];
    let fixed = integration::process::output(&mut docker.run(Some("tcb-fix"), &["--name", "walk"], &fix))?;
    let fixed = integration::engine::Ended::of(&fixed).well()?;
    ensure!(fixed.contains("security.ima=0x0404"), "fix mode wrote no label: {fixed}");
    docker.say(&["commit", "walk", "walk2"])?.well()?;
    docker.say(&["rm", "walk"])?.well()?;
    let kept =
        docker.once(None, &[], &["walk2", "sh", "-c", &format!("cat /root/test.dat; {LABEL}")])?.well()?;
    ensure!(kept.contains("afeaf") && !kept.contains("security.ima"), "Docker keeps labels now: {kept}");
    docker.once(Some("tcb"), &[], &["walk2", "cat", "/root/test.dat"])?.refused("Permission denied")?;
    // What came with the image kept its label: importing keeps what committing drops.
    docker.once(Some("tcb"), &[], &["walk2", "cat", "/etc/debian_version"])?.well()?;
    docker.say(&["rmi", "--force", "walk2"])?.well().map(drop)
}

/// Both, on one engine.
pub fn walk_through(engine: &Cli) -> Result<()> {
    label_commit_enforce(engine)?;
    one_users_files(engine)?;
    for image in ["walk1", "walk2", "walk3"] {
        engine.say(&["rmi", "--force", image])?.well()?;
    }
    Ok(())
}
