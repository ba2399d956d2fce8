//! `imafs-attest verify`

use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use attest::cli::{Entries, QuestionArgs, VerifyArgs};
use attest::verdict::{CheckOutcome, EntryFacts, EntrySelection, EntryVerdict, Overall, Verdict};
use attest::verify::{Question, Unproven, Violations, verify};
use ima::PcrIndex;

use crate::{Ending, inputs};

pub(crate) fn run(args: &VerifyArgs) -> Result<Ending> {
    let entries = match args.entries {
        Entries::Offending => EntrySelection::Offending,
        Entries::All => EntrySelection::All,
    };
    let verdict = judge(&args.question, entries)?;
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        serde_json::to_writer(&mut out, &verdict).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&verdict, &mut out)?;
    }
    out.flush()?;
    Ok(if verdict.is_trusted() { Ending::Done } else { Ending::No })
}

/// The verdict on the evidence that the arguments name.
pub(crate) fn judge(args: &QuestionArgs, entries: EntrySelection) -> Result<Verdict> {
    let trust = inputs::trust(&args.trust)?;
    let references = inputs::references(&args.reference)?;
    let earlier = args.after.as_deref().map(inputs::read).transpose()?;
    let file = inputs::read(&args.evidence)?;
    let default = [PcrIndex::DEFAULT];
    let question = Question {
        nonce: &args.nonce.0,
        trust: &trust,
        references: &references,
        pcrs: if args.pcr.is_empty() { &default } else { &args.pcr },
        mount: args.ns.as_deref(),
        after: earlier.as_deref(),
        violations: if args.insecure_allow_violations { Violations::Allow } else { Violations::Refuse },
        unproven: if args.insecure_allow_unproven { Unproven::Ignore } else { Unproven::Refuse },
        entries,
    };
    verify(&file, &question).with_context(|| about(&args.evidence))
}

fn about(evidence: &Path) -> String {
    format!("cannot judge {}", evidence.display())
}

fn print(verdict: &Verdict, out: &mut impl io::Write) -> io::Result<()> {
    let word = match verdict.verdict {
        Overall::Trusted => "trusted",
        Overall::Refused => "refused",
    };
    let counts = &verdict.counts;
    writeln!(
        out,
        "{word}: {} entries, {} proven by the quote, {} accepted, {} refused, {} violations",
        counts.entries, counts.proven, counts.accepted, counts.refused, counts.violations
    )?;
    if counts.other_mounts > 0 {
        writeln!(out, "  of other mounts, proven and not judged: {}", counts.other_mounts)?;
    }
    for reason in &verdict.reasons {
        writeln!(out, "  because {}", reason.text)?;
    }
    let key = &verdict.key;
    writeln!(out, "key {} ({})", key.name, key.kind)?;
    writeln!(out, "  qualified name {}", key.qualified_name)?;
    for check in &verdict.checks {
        let mark = match check.outcome {
            CheckOutcome::Passed => "passed ",
            CheckOutcome::Failed => "FAILED ",
            CheckOutcome::Skipped => "skipped",
        };
        writeln!(out, "{mark} {}", check.text)?;
    }
    for entry in &verdict.entries {
        line(entry, out)?;
    }
    if verdict.entries_left_out > 0 {
        writeln!(out, "and {} more entries", verdict.entries_left_out)?;
    }
    Ok(())
}

fn line(entry: &EntryFacts, out: &mut impl io::Write) -> io::Result<()> {
    let verdict = match entry.verdict {
        EntryVerdict::Accepted => "accepted",
        EntryVerdict::Refused => "refused",
        EntryVerdict::Unproven => "unproven",
    };
    let cause = serde_json::to_value(entry.cause)?;
    let cause = cause.as_str().unwrap_or_default();
    let digest = entry.digest.as_deref().unwrap_or("-");
    let ns = entry.ns.as_deref().map(|ns| format!("{} ", ns.escape_debug())).unwrap_or_default();
    writeln!(out, "{} {verdict} {cause} {digest} {ns}{}", entry.index, entry.path.escape_debug())
}
