//! `imafs mode`.

use std::path::PathBuf;

use clap::Args;

use crate::config::AppraiseMode;
use crate::daemon::run_dir::RunDir;
use crate::daemon::socket;

use super::{Failure, NO, Outcome};

/// Show or set the appraisal mode of a running mount; only the host can weaken it
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imafs mode /mnt/web
  imafs mode /mnt/web log
      let pass what does not pass the check, and record it, for every open from now on")]
pub struct ModeArgs {
    /// Where it is mounted, or its id
    target: PathBuf,

    /// The mode to set
    mode: Option<AppraiseMode>,
}

pub(super) fn run(args: &ModeArgs) -> Outcome {
    let run_dir = RunDir::from_environment();
    let target = args.target.display();
    let state = run_dir.find(&args.target).filter(|state| state.is_running()).ok_or_else(|| {
        Failure::cannot(format!("ask {target}"), "imafs is not mounted there")
            .advise("'imafs ps' lists what is running")
            .with_code(NO)
    })?;
    let request = match args.mode {
        Some(mode) => format!("mode {mode}"),
        None => "mode".to_owned(),
    };
    let answer = socket::ask(&run_dir.socket(&state.ns_id), &request)
        .map_err(|error| Failure::cannot(format!("ask {target}"), error.to_string()))?;
    let shown = answer.map_err(|reason| Failure::cannot(format!("set the mode of {target}"), reason))?;
    super::output::print_bytes(&shown)
}
