//! `imafs-sign show`

use std::path::Path;

use ::sign::{
    cli::ShowArgs,
    labels::{self, Description},
};
use ima::LabelType;
use keyring::Keyring;
use serde_json::{Value, json};

use crate::{
    Ending,
    keys::read_ring,
    output::{self, Results},
    tree::{self, Names, Outcome},
};

pub(crate) fn run(args: &ShowArgs) -> anyhow::Result<Ending> {
    let ring = read_ring(&args.cert)?;
    let stop = tree::stop_on_signals()?;
    let progress = output::progress("reading");
    let mut results = Results::new(&progress);
    let (mut failed, mut missing) = (false, false);
    let interrupted = tree::for_each_file(
        &args.paths,
        Names::First,
        &stop,
        &progress,
        |file| Ok(file.label()?.filter(|label| !label.is_empty()).map(|label| labels::describe(&label))),
        |path, outcome| {
            match outcome {
                Outcome::Done(description) => {
                    missing |= matches!(&description, None | Some(Description::Unknown { .. }));
                    if args.json {
                        results.json(&object(path, description.as_ref(), &ring))?;
                    } else {
                        let words = description.map_or("no label".to_owned(), |found| words(&found, &ring));
                        results.line(&format!("{}: {words}", output::show_path(path)))?;
                    }
                }
                Outcome::Skipped(_) => {}
                Outcome::Failed(error) => {
                    failed = true;
                    output::warn(&format!(
                        "cannot show {}: {}",
                        output::show_path(path),
                        output::describe(&error)
                    ));
                }
            }
            Ok(())
        },
    )?;
    results.finish()?;
    Ok(match (failed || interrupted, missing) {
        (true, _) => Ending::Incomplete,
        (false, true) => Ending::No,
        (false, false) => Ending::Done,
    })
}

fn kind(label_type: LabelType) -> &'static str {
    match label_type {
        LabelType::Signature => "signature",
        LabelType::VeritySignature => "fs-verity signature",
        LabelType::PortableSignature => "portable EVM signature, which does not belong here",
        LabelType::Digest | LabelType::DigestNg | LabelType::Hmac | LabelType::Other(_) => "no signature",
    }
}

pub(crate) fn words(description: &Description, ring: &Keyring) -> String {
    match description {
        Description::Digest { algo, bytes } => {
            let algo = algo.map_or("unknown algorithm", |algo| algo.name());
            format!("digest, {algo}:{}", hex::encode(bytes))
        }
        Description::Signature { label_type, version, algo, keyid, length } => {
            let algo = algo.map_or("unknown algorithm", |algo| algo.name());
            let key = ring.find(*keyid).map_or(String::new(), |found| format!(" ({})", found.subject()));
            format!("{} version {version}, {algo}, key {keyid}{key}, {length} bytes", kind(*label_type))
        }
        Description::Unknown { reason, length } => format!("{length} bytes that are no label: {reason}"),
    }
}

pub(crate) fn object(path: &Path, description: Option<&Description>, ring: &Keyring) -> Value {
    let (status, details) = match description {
        None => ("none", json!({})),
        Some(Description::Digest { algo, bytes }) => {
            ("digest", json!({ "algo": algo.map(|algo| algo.name()), "digest": hex::encode(bytes) }))
        }
        Some(Description::Signature { label_type, version, algo, keyid, length }) => (
            "signature",
            json!({
                "type": label_type.byte(),
                "version": version,
                "algo": algo.map(|algo| algo.name()),
                "keyid": keyid.to_string(),
                "signature_length": length,
                "subject": ring.find(*keyid).map(|found| found.subject().to_owned()),
            }),
        ),
        Some(Description::Unknown { reason, length }) => {
            ("unknown", json!({ "reason": reason.to_string(), "length": length }))
        }
    };
    output::about(path, status, details)
}
