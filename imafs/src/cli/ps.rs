//! `imafs ps`.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;

use crate::daemon::plain;
use crate::daemon::run_dir::{RunDir, State};

use super::{Failure, Outcome, output};

/// List the running mounts
#[derive(Debug, Args)]
#[command(after_long_help = "\
A mount whose process is gone is listed as stale; 'imafs umount TARGET' clears it away.

Examples:
  imafs ps
  imafs ps --json | jq -r .target")]
pub struct PsArgs {
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &PsArgs) -> Outcome {
    let states = RunDir::from_environment().list().map_err(|error| {
        Failure::cannot("list the mounts", plain(&error))
            .advise("the run directory is for root: try again with sudo")
    })?;
    if args.json {
        let lines = states.iter().map(json_line).collect::<Result<Vec<_>, _>>();
        return output::print(&lines.map_err(|error| Failure::cannot("print the mounts", error))?.concat());
    }
    if states.is_empty() {
        return Ok(std::process::ExitCode::SUCCESS);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    output::print(&output::table(&rows(&states, now)))
}

fn life(state: &State) -> &'static str {
    if state.is_running() { "running" } else { "stale" }
}

fn json_line(state: &State) -> serde_json::Result<String> {
    let mut object = serde_json::to_value(state)?;
    if let Some(object) = object.as_object_mut() {
        object.insert("state".to_owned(), json!(life(state)));
    }
    Ok(format!("{object}\n"))
}

fn rows(states: &[State], now: u64) -> Vec<Vec<String>> {
    let head = ["ID", "PID", "STATE", "POLICY", "APPRAISE", "UP", "SOURCE", "TARGET"];
    let head = head.map(str::to_owned).to_vec();
    let row = |state: &State| {
        vec![
            state.ns_id.clone(),
            state.pid.to_string(),
            life(state).to_owned(),
            state.policy.clone(),
            state.appraise.clone(),
            span(now.saturating_sub(state.since)),
            shown(&state.source),
            shown(&state.target),
        ]
    };
    std::iter::once(head).chain(states.iter().map(row)).collect()
}

/// A path as it may stand on a terminal: control characters of hostile names are escaped.
fn shown(path: &str) -> String {
    if path.chars().any(char::is_control) { format!("{path:?}") } else { path.to_owned() }
}

/// A span of seconds in its two largest units.
pub(super) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{}s", seconds % 60),
        3600..86_400 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_two_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m1s"), (7260, "2h1m"), (90_000, "1d1h")] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn a_mount_without_its_process_is_stale() {
        let state = State {
            ns_id: "web".into(),
            pid: std::process::id(),
            start_time: 0,
            source: "/s".into(),
            target: "/t".into(),
            policy: "exec".into(),
            appraise: "enforce".into(),
            since: 10,
            version: "0".into(),
        };
        let rows = rows(std::slice::from_ref(&state), 75);
        assert_eq!(rows[1][2..6], ["stale", "exec", "enforce", "1m5s"]);
        assert_eq!([shown("/a b"), shown("/a\nb\u{1b}[2J")], ["/a b", "\"/a\\nb\\u{1b}[2J\""]);
        assert!(json_line(&state).unwrap().contains("\"state\":\"stale\""));
    }
}
