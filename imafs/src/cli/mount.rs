//! `imafs mount`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::config::{MountConfig, Options, Profile};
use crate::daemon;

use super::option_list::OptionList;
use super::{Failure, Outcome};

/// Mount a directory so that every open in it is checked
///
/// Serves SOURCE at TARGET. The mount is ready when the command returns; a process in the background serves it until
/// it is unmounted.
#[derive(Debug, Args)]
#[command(override_usage = "\
imafs mount [OPTIONS] SOURCE TARGET
       imafs mount [OPTIONS] --lower DIR[:DIR] --upper DIR --work DIR TARGET
       imafs mount [OPTIONS] --profile FILE [[SOURCE] TARGET]")]
#[command(after_long_help = "\
Examples:
  imafs mount /srv/web/rootfs /mnt/web
      measure and audit what is executed; deny nothing
  imafs mount --policy exec --key /etc/imafs/keys /srv/web/rootfs /mnt/web
      deny executables and libraries that are not signed
  imafs mount --lower /srv/app:/srv/debian --upper /srv/web/upper --work /srv/web/work /mnt/web
      serve an overlay that nothing else can reach
  imafs mount --journal /var/lib/imafs/web /srv/web/rootfs /mnt/web
      keep the measurement list on disk; after a crash it goes on
  imafs mount --profile web.yaml
      take source, target and all else from a file
  mount -t fuse.imafs -o policy=exec,key=/etc/imafs/keys /srv/web/rootfs /mnt/web
      the same by mount(8), once imafs is linked to /sbin/mount.fuse.imafs

Environment:
  IMAFS_RUN_DIR  where running mounts are registered [default: /run/imafs]
  IMAFS_LOG      what is logged: error, warn, info, debug [default: info]")]
pub struct MountArgs {
    /// Directory to serve, and directory to mount on; the latter alone with --lower or a profile
    #[arg(value_names = ["SOURCE", "TARGET"], num_args = 0..=2)]
    paths: Vec<PathBuf>,

    /// YAML file of mount options; the command line wins over it
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,

    /// Mount options by name, separated by commas (write '\,' for a comma in a value)
    #[arg(short = 'o', value_name = "NAME[=VALUE]")]
    option_lists: Vec<String>,

    /// Stay in the foreground, for supervisors; readiness is told by sd_notify
    #[arg(long)]
    foreground: bool,

    #[command(flatten)]
    options: Options,
}

impl MountArgs {
    /// The options of the command line, of `-o` and of the profile, laid over each other in that order.
    fn merged(self) -> Result<Options, Failure> {
        let list = OptionList::parse(&self.option_lists)?;
        let profile = match self.profile.or(list.profile) {
            Some(path) => Profile::load(&path)?.options,
            None => Options::default(),
        };
        let options = self.options.over(list.options);
        Ok(place(self.paths, options, &profile)?.over(profile))
    }
}

/// Gives the positional arguments their meaning: one alone is the target if something else names the source.
fn place(paths: Vec<PathBuf>, mut options: Options, profile: &Options) -> Result<Options, Failure> {
    let sourced = [&options, profile].iter().any(|o| !o.lower.is_empty() || o.source.is_some());
    let mut paths = paths.into_iter();
    match (paths.next(), paths.next()) {
        (Some(source), Some(target)) => {
            options.source = Some(source);
            options.target = Some(target);
        }
        (Some(target), None) if sourced => options.target = Some(target),
        (Some(source), None) => {
            return Err(Failure::cannot(
                format!("mount {}", source.display()),
                "only one of SOURCE and TARGET is named",
            )
            .advise("write: imafs mount SOURCE TARGET"));
        }
        (None, _) => {}
    }
    Ok(options)
}

pub(super) fn run(args: MountArgs, arguments: &[OsString]) -> Outcome {
    let foreground = args.foreground;
    let config = MountConfig::resolve(args.merged()?, foreground)?;
    match (foreground, daemon::parent()) {
        (true, _) => daemon::run(config, daemon::Readiness::Supervisor),
        (false, Some(parent)) => daemon::run(config, parent),
        (false, None) => daemon::start_in_background(arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AppraiseMode, Source};
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: MountArgs,
    }

    fn config(line: &str) -> Result<MountConfig, Failure> {
        let args =
            Line::try_parse_from(std::iter::once("mount").chain(line.split_whitespace())).unwrap().args;
        Ok(MountConfig::resolve(args.merged()?, false)?)
    }

    #[test]
    fn source_and_target_stand_in_this_order() {
        let config = config("/src /dst --policy exec --key /k1 --key /k2").unwrap();
        assert_eq!(config.source, Source::Directory("/src".into()));
        assert_eq!(config.target, PathBuf::from("/dst"));
        assert_eq!(config.keys, [PathBuf::from("/k1"), "/k2".into()]);
    }

    #[test]
    fn layers_leave_the_target_alone() {
        let config = config("--lower /a:/b --upper /u --work /w /dst").unwrap();
        assert_eq!(config.target, PathBuf::from("/dst"));
        assert_eq!(config.source.to_string(), "overlay:/u:/a:/b");
    }

    #[test]
    fn a_single_path_without_layers_is_refused() {
        let text = config("/src").unwrap_err().to_string();
        assert!(text.contains("only one of SOURCE and TARGET"), "{text}");
    }

    #[test]
    fn the_long_option_wins_over_the_list_and_the_list_over_the_profile() {
        let here = tempfile::tempdir().unwrap();
        let profile = here.path().join("p.yaml");
        std::fs::write(&profile, "source: rootfs\ntarget: /t\nappraise: off\npcr: 12\npolicy: exec\n")
            .unwrap();
        let line = |options: &str| config(&format!("--profile {} {options}", profile.display())).unwrap();
        let bare = line("");
        assert_eq!(bare.source, Source::Directory(here.path().join("rootfs")));
        assert_eq!((bare.appraise, bare.pcr.value()), (AppraiseMode::Off, 12));
        assert_eq!(line("-o appraise=log").appraise, AppraiseMode::Log);
        assert_eq!(line("-o appraise=log --appraise fix").appraise, AppraiseMode::Fix);
        assert_eq!(line("/other").target, PathBuf::from("/other"));
        assert_eq!(line("/a /b").source, Source::Directory("/a".into()));
    }

    #[test]
    fn read_only_is_a_flag_that_can_be_taken_back() {
        assert!(config("/a /b --read-only").unwrap().read_only);
        assert!(!config("/a /b --read-only=false").unwrap().read_only);
    }
}
