//! `imafs-sign manifest`

mod make;
mod show;
mod verify;

use std::{fs::File, io::Read, path::Path};

use ::manifest::{Envelope, LARGEST};
use ::sign::cli::{ManifestArgs, ManifestVerb};
use anyhow::{Context, bail};

use crate::{Ending, output::show_path};

pub(crate) fn run(args: &ManifestArgs) -> anyhow::Result<Ending> {
    match (&args.verb, &args.make) {
        (Some(ManifestVerb::Verify(args)), _) => verify::run(args),
        (Some(ManifestVerb::Show(args)), _) => show::run(args),
        (None, Some(args)) => make::run(args),
        (None, None) => bail!("name the image's directory, or a command: verify, show"),
    }
}

/// Reads a manifest's outside.
fn read(path: &Path) -> anyhow::Result<Envelope> {
    let cannot = |verb: &str| format!("cannot {verb} {}", show_path(path));
    let file = File::open(path).with_context(|| cannot("read"))?;
    let mut bytes = Vec::new();
    let most = u64::try_from(LARGEST).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).with_context(|| cannot("read"))?;
    Envelope::parse(bytes).with_context(|| cannot("use"))
}
