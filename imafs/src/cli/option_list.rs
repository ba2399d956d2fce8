//! `-o NAME=VALUE,...`: the long options in mount(8)'s spelling.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args as _, Command, FromArgMatches as _};

use crate::config::Options;

use super::Failure;

/// Options that mount(8) and fstab(5) pass around and that ask for nothing imafs does not do anyway.
const WITHOUT_EFFECT: &[&str] = &[
    "rw",
    "suid",
    "dev",
    "exec",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "async",
    "relatime",
    "defaults",
    "nofail",
    "_netdev",
    "allow_other",
    "default_permissions",
];

/// What an option list says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OptionList {
    /// The mount options in it.
    pub options: Options,
    /// `profile=FILE`.
    pub profile: Option<PathBuf>,
}

impl OptionList {
    /// Reads the values of all `-o` given; a comma within a value is written `\,`.
    ///
    /// # Errors
    /// An option that is unknown, or a value it does not take.
    pub fn parse(lists: &[String]) -> Result<Self, Failure> {
        let mut profile = None;
        let mut arguments = Vec::new();
        for item in lists.iter().flat_map(|list| split(list)) {
            let (name, value) =
                item.split_once('=').map_or((item.as_str(), None), |(name, value)| (name, Some(value)));
            match (name, value) {
                ("", _) => {}
                ("ro", None) => arguments.push("--read-only".to_owned()),
                ("profile", Some(path)) => profile = Some(path.into()),
                ("nodev" | "nosuid" | "noexec", None) => arguments.push(format!("--mount-flag={name}")),
                (name, None) if WITHOUT_EFFECT.contains(&name) || name.starts_with("x-") => {}
                ("fsname" | "subtype", Some(_)) => {}
                (name, None) => arguments.push(format!("--{}", name.replace('_', "-"))),
                (name, Some(value)) => arguments.push(format!("--{}={value}", name.replace('_', "-"))),
            }
        }
        let command = Options::augment_args(Command::new("-o").no_binary_name(true).disable_help_flag(true));
        let refused = |error: clap::Error| {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or("not understood");
            let reason = line.trim_start_matches("error: ").replace("'--", "'");
            Failure::cannot("read the -o list", reason).advise("'imafs mount --help' lists the options")
        };
        let matches = command.try_get_matches_from(arguments).map_err(refused)?;
        let options = Options::from_arg_matches(&matches).map_err(refused)?;
        Ok(Self { options, profile })
    }
}

/// The items of a list, `\\,` read as a comma.
pub(super) fn split(list: &str) -> Vec<String> {
    let mut items = Vec::new();
    let mut item = String::new();
    let mut letters = list.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            ',' => items.push(std::mem::take(&mut item)),
            '\\' => item.push(letters.next_if_eq(&',').unwrap_or('\\')),
            letter => item.push(letter),
        }
    }
    items.push(item);
    items
}

/// Turns `mount.fuse.imafs SOURCE TARGET [-sfnv] [-t TYPE] [-o ...]` into `imafs mount ...`; leaves all else alone.
///
/// Source: mount(8), "External helpers".
pub fn from_mount_helper(arguments: Vec<OsString>) -> Vec<OsString> {
    let called = arguments.first().and_then(|name| Path::new(name).file_name());
    if !called.is_some_and(|name| name == "mount.fuse.imafs" || name == "mount.imafs") {
        return arguments;
    }
    let mut rewritten: Vec<OsString> = vec!["imafs".into(), "mount".into()];
    let mut rest = arguments.into_iter().skip(1);
    while let Some(argument) = rest.next() {
        match argument.to_str() {
            Some("-n" | "-s" | "-v") => {}
            Some("-t" | "-N") => {
                rest.next();
            }
            Some(_) | None => rewritten.push(argument),
        }
    }
    rewritten
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AppraiseMode, CacheMode, MountFlag};

    fn parse(list: &str) -> Result<OptionList, Failure> {
        OptionList::parse(&[list.to_owned()])
    }

    #[test]
    fn the_names_are_those_of_the_long_options() {
        let list =
            parse("policy=exec,appraise=log,cache=shared,ro,page_cache_limit=2MiB,profile=/p,nofail,x-y")
                .unwrap();
        assert_eq!(list.options.policy.as_deref(), Some("exec"));
        assert_eq!(list.options.appraise, Some(AppraiseMode::Log));
        assert_eq!(list.options.cache, Some(CacheMode::Shared));
        assert_eq!(list.options.read_only, Some(true));
        let flags = parse("nodev,nosuid,mount_flag=noexec").unwrap().options.mount_flag;
        assert_eq!(flags, [MountFlag::Nodev, MountFlag::Nosuid, MountFlag::Noexec]);
        assert_eq!(list.profile, Some("/p".into()));
    }

    #[test]
    fn overlay_options_have_the_kernels_names_too() {
        let options = parse("lowerdir=/a:/b,upperdir=/u,workdir=/w").unwrap().options;
        assert_eq!(options.lower, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!((options.upper, options.work), (Some("/u".into()), Some("/w".into())));
    }

    #[test]
    fn a_comma_in_a_value_is_escaped() {
        let options = parse("bank=sha1\\,sha256,pcr=11").unwrap().options;
        assert_eq!(options.bank.len(), 2);
        assert!(options.pcr.is_some());
    }

    #[test]
    fn what_imafs_does_not_do_is_refused_by_name() {
        for (list, word) in [
            ("polcy=exec", "polcy"),
            ("nosymfollow", "nosymfollow"),
            ("appraise=maybe", "maybe"),
            ("pcr", "pcr"),
        ] {
            let text = parse(list).unwrap_err().to_string();
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn mount_8_calls_its_helper_in_its_own_way() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let called =
            from_mount_helper(words("/sbin/mount.fuse.imafs /s /t -n -t fuse.imafs -o rw,policy=exec"));
        assert_eq!(called, words("imafs mount /s /t -o rw,policy=exec"));
        assert_eq!(from_mount_helper(words("imafs mount -s")), words("imafs mount -s"));
    }
}
