//! `imafs profile`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::{MountConfig, Profile, profile_schema};

use super::{Failure, Outcome, output};

/// Check a profile, or print the schema of profiles
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imafs profile check web.yaml
  imafs profile schema > profile.schema.json")]
pub struct ProfileArgs {
    #[command(subcommand)]
    verb: ProfileVerb,
}

#[derive(Debug, Subcommand)]
enum ProfileVerb {
    /// Say whether a profile can be mounted with: exit 0, or 1 and why not
    ///
    /// Looks at the keys and values, the policy and the certificates; not at source, target and sinks.
    Check {
        /// The profile
        file: PathBuf,
    },
    /// Print the JSON schema of profiles
    Schema,
}

pub(super) fn run(args: ProfileArgs) -> Outcome {
    match args.verb {
        ProfileVerb::Check { file } => check(&file),
        ProfileVerb::Schema => {
            let text = serde_json::to_string_pretty(&profile_schema())
                .map_err(|error| Failure::cannot("print the schema", error))?;
            output::print(&text)
        }
    }
}

/// Checks a profile by itself: source and target may still come from the command line.
fn check(file: &std::path::Path) -> Outcome {
    let mut options = match Profile::load(file) {
        Ok(profile) => profile.options,
        Err(error @ crate::config::ProfileError::Read { .. }) => return Err(error.into()),
        Err(error) => return Err(Failure::from(error).with_code(super::NO)),
    };
    if options.source.is_none() && options.lower.is_empty() {
        options.source = Some("/".into());
    }
    options.target.get_or_insert_with(|| "/".into());
    // Standard output may be open or not when the profile is used: that is the command line's matter.
    let config =
        MountConfig::resolve(options, true).map_err(|error| Failure::from(error).with_code(super::NO))?;
    crate::daemon::check_policy(&config.policy, config.measure.as_ref(), config.max_rules)
        .map_err(|failure| failure.with_code(super::NO))?;
    // What is not on this host may be on the one that mounts; what is here has to be good.
    let (here, elsewhere): (Vec<_>, Vec<_>) = config.keys.into_iter().partition(|key| key.exists());
    let mut notices: Vec<String> =
        elsewhere.iter().map(|key| format!("key {} is not on this host", key.display())).collect();
    let (lists, missing): (Vec<_>, Vec<_>) = config.blacklists.into_iter().partition(|list| list.exists());
    notices.extend(missing.iter().map(|list| format!("blacklist {} is not on this host", list.display())));
    let keys = crate::daemon::check_keys(&here, &lists, &mut |notice| notices.push(notice));
    for notice in notices {
        eprintln!("imafs: {}: {notice}", file.display());
    }
    keys.map_err(|failure| failure.with_code(super::NO))?;
    output::print(&format!("{}: ok", file.display()))
}
