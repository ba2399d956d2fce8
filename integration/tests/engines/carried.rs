//! An image with its labels in all three places, carried through archives and layouts, and run: what was signed runs, what
//! was tampered with does not, whichever store serves.

use crate::{PROOF, proven};
use anyhow::{Context, Result};
use integration::Scratch;
use integration::engine::{Cli, Image};
use integration::process::{ours, shell, succeed};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Profiles for the two stores besides `security.ima`. The serial is said, so that the host remembers none.
pub fn profiles(exec: &str) -> Vec<(&'static str, String, &'static str)> {
    vec![
        ("manifest", format!("{exec}labels: manifest\nmanifest-serial: 1\n"), "{}"),
        ("attribute", format!("{exec}labels: user\n"), "{}"),
    ]
}

/// A tar of the image in which `user.imafs.ima` and a manifest have the labels of `security.ima`.
pub fn labelled_thrice(scratch: &Scratch, image: &Image) -> Result<PathBuf> {
    let mut sign = Command::new(ours("imafs-sign")?);
    sign.args(["manifest", "--image", "carried", "--from", "xattr", "--key"]).arg(&image.keys.key);
    succeed(sign.arg("--cert").arg(&image.keys.certificate).arg(&image.tree))?;
    shell(
        &image.tree,
        "getfattr --recursive --physical --name security.ima --encoding hex . 2> /dev/null \
         | sed 's/^security.ima=/user.imafs.ima=/' | setfattr --restore=-
         tar --create --numeric-owner --xattrs --xattrs-include='*' --file ../carried.tar .",
    )?;
    Ok(scratch.path().join("carried.tar"))
}

/// Saved and loaded in both formats, and copied to an `oci:` layout and back.
pub fn by_podman(scratch: &Scratch, podman: &Cli, tar: &Path) -> Result<()> {
    podman.import(tar, "carried")?;
    for format in ["docker-archive", "oci-archive"] {
        let archive = scratch.path().join(format).to_string_lossy().into_owned();
        podman.say(&["save", "--format", format, "--output", &archive, "carried"])?.well()?;
        podman.say(&["rmi", "--force", "carried"])?.well()?;
        podman.say(&["load", "--input", &archive])?.well()?;
        std::fs::remove_file(&archive)?;
    }
    let (store, layout) = (podman.store("localhost/carried:latest"), scratch.path().join("layout"));
    let layout = format!("oci:{}:carried", layout.display());
    let copy = |from: &str, to: &str| succeed(Command::new("skopeo").args(["copy", "--quiet", from, to]));
    copy(&store, &layout)?;
    podman.say(&["rmi", "--force", "carried"])?.well()?;
    copy(&layout, &store)?;
    runs(podman)
}

/// Imported, saved and loaded.
pub fn by_docker(scratch: &Scratch, docker: &Cli, tar: &Path) -> Result<()> {
    docker.import(tar, "carried")?;
    let archive = scratch.path().join("saved").to_string_lossy().into_owned();
    docker.say(&["save", "--output", &archive, "carried"])?.well()?;
    docker.say(&["rmi", "--force", "carried"])?.well()?;
    docker.say(&["load", "--input", &archive])?.well()?;
    std::fs::remove_file(&archive)?;
    runs(docker)
}

fn runs(engine: &Cli) -> Result<()> {
    for profile in ["exec", "attribute", "manifest"] {
        proven(engine.once(Some(profile), &[], &["carried", "sh", "-c", PROOF])?).context(profile)?;
    }
    engine.say(&["rmi", "--force", "carried"])?.well().map(drop)
}
