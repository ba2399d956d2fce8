//! Making a manifest: a label for every name of every file, in one file that is signed and appears whole.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use ::manifest::{Builder, EncodeError, FILE_NAME, seal, to_be_signed};
use ::sign::{
    cli::{LabelSource, LabelStore, MakeArgs, PathArgs},
    key::SigningKey,
    labels::{self, Labelling, Over},
};
use anyhow::{Context, bail};
use ima::KeyId;
use serde_json::json;

use crate::{
    Ending,
    keys::read_signer,
    output::{self, Mistake, Results},
    tally::{Skips, files},
    tree::{self, Names, Outcome},
};

pub(super) fn run(args: &MakeArgs) -> anyhow::Result<Ending> {
    let (key, keyid) = read_signer(&args.key, args.cert.as_deref(), args.keyid)?;
    if !key.public().takes(args.hash_algo) {
        bail!("{} keys do not sign {} digests", key.public().kind(), args.hash_algo.name());
    }
    if !args.directory.is_dir() {
        let message = format!("{} is not a directory", output::show_path(&args.directory));
        return Err(Mistake { message, next_step: "name the root of the image" }.into());
    }
    let serial = args.serial.map_or_else(now, Ok)?;
    let mut gathered = Gathered {
        directory: &args.directory,
        builder: Builder::new(&args.image, serial)
            .map_err(|error| anyhow::Error::from(error).context(format!("image {:?}", args.image)))?,
        skips: Skips::default(),
        unlabelled: 0,
        failed: 0,
    };
    let interrupted = gather(args, &key, keyid, &mut gathered)?;
    if interrupted || gathered.failed > 0 {
        output::warn("no manifest is written: it would not be whole");
        return Ok(Ending::Incomplete);
    }
    let (count, target) = (gathered.builder.len(), target(args));
    let body = gathered.builder.body().context("cannot make the manifest")?;
    let digest = to_be_signed(args.hash_algo, &body).ok_or(EncodeError::Algorithm(args.hash_algo))?;
    let sealed =
        seal(body, args.hash_algo, keyid, &key.sign(&digest)?).context("cannot make the manifest")?;
    write(&target, &sealed).with_context(|| format!("cannot write {}", output::show_path(&target)))?;
    tell(args, &gathered, &Made { target: &target, serial, keyid, count })?;
    Ok(Ending::Done)
}

/// The labels found so far.
struct Gathered<'a> {
    directory: &'a Path,
    builder: Builder,
    skips: Skips,
    unlabelled: u64,
    failed: u64,
}

/// What came of it.
struct Made<'a> {
    target: &'a Path,
    serial: u64,
    keyid: KeyId,
    count: usize,
}

fn gather(
    args: &MakeArgs,
    key: &SigningKey,
    keyid: KeyId,
    gathered: &mut Gathered<'_>,
) -> anyhow::Result<bool> {
    let stop = tree::stop_on_signals()?;
    let progress = output::progress("labelling");
    let signature = Labelling::Signature { key, keyid, over: Over::Content };
    tree::for_each_file(
        &paths(args),
        Names::Every,
        &stop,
        &progress,
        |file| match args.from {
            LabelSource::Sign => labels::fresh_label(file, signature, args.hash_algo, &stop).map(Some),
            LabelSource::Hash => labels::fresh_label(file, Labelling::Hash, args.hash_algo, &stop).map(Some),
            LabelSource::Xattr | LabelSource::User => Ok(file.label()?.filter(|label| !label.is_empty())),
        },
        |path, outcome| {
            gathered.take(path, outcome);
            Ok(())
        },
    )
}

impl Gathered<'_> {
    fn take(&mut self, path: &Path, outcome: Outcome<Option<Vec<u8>>>) {
        let inside = inside(self.directory, path);
        let failure = match outcome {
            // A manifest has no label of its own: what vouches for it is in it.
            _ if inside == format!("/{FILE_NAME}").as_bytes() => return,
            Outcome::Done(Some(label)) => self.builder.add(inside, label).err().map(anyhow::Error::from),
            Outcome::Done(None) => {
                self.unlabelled += 1;
                None
            }
            Outcome::Skipped(reason) => {
                self.skips.count(reason);
                None
            }
            Outcome::Failed(error) => Some(error),
        };
        if let Some(error) = failure {
            self.failed += 1;
            let (path, reason) = (output::show_path(path), output::describe(&error));
            output::warn(&format!("cannot take up {path}: {reason}"));
        }
    }
}

fn tell(args: &MakeArgs, gathered: &Gathered<'_>, made: &Made<'_>) -> anyhow::Result<()> {
    let mut results = Results::new(&indicatif::ProgressBar::hidden());
    if args.json {
        results.json(&output::about(
            made.target,
            "made",
            json!({
                "image": args.image,
                "serial": made.serial,
                "labels": made.count,
                "unlabelled": gathered.unlabelled,
                "keyid": made.keyid.to_string(),
                "skipped": gathered.skips.json(),
            }),
        ))?;
    } else {
        let (image, serial, keyid) = (&args.image, made.serial, made.keyid);
        let count = made.count;
        results.line(&format!(
            "{}: {count} labels, image {image}, serial {serial}, key {keyid}",
            output::show_path(made.target)
        ))?;
        if gathered.unlabelled > 0 {
            results.line(&format!("without a label: {}", files(gathered.unlabelled)))?;
        }
        if let Some(line) = gathered.skips.line() {
            results.line(&line)?;
        }
    }
    results.finish()?;
    if made.count == 0 {
        output::warn("the manifest has no label: everything that is appraised will be refused");
    }
    Ok(())
}

fn paths(args: &MakeArgs) -> PathArgs {
    PathArgs {
        paths: vec![args.directory.clone()],
        null: false,
        files0_from: None,
        exec_only: args.exec_only,
        cross_filesystems: args.cross_filesystems,
        jobs: args.jobs,
        labels: match args.from {
            LabelSource::Sign | LabelSource::Hash | LabelSource::Xattr => LabelStore::Xattr,
            LabelSource::User => LabelStore::User,
        },
    }
}

/// The path in the image.
fn inside(directory: &Path, path: &Path) -> Vec<u8> {
    let below = path.strip_prefix(directory).unwrap_or(path);
    [b"/", below.as_os_str().as_bytes()].concat()
}

fn target(args: &MakeArgs) -> PathBuf {
    args.output.clone().unwrap_or_else(|| args.directory.join(FILE_NAME))
}

/// Writes the file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let written = || {
        let mut file = File::create_new(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    written().inspect_err(|_| {
        // The failure itself is what is told.
        drop(fs::remove_file(&new));
    })
}

fn now() -> anyhow::Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map(|since| since.as_secs()).context("cannot tell the time: give a --serial")
}
