//! `imafs status`.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::daemon::run_dir::{RunDir, State};
use crate::daemon::{plain, socket};

use super::{Failure, Outcome, output, ps};

/// Show the live facts of a mount
#[derive(Debug, Args)]
#[command(after_long_help = "\
Works whatever the control directory shows to the container.

Examples:
  imafs status /mnt/web
  imafs status /mnt/web --json | jq .denials
  imafs status web-1 --show measurements
  imafs status /mnt/web --show integrity/ima/binary_runtime_measurements_sha256 > list")]
pub struct StatusArgs {
    /// Where it is mounted, or its id
    target: PathBuf,

    /// One JSON object
    #[arg(long, conflicts_with = "show")]
    json: bool,

    /// Print a file of the control directory instead
    #[arg(long, value_name = "PATH")]
    show: Option<String>,
}

pub(super) fn run(args: &StatusArgs) -> Outcome {
    let (run_dir, state) = find(&args.target)?;
    let request = args.show.as_ref().map_or("status".to_owned(), |path| format!("show {path}"));
    let cannot = |reason: String| Failure::cannot(format!("ask the mount at {}", state.target), reason);
    let answer = ask(&run_dir, &state, &request)
        .map_err(|error| {
            cannot(plain(&error)).advise(format!("see whether process {} still runs", state.pid))
        })?
        .map_err(|reason| {
            cannot(reason).advise("--show takes a path beneath .imafs, such as integrity/ima/policy or audit")
        })?;
    if args.show.is_some() {
        return output::print_bytes(&answer);
    }
    let facts: Value = serde_json::from_slice(&answer).map_err(|error| cannot(error.to_string()))?;
    if args.json { output::print(&facts.to_string()) } else { output::print(&readable(&facts)) }
}

/// Asks a mount, and says so when the answer is long in coming.
pub(super) fn ask(run_dir: &RunDir, state: &State, request: &str) -> io::Result<Result<Vec<u8>, String>> {
    let slow = || eprintln!("process {} does not answer; waiting a minute for it", state.pid);
    socket::ask(&run_dir.socket(&state.ns_id), request, slow)
}

/// Finds a running mount, or says what is there instead.
pub(super) fn find(target: &Path) -> Result<(RunDir, State), Failure> {
    let run_dir = RunDir::from_environment();
    let failure = |reason: &str| Failure::cannot(format!("find a mount at {}", target.display()), reason);
    match run_dir.find(target) {
        Some(state) if state.is_running() => Ok((run_dir, state)),
        Some(state) => Err(failure("its process is gone")
            .advise(format!("clear it away: imafs umount {}", state.target))
            .with_code(super::NO)),
        None if !rustix::process::geteuid().is_root() => {
            Err(failure("the run directory is for root alone").advise("try again with sudo"))
        }
        None => Err(failure("imafs is not mounted there")
            .advise("'imafs ps' lists what is running")
            .with_code(super::NO)),
    }
}

/// A line per fact, those that matter most first, the rest in alphabetical order.
fn readable(facts: &Value) -> String {
    const FIRST: [&str; 16] = [
        "ns-id",
        "source",
        "target",
        "pid",
        "uptime",
        "policy",
        "rules",
        "appraise",
        "denials",
        "keys",
        "measurements",
        "violations",
        "audit-records",
        "audit-dropped",
        "pcr",
        "pcrs",
    ];
    let Some(facts) = facts.as_object() else { return String::new() };
    let first = FIRST.iter().filter_map(|key| facts.get_key_value(*key));
    let rest = facts.iter().filter(|(key, _)| !FIRST.contains(&key.as_str()));
    let rows: Vec<Vec<String>> =
        first.chain(rest).map(|(key, value)| vec![format!("{key}:"), value_text(key, value)]).collect();
    output::table(&rows)
}

fn value_text(key: &str, value: &Value) -> String {
    match value {
        Value::Number(seconds) if key == "uptime" => ps::span(seconds.as_u64().unwrap_or(0)),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(|item| value_text("", item)).collect::<Vec<_>>().join(", "),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| format!("{key} {}", value_text("", value)))
            .collect::<Vec<_>>()
            .join(", "),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Null => "unknown".to_owned(),
        Value::Number(number) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_matters_comes_first_and_every_fact_comes() {
        let text = readable(&json!({
            "cache": "shared", "ns-id": "web", "uptime": 61, "keys": [], "passthrough": true,
            "pcrs": { "sha256": "00ff" }
        }));
        assert_eq!(
            text,
            "ns-id:        web\nuptime:       1m1s\nkeys:         none\npcrs:         sha256 00ff\n\
             cache:        shared\npassthrough:  yes\n"
        );
    }
}
