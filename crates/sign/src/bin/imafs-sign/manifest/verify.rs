//! Checking a manifest, and the files of an image by it.

use std::{
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ::manifest::Envelope;
use ::sign::{
    cli::ManifestVerifyArgs,
    file::FileError,
    labels::{self, Over, Unverified},
    walk::Target,
    workers,
};
use anyhow::Context;
use ima::LabelType;
use keyring::Keyring;
use rustix::fs::{CWD, Mode, OFlags};
use serde_json::json;

use crate::{
    Ending,
    keys::read_ring,
    output::{self, Results},
    tree::{self, Outcome},
    verify::{Proof, Report},
};

pub(super) fn run(args: &ManifestVerifyArgs) -> anyhow::Result<Ending> {
    let ring = read_ring(&args.cert)?;
    let envelope = super::read(&args.file)?;
    if let Some(reason) = objection(args, &envelope, &ring) {
        say(args, "unverified", &reason)?;
        return Ok(Ending::No);
    }
    let (header, keyid) = (envelope.header(), envelope.keyid());
    let entries = envelope.entries().collect::<Result<Vec<_>, _>>();
    let entries = entries.with_context(|| format!("cannot use {}", output::show_path(&args.file)))?;
    let told = format!("image {}, serial {}, {} labels", header.image, header.serial, entries.len());
    say(args, "verified", &format!("key {keyid}, {told}"))?;
    let Some(tree) = &args.tree else { return Ok(Ending::Done) };
    let labels = entries.iter().map(|entry| (entry.path, entry.label));
    check_tree(args, tree, labels, &ring)
}

/// Why the manifest is not to be believed.
fn objection(args: &ManifestVerifyArgs, envelope: &Envelope, ring: &Keyring) -> Option<String> {
    let header = envelope.header();
    if let Err(error) = envelope.check(ring) {
        return Some(error.to_string());
    }
    if let Some(wanted) = args.image.as_ref().filter(|wanted| **wanted != header.image) {
        return Some(format!("it is of image {}, not of {wanted}", header.image));
    }
    let wanted = args.serial.filter(|wanted| header.serial < *wanted)?;
    Some(format!("it is stale: its serial is {}, and {wanted} is the lowest allowed", header.serial))
}

fn say(args: &ManifestVerifyArgs, status: &str, words: &str) -> anyhow::Result<()> {
    let mut results = Results::new(&indicatif::ProgressBar::hidden());
    if args.output.json {
        let key = if status == "verified" { "by" } else { "reason" };
        results.json(&output::about(&args.file, status, json!({ key: words })))?;
    } else {
        results.line(&format!("{status} {}: {words}", output::show_path(&args.file)))?;
    }
    results.finish()?;
    Ok(())
}

/// Checks each file that has an entry. Files without one are none of the manifest's business.
fn check_tree<'a>(
    args: &ManifestVerifyArgs,
    tree: &Path,
    labels: impl Iterator<Item = (&'a [u8], &'a [u8])> + Send,
    ring: &Keyring,
) -> anyhow::Result<Ending> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, tree, flags, Mode::empty())
        .with_context(|| format!("cannot open {}", output::show_path(tree)))?;
    let (root, stop) = (Arc::new(root), tree::stop_on_signals()?);
    let progress = output::progress("verifying");
    let mut report = Report::new(args.output, &progress);
    let mut failed = None;
    workers::run(
        args.jobs.unwrap_or_else(workers::default_jobs),
        |give| {
            for found in labels {
                progress.inc_length(1);
                if stop.load(Ordering::Relaxed) || !give(found) {
                    return;
                }
            }
        },
        |(path, label)| {
            let shown = tree.join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)));
            let outcome = check(&root, path, &shown, label, ring, &stop);
            progress.inc(1);
            (shown, outcome)
        },
        |(path, outcome): (PathBuf, Outcome<_>)| {
            if matches!(&outcome, Outcome::Failed(error) if tree::is_interruption(error)) {
                return true;
            }
            failed = report.take(&path, outcome).err();
            failed.is_none()
        },
    );
    progress.finish_and_clear();
    match failed {
        Some(error) => Err(error),
        None => report.finish(stop.load(Ordering::Relaxed)),
    }
}

fn check(
    root: &Arc<OwnedFd>,
    path: &[u8],
    shown: &Path,
    label: &[u8],
    ring: &Keyring,
    stop: &AtomicBool,
) -> Outcome<Result<Proof, Unverified>> {
    let below = PathBuf::from(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)));
    let verified = || -> Result<_, FileError> {
        let target = Target::below(root, below, shown.to_owned());
        let Some(file) = target.open()? else { return Ok(Err(Unverified::NotRegular)) };
        Ok(match ima::label_type(label) {
            Some(LabelType::Digest | LabelType::DigestNg) => {
                labels::verify_hash(&file, label, stop)?.map(|algo| algo.name().to_owned())
            }
            kind => {
                let verity = kind == Some(LabelType::VeritySignature);
                let over = if verity { Over::Verity } else { Over::Content };
                let verified = labels::verify_signature(&file, label, ring, over, stop)?;
                verified.map(|keyid| format!("key {keyid}"))
            }
        })
    };
    verified().map_or_else(|error| Outcome::Failed(error.into()), Outcome::Done)
}
