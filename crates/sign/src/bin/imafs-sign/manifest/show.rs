//! Showing what a manifest holds, whoever signed it.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use ::sign::{cli::ManifestShowArgs, labels};
use serde_json::json;

use crate::{
    Ending,
    keys::read_ring,
    output::{self, Results},
    show::{object, words},
};

pub(super) fn run(args: &ManifestShowArgs) -> anyhow::Result<Ending> {
    let ring = read_ring(&args.cert)?;
    let envelope = super::read(&args.file)?;
    let mut results = Results::new(&indicatif::ProgressBar::hidden());
    let (header, digest) = (envelope.header(), envelope.file_digest().map(|digest| digest.to_hex()));
    if args.json {
        results.json(&output::about(
            &args.file,
            "manifest",
            json!({
                "image": header.image,
                "serial": header.serial,
                "labels": header.entries,
                "keyid": envelope.keyid().to_string(),
                "algo": envelope.algo().name(),
                "sha256": digest,
            }),
        ))?;
    } else {
        let signer = ring.find(envelope.keyid());
        let signer = signer.map_or(String::new(), |found| format!(" ({})", found.subject()));
        results.line(&format!("image:  {}", header.image))?;
        results.line(&format!("serial: {}", header.serial))?;
        results.line(&format!("labels: {}", header.entries))?;
        results.line(&format!(
            "signed: {} by key {}{signer}, not checked here",
            envelope.algo().name(),
            envelope.keyid()
        ))?;
        results.line(&format!("sha256: {}", digest.unwrap_or_default()))?;
    }
    for entry in envelope.entries() {
        let entry = entry?;
        let path = Path::new(OsStr::from_bytes(entry.path));
        let description = labels::describe(entry.label);
        if args.json {
            results.json(&object(path, Some(&description), &ring))?;
        } else {
            results.line(&format!("{}: {}", output::show_path(path), words(&description, &ring)))?;
        }
    }
    results.finish()?;
    Ok(Ending::Done)
}
