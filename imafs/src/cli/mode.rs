//! `imafs mode`.

use std::path::PathBuf;

use clap::Args;

use crate::config::AppraiseMode;
use crate::daemon::plain;

use super::{Failure, Outcome};

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
    let target = args.target.display();
    let (run_dir, state) = super::status::find(&args.target)?;
    let request = match args.mode {
        Some(mode) => format!("mode {mode}"),
        None => "mode".to_owned(),
    };
    let answer = super::status::ask(&run_dir, &state, &request)
        .map_err(|error| Failure::cannot(format!("ask {target}"), plain(&error)))?;
    let shown = answer.map_err(|reason| Failure::cannot(format!("set the mode of {target}"), reason))?;
    super::output::print_bytes(&shown)
}
