//! `imafs-sign sign`, and the writing half of `hash`.

use ::sign::{
    cli::{OutputArgs, PathArgs, SignArgs},
    labels::{self, LabelOptions, Labelled, Labelling, Over},
    walk::Skip,
};
use anyhow::bail;
use serde_json::json;

use crate::{
    Ending,
    keys::read_signer,
    output::{self, Results},
    tally::{Skips, files},
    tree::{self, Names, Outcome},
};

pub(crate) fn run(args: &SignArgs) -> anyhow::Result<Ending> {
    let options = LabelOptions { algo: args.hash_algo, force: args.force, dry_run: args.dry_run };
    if args.hash {
        return label_all(&args.paths, Labelling::Hash, options, args.output);
    }
    let Some(key_path) = &args.key else {
        bail!("--key is missing");
    };
    let (key, keyid) = read_signer(key_path, args.cert.as_deref(), args.keyid)?;
    if args.verity && !ima::verity::has_algo(args.hash_algo) {
        bail!("fs-verity has no {} digests", args.hash_algo.name());
    }
    if !key.public().takes(args.hash_algo) {
        bail!("{} keys do not sign {} digests", key.public().kind(), args.hash_algo.name());
    }
    let over = if args.verity { Over::Verity } else { Over::Content };
    label_all(&args.paths, Labelling::Signature { key: &key, keyid, over }, options, args.output)
}

/// Labels all selected files and prints what was done.
pub(crate) fn label_all(
    paths: &PathArgs,
    labelling: Labelling<'_>,
    options: LabelOptions,
    output: OutputArgs,
) -> anyhow::Result<Ending> {
    let stop = tree::stop_on_signals()?;
    let verb = past_tense(labelling, options);
    let progress = output::progress(if matches!(labelling, Labelling::Hash) { "hashing" } else { "signing" });
    let mut report = Report {
        results: Results::new(&progress),
        output,
        verb,
        written: 0,
        failed: 0,
        skips: Skips::default(),
        hint: None,
    };
    let interrupted = tree::for_each_file(
        paths,
        Names::First,
        &stop,
        &progress,
        |file| labels::label_file(file, labelling, options, &stop),
        |path, outcome| report.take(path, outcome),
    )?;
    report.finish(labelling, options, interrupted)
}

fn past_tense(labelling: Labelling<'_>, options: LabelOptions) -> &'static str {
    match (labelling, options.dry_run) {
        (Labelling::Signature { .. }, false) => "signed",
        (Labelling::Signature { .. }, true) => "would sign",
        (Labelling::Hash, false) => "hashed",
        (Labelling::Hash, true) => "would hash",
    }
}

struct Report {
    results: Results,
    output: OutputArgs,
    verb: &'static str,
    written: u64,
    failed: u64,
    skips: Skips,
    hint: Option<&'static str>,
}

impl Report {
    fn take(&mut self, path: &std::path::Path, outcome: Outcome<Labelled>) -> anyhow::Result<()> {
        match outcome {
            Outcome::Done(Labelled::Written(digest)) => {
                self.written += 1;
                if self.output.json {
                    self.results.json(&output::about(
                        path,
                        self.verb,
                        json!({ "digest": digest.to_string() }),
                    ))?;
                } else if self.output.verbose {
                    self.results.line(&format!("{} {}", self.verb, output::show_path(path)))?;
                }
            }
            Outcome::Done(Labelled::Skipped(reason)) | Outcome::Skipped(reason) => self.skip(path, reason)?,
            Outcome::Failed(error) => {
                self.failed += 1;
                self.hint = self.hint.or_else(|| output::hint(&error));
                let reason = output::describe(&error);
                output::warn(&format!("cannot label {}: {reason}", output::show_path(path)));
                if self.output.json {
                    self.results.json(&output::about(path, "failed", json!({ "reason": reason })))?;
                }
            }
        }
        Ok(())
    }

    fn skip(&mut self, path: &std::path::Path, reason: Skip) -> anyhow::Result<()> {
        self.skips.count(reason);
        if self.output.verbose && self.output.json {
            self.results.json(&output::about(path, "skipped", json!({ "reason": reason.reason() })))?;
        } else if self.output.verbose {
            self.results.line(&format!("skipped {}: {}", output::show_path(path), reason.reason()))?;
        }
        Ok(())
    }

    fn finish(
        mut self,
        labelling: Labelling<'_>,
        options: LabelOptions,
        interrupted: bool,
    ) -> anyhow::Result<Ending> {
        let with = match labelling {
            Labelling::Signature { keyid, over: Over::Content, .. } => {
                format!("{}, key {keyid}", options.algo.name())
            }
            Labelling::Signature { keyid, over: Over::Verity, .. } => {
                format!("fs-verity {}, key {keyid}", options.algo.name())
            }
            Labelling::Hash => options.algo.name().to_owned(),
        };
        if self.output.json {
            self.results.json(&json!({ "summary": {
                self.verb: self.written,
                "failed": self.failed,
                "skipped": self.skips.json(),
                "interrupted": interrupted,
            }}))?;
        } else {
            self.results.line(&format!("{} {} ({with})", self.verb, files(self.written)))?;
            if let Some(line) = self.skips.line() {
                self.results.line(&line)?;
            }
            if self.failed > 0 {
                self.results.line(&format!("failed {}", self.failed))?;
            }
        }
        self.results.finish()?;
        if let Some(hint) = self.hint {
            output::advise(hint);
        }
        if interrupted {
            output::warn(&format!("interrupted after {}", files(self.written)));
            output::advise("run the same command again to go on: what is done is skipped");
        }
        Ok(if interrupted || self.failed > 0 { Ending::Incomplete } else { Ending::Done })
    }
}
