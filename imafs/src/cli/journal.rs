//! `imafs journal`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ima::HashAlgo;
use measure::journal::{InspectError, Inspection, Owner, Record, inspect};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::failure::chain;

use super::{Failure, Outcome, output};

/// Look into the journal of a mount's measurement list
#[derive(Debug, Args)]
#[command(after_long_help = "\
A journal can be read while its mount runs, and anywhere else: it holds all it is checked against.

Examples:
  imafs journal verify /var/lib/imafs/web-1
      replay the list and hold it against the registers recorded with it
  imafs journal show /var/lib/imafs/web-1/journal.000003
  imafs journal show --list /var/lib/imafs/web-1 | tail
  imafs journal show --binary /var/lib/imafs/web-1 > list && evmctl ima_measurement list")]
pub struct JournalArgs {
    #[command(subcommand)]
    verb: JournalVerb,
}

#[derive(Debug, Subcommand)]
enum JournalVerb {
    /// Print what a journal says of itself, or the list in it
    Show {
        /// A journal, or the directory of one
        file: PathBuf,
        /// Print the list as ascii_runtime_measurements has it
        #[arg(long, conflicts_with = "binary")]
        list: bool,
        /// Print the list as binary_runtime_measurements has it
        #[arg(long)]
        binary: bool,
        /// One JSON object
        #[arg(long, conflicts_with_all = ["list", "binary"])]
        json: bool,
    },
    /// Say whether a journal is whole and its list gives its registers: exit 0, or 1 and why not
    Verify {
        /// A journal, or the directory of one
        file: PathBuf,
    },
}

pub(super) fn run(args: JournalArgs) -> Outcome {
    match args.verb {
        JournalVerb::Show { file, list: false, binary: false, json } => show(&file, json),
        JournalVerb::Show { file, binary, .. } => print_list(&file, binary),
        JournalVerb::Verify { file } => verify(&file),
    }
}

fn failure(file: &Path, error: &InspectError) -> Failure {
    let failure = Failure::new(format!("{}: {}", file.display(), chain(error)));
    if error.is_fault() {
        failure.advise("it is not what was written: keep it as it is").with_code(super::NO)
    } else {
        failure.advise("name a journal or the directory of one, as --journal does; it is for root alone")
    }
}

fn verify(file: &Path) -> Outcome {
    let found = inspect(file, &mut |_| {}).map_err(|error| failure(file, &error))?;
    let end = match (&found.end, found.unfinished) {
        (Some(_), _) => "ended",
        (None, 0) => "not ended",
        (None, _) => "not ended, the last write is unfinished",
    };
    let count = found.entries;
    let entries = if count == 1 { "entry" } else { "entries" };
    output::print(&format!("{}: ok, {count} {entries}, {end}", file.display()))
}

/// Prints the list, and only of a journal that is what it should be: it is read twice.
fn print_list(file: &Path, binary: bool) -> Outcome {
    inspect(file, &mut |_| {}).map_err(|error| failure(file, &error))?;
    let mut lines = Vec::new();
    let mut printed = Ok(ExitCode::SUCCESS);
    let mut line = |record: &Record| {
        let Record::Entry(entry) = record else { return };
        let written = if binary {
            entry.write_binary(&mut lines, HashAlgo::Sha1)
        } else {
            entry.write_ascii(&mut lines, HashAlgo::Sha1)
        };
        if let Err(error) = written {
            printed = Err(Failure::caused(&error));
        }
        if lines.len() > 1 << 16 && printed.is_ok() {
            printed = output::print_bytes(&lines);
            lines.clear();
        }
    };
    inspect(file, &mut line).map_err(|error| failure(file, &error))?;
    printed?;
    output::print_bytes(&lines)
}

fn show(file: &Path, as_json: bool) -> Outcome {
    let found = inspect(file, &mut |_| {}).map_err(|error| failure(file, &error))?;
    let facts = facts(&found);
    if as_json {
        let object: Map<String, Value> =
            facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        return output::print(&Value::Object(object).to_string());
    }
    let rows: Vec<Vec<String>> =
        facts.iter().map(|(key, value)| vec![format!("{key}:"), words(value)]).collect();
    output::print(output::table(&rows).trim_end())
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Null => "none".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// What there is to say, in the order a person asks for it.
fn facts(found: &Inspection) -> Vec<(&'static str, Value)> {
    let header = &found.header;
    let identity = &header.identity;
    let banks: Vec<&str> = identity.banks.iter().map(|algo| algo.name()).collect();
    let registers: Vec<String> = found
        .registers
        .iter()
        .map(|register| format!("{} {} {}", register.value.algo(), register.pcr, register.value.to_hex()))
        .collect();
    let end = found.end.as_ref();
    vec![
        ("ns-id", json!(identity.ns_id)),
        ("journal-id", json!(hex::encode(header.id))),
        ("created", json!(date(header.created))),
        ("hash", json!(identity.default_algo.name())),
        ("template", json!(identity.template.listed_name())),
        ("pcr", json!(identity.pcr.value())),
        ("bank", json!(banks)),
        (
            "registers-of",
            json!(match header.owner {
                Owner::Device => "a device",
                Owner::Process => "the process",
            }),
        ),
        ("measurements", json!(found.entries)),
        ("violations", json!(found.violations)),
        ("batches", json!(found.batches)),
        ("unfinished-bytes", json!(found.unfinished)),
        ("pcrs", json!(registers)),
        ("ended", json!(end.map(|end| date(end.time)))),
        ("list-digest", json!(end.map(|end| end.list_digest.to_string()))),
    ]
}

fn date(seconds: u64) -> String {
    let time =
        i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| seconds.to_string())
}
