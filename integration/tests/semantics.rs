//! Hundreds of small questions about files, asked on the backing filesystem and in the mount: the same answers.
//!
//! `semantics.py` asks; the backing filesystem is the oracle. What FUSE cannot give is listed here, with the reason.

use anyhow::{Result, bail, ensure};
use integration::{Mount, MountBuilder, Scratch, compare, need, process, python};
use std::path::Path;
use std::process::Command;

/// Questions whose answers differ by FUSE's nature, and why. Keep it short.
const EXCEPTIONS: [(&str, &str); 1] =
    [("fallocate collapse", "the kernel's FUSE passes on no mode but allocating, punching and zeroing")];

const QUESTIONS: &str = include_str!("semantics.py");

/// Asks in both places, with these mount options, and compares.
fn same_answers(options: &[&str]) -> Result<()> {
    let scratch = Scratch::new()?;
    let (plain, source) = (scratch.dir("plain")?, scratch.dir("source")?);
    let mount = MountBuilder::new(&scratch, &source)?.args(options).start()?;
    compare_answers(&plain, &mount)?;
    compare::same_metadata(&source, mount.target())?;
    compare::same_attributes(&source, mount.target())
}

/// Asks in the plain directory and in the mount.
fn compare_answers(plain: &Path, mount: &Mount) -> Result<()> {
    let expected = python::script(plain, QUESTIONS, &[])?;
    let said = python::script(mount.target(), QUESTIONS, &[])?;
    ensure!(expected.lines().count() > 200, "only {} answers", expected.lines().count());
    let mut different = String::new();
    let mut section = "";
    for (ours, theirs) in said.lines().zip(expected.lines()) {
        section = theirs.strip_prefix("== ").unwrap_or(section);
        if ours != theirs && !EXCEPTIONS.iter().any(|(question, _)| theirs.starts_with(question)) {
            different += &format!("[{section}]\n  backing: {theirs}\n  mount:   {ours}\n");
        }
    }
    if !different.is_empty() || said.lines().count() != expected.lines().count() {
        bail!("the mount answers differently:\n{different}");
    }
    Ok(())
}

#[test]
fn a_mount_answers_as_its_backing_filesystem_does() -> Result<()> {
    need!();
    same_answers(&[])
}

#[test]
fn a_mount_without_passthrough_answers_as_its_backing_filesystem_does() -> Result<()> {
    need!();
    same_answers(&["--passthrough", "off"])
}

#[test]
fn a_shared_mount_answers_as_its_backing_filesystem_does() -> Result<()> {
    need!();
    same_answers(&["--cache", "shared"])
}

/// A directory with the layers of an overlay; the lower one holds a file and a directory.
fn layers(scratch: &Scratch, name: &str) -> Result<[std::path::PathBuf; 3]> {
    let layer = |kind: &str| scratch.dir(&format!("{name}-{kind}"));
    let layers = [layer("lower")?, layer("upper")?, layer("work")?];
    std::fs::write(layers[0].join("lower-file"), "content\n")?;
    std::fs::create_dir(layers[0].join("lower-dir"))?;
    Ok(layers)
}

#[test]
fn an_overlay_answers_as_the_kernels_own_overlay_does() -> Result<()> {
    need!();
    let scratch = Scratch::new()?;
    let plain = scratch.dir("plain")?;
    let [lower, upper, work] = layers(&scratch, "plain")?;
    let (lower, upper, work) = (lower.display(), upper.display(), work.display());
    let options = format!("index=on,nfs_export=on,lowerdir={lower},upperdir={upper},workdir={work}");
    process::succeed(Command::new("mount").args(["-t", "overlay", "none", "-o", &options]).arg(&plain))?;
    let [lower, upper, work] = layers(&scratch, "mounted")?;
    let builder = MountBuilder::new(&scratch, "")?.arg("--lower").arg(lower);
    let mount = builder.arg("--upper").arg(upper).arg("--work").arg(work).start()?;
    compare_answers(&plain, &mount)
}

/// A tmpfs in memory has file handles of another kind, and neither `O_DIRECT` alignment nor inode flags.
#[test]
fn a_mount_of_a_tmpfs_answers_as_the_tmpfs_does() -> Result<()> {
    need!();
    let scratch = Scratch::new()?;
    let (plain, source) = (scratch.dir("plain")?, scratch.dir("source")?);
    for dir in [&plain, &source] {
        process::succeed(
            Command::new("mount").args(["-t", "tmpfs", "none", "-o", "mode=755,size=64m"]).arg(dir),
        )?;
    }
    let mount = MountBuilder::new(&scratch, &source)?.start()?;
    compare_answers(&plain, &mount)
}
