//! A signed Debian root filesystem as a tar that engines import.

use crate::keys::Kind;
use crate::process::succeed;
use crate::stand::flip;
use crate::{Keys, Scratch, fixture};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// The program that was tampered with after signing.
pub const TAMPERED: &str = "/usr/bin/sha256sum";

/// The image before any engine has it.
#[derive(Debug)]
pub struct Image {
    /// The tree, with labels, `sha256sum` flipped by one bit.
    pub tree: PathBuf,
    /// The tree as a tar with every attribute.
    pub tar: PathBuf,
    /// The key it was signed with.
    pub keys: Keys,
}

impl Image {
    /// Makes it; `None` when no root filesystem can be had here and skipping is allowed.
    ///
    /// # Errors
    /// Fails when unpacking, signing or packing does.
    pub fn make(scratch: &Scratch) -> Result<Option<Self>> {
        let Some(plain) = fixture::debian_tar()? else { return Ok(None) };
        let tree = scratch.path().join("debian");
        fixture::unpack(&plain, &tree)?;
        let keys = Keys::make(&scratch.dir("keys")?, "image", Kind::P256)?;
        keys.sign(&tree)?;
        let victim = tree.join(TAMPERED.trim_start_matches('/'));
        flip(&victim, victim.metadata()?.len() - 1)?;
        let tar = scratch.path().join("signed.tar");
        let mut pack = Command::new("tar");
        pack.args(["--create", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--file"]).arg(&tar);
        succeed(pack.arg("--directory").arg(&tree).arg("."))?;
        Ok(Some(Self { tree, tar, keys }))
    }
}
