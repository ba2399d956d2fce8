//! `imafs-sign verify`

use std::path::Path;

use ::sign::{
    cli::{OutputArgs, VerifyArgs},
    labels::{self, Over, Unverified},
};
use indicatif::ProgressBar;
use serde_json::json;

use crate::{
    Ending,
    keys::read_ring,
    output::{self, Results},
    tally::{Skips, files},
    tree::{self, Names, Outcome},
};

/// What a file verified by: `key d2d8a49d` or `sha256`.
pub(crate) type Proof = String;

pub(crate) fn run(args: &VerifyArgs) -> anyhow::Result<Ending> {
    let ring = read_ring(&args.cert)?;
    let over = if args.verity { Over::Verity } else { Over::Content };
    let stop = tree::stop_on_signals()?;
    let progress = output::progress("verifying");
    let mut report = Report::new(args.output, &progress);
    let interrupted = tree::for_each_file(
        &args.paths,
        Names::First,
        &stop,
        &progress,
        |file| {
            let label = file.label()?.unwrap_or_default();
            Ok(if args.hash {
                labels::verify_hash(file, &label, &stop)?.map(|algo| algo.name().to_owned())
            } else {
                let verified = labels::verify_signature(file, &label, &ring, over, &stop)?;
                verified.map(|keyid| format!("key {keyid}"))
            })
        },
        |path, outcome| report.take(path, outcome),
    )?;
    report.finish(interrupted)
}

/// What is found out file by file.
pub(crate) struct Report {
    results: Results,
    output: OutputArgs,
    verified: u64,
    unverified: u64,
    failed: u64,
    skips: Skips,
}

impl Report {
    pub(crate) fn new(output: OutputArgs, progress: &ProgressBar) -> Self {
        let (results, skips) = (Results::new(progress), Skips::default());
        Self { results, output, verified: 0, unverified: 0, failed: 0, skips }
    }

    pub(crate) fn take(
        &mut self,
        path: &Path,
        outcome: Outcome<Result<Proof, Unverified>>,
    ) -> anyhow::Result<()> {
        let (status, reason, always) = match outcome {
            Outcome::Done(Ok(proof)) => {
                self.verified += 1;
                ("verified", proof, self.output.json)
            }
            Outcome::Done(Err(reason)) => {
                self.unverified += 1;
                ("unverified", reason.to_string(), true)
            }
            Outcome::Skipped(reason) => {
                self.skips.count(reason);
                ("skipped", reason.reason().to_owned(), false)
            }
            Outcome::Failed(error) => {
                self.failed += 1;
                let reason = output::describe(&error);
                output::warn(&format!("cannot verify {}: {reason}", output::show_path(path)));
                ("failed", reason, self.output.json)
            }
        };
        if self.output.json && (always || self.output.verbose) {
            let key = if status == "verified" { "by" } else { "reason" };
            self.results.json(&output::about(path, status, json!({ key: reason })))?;
        } else if always || self.output.verbose && status != "failed" {
            self.results.line(&format!("{status} {}: {reason}", output::show_path(path)))?;
        }
        Ok(())
    }

    /// A file that does not verify settles the question, whatever else could not be found out.
    pub(crate) fn finish(mut self, interrupted: bool) -> anyhow::Result<Ending> {
        if self.output.json {
            self.results.json(&json!({ "summary": {
                "verified": self.verified,
                "unverified": self.unverified,
                "failed": self.failed,
                "skipped": self.skips.json(),
                "interrupted": interrupted,
            }}))?;
        } else {
            let mut line = format!("verified {}", files(self.verified));
            if self.unverified > 0 {
                line += &format!(", not {}", files(self.unverified));
            }
            self.results.line(&line)?;
            if let Some(line) = self.skips.line() {
                self.results.line(&line)?;
            }
        }
        self.results.finish()?;
        if interrupted {
            output::warn("interrupted: the rest was not looked at");
        }
        if self.unverified > 0 {
            return Ok(Ending::No);
        }
        if interrupted || self.failed > 0 {
            return Ok(Ending::Incomplete);
        }
        if self.verified == 0 {
            output::warn("found no file to verify");
            return Ok(Ending::Incomplete);
        }
        Ok(Ending::Done)
    }
}
