//! What we read of runc's command line; the rest goes to the real runtime as it came.
//!
//! The shape is that of runc 1.1 (and of crun where it agrees): options before the command, the command, its options,
//! the container's id. Go's flag packages end options at the first argument that is none, so the id of `create`, `run`
//! and `delete` is the last argument, whatever options a later runc may add.
//!
//! Our own options stand before the command, begin with `--imafs-`, and never reach the real runtime. Docker passes
//! them by `runtimeArgs`, since it hands no annotation through.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use crate::Error;
use crate::slot::is_id;

/// Where runc keeps its containers when `--root` does not say.
const DEFAULT_ROOT: &str = "/run/runc";

/// Options before the command that take a value, of runc and of crun.
const GLOBAL_VALUES: [&str; 6] = ["root", "log", "log-format", "criu", "rootless", "cgroup-manager"];

/// Our own options before the command, each with what it takes and what that is.
pub const OURS: [(&str, &str, &str); 2] = [
    ("imafs-config", "FILE", "the host's settings, instead of /etc/imafs/runtime.yaml"),
    (
        "imafs-profile",
        "NAME",
        "the profile of containers that name none; for engines that hand no annotation on",
    ),
];

/// What an engine wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `create`: make the container, to be started later.
    Create,
    /// `run`: make it, start it and, unless detached, wait for it.
    Run,
    /// `delete`: take away what is left of it.
    Delete,
    /// `checkpoint`: write a running container to disk.
    Checkpoint,
    /// `restore`: make a container of what `checkpoint` has written.
    Restore,
    /// `imafs-sweep`, our own: take away what killed processes left.
    Sweep,
    /// `--help`, or `help` and no more: of ours as well.
    Help,
    /// Anything else is the real runtime's alone.
    Other,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `time="..." level=error msg="..."`
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// One call of the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// All arguments but ours, for the real runtime.
    pub forwarded: Vec<OsString>,
    /// Those of them that stand before the command.
    pub globals: Vec<OsString>,
    /// What is wanted.
    pub command: Command,
    /// The container, for the commands that name one. What cannot be a name of one is none.
    pub id: Option<String>,
    /// Whether the command is only asked how it is used.
    pub usage: bool,
    /// `--bundle`, or the working directory.
    pub bundle: PathBuf,
    /// Whether `run` returns before the container ends.
    pub detached: bool,
    /// `--root`.
    pub root: PathBuf,
    /// `--log`, where it is a file of its own.
    pub log: Option<PathBuf>,
    /// `--log-format`.
    pub log_format: LogFormat,
    /// `--imafs-config`.
    pub config: Option<PathBuf>,
    /// `--imafs-profile`.
    pub profile: Option<String>,
    /// The first option that is spelled as one of ours and is none, or has no value: whoever wrote it wanted a check. Or
    /// one that has the real runtime read another configuration than the one we change.
    pub mistaken: Option<String>,
}

impl Invocation {
    /// Refuses a line whose options of ours were not all understood.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub fn check(&self) -> Result<(), Error> {
        match &self.mistaken {
            Some(option) => Err(Error::Option { option: option.clone() }),
            None => Ok(()),
        }
    }
}

/// Reads a command line, the program's own name left out. Never fails: what is wrong the real runtime will say, and
/// [`Invocation::check`] of our own options.
#[must_use]
pub fn parse(arguments: Vec<OsString>) -> Invocation {
    let mut all = Words { rest: arguments.into_iter().collect() };
    let mut globals = Vec::new();
    let mut ours = Vec::new();
    let (mut mistaken, mut help) = (None, false);
    let command = loop {
        match all.next() {
            Some(word) if is_ours(&word) => {
                let known = name(&word).is_some_and(|name| OURS.iter().any(|(ours, ..)| *ours == name));
                let value = if word.as_bytes().contains(&b'=') { None } else { all.next_if(known) };
                if !known || (value.is_none() && !word.as_bytes().contains(&b'=')) {
                    mistaken.get_or_insert_with(|| word.to_string_lossy().into_owned());
                }
                ours.push(word);
                ours.extend(value);
            }
            Some(word) if is_option(&word) => {
                help |= is_help(&word);
                let wants_value = name(&word).is_some_and(|name| GLOBAL_VALUES.contains(&name));
                let value = all.next_if(wants_value && !word.as_bytes().contains(&b'='));
                globals.push(word);
                globals.extend(value);
            }
            other => break other,
        }
    };
    let rest: Vec<OsString> = all.rest.into_iter().collect();
    let kind = match command_of(command.as_deref()) {
        // As Go's flag packages have it, whatever command comes behind.
        _ if help => Command::Help,
        Command::Help if !rest.is_empty() => Command::Other,
        kind => kind,
    };
    let id = match kind {
        Command::Create | Command::Run | Command::Delete | Command::Checkpoint | Command::Restore => {
            last(&rest)
        }
        Command::Sweep | Command::Help | Command::Other => None,
    };
    let another_file = rest.iter().find(|word| starts(kind) && matches!(name(word), Some("config" | "f")));
    let mistaken = mistaken.or_else(|| another_file.map(|word| word.to_string_lossy().into_owned()));
    let path = |value: OsString| PathBuf::from(value);
    Invocation {
        command: kind,
        id,
        bundle: value_of(&rest, &["bundle", "b"]).map_or_else(|| PathBuf::from("."), path),
        // A command line may hold the word as another option's value; alone it can be nothing else.
        usage: matches!(rest.as_slice(), [word] if is_help(word)),
        detached: rest.iter().any(|word| matches!(name(word), Some("detach" | "d"))),
        root: value_of(&globals, &["root"]).map_or_else(|| PathBuf::from(DEFAULT_ROOT), path),
        log: value_of(&globals, &["log"]).filter(|log| !log.is_empty()).map(path),
        log_format: log_format(value_of(&globals, &["log-format"]).as_deref()),
        config: value_of(&ours, &["imafs-config"]).map(path),
        profile: value_of(&ours, &["imafs-profile"]).map(|name| name.to_string_lossy().into_owned()),
        mistaken,
        forwarded: globals.iter().cloned().chain(command).chain(rest).collect(),
        globals,
    }
}

struct Words {
    rest: std::collections::VecDeque<OsString>,
}

impl Words {
    fn next(&mut self) -> Option<OsString> {
        self.rest.pop_front()
    }

    fn next_if(&mut self, wanted: bool) -> Option<OsString> {
        if wanted { self.next() } else { None }
    }
}

fn command_of(word: Option<&OsStr>) -> Command {
    match word.and_then(OsStr::to_str) {
        Some("help") => Command::Help,
        Some("create") => Command::Create,
        Some("run") => Command::Run,
        Some("delete") => Command::Delete,
        Some("checkpoint") => Command::Checkpoint,
        Some("restore") => Command::Restore,
        Some("imafs-sweep") => Command::Sweep,
        Some(_) | None => Command::Other,
    }
}

/// Whether the command makes a container of a bundle's configuration.
fn starts(command: Command) -> bool {
    matches!(command, Command::Create | Command::Run | Command::Restore)
}

fn is_help(word: &OsString) -> bool {
    word == "--help" || word == "-h"
}

fn log_format(value: Option<&OsStr>) -> LogFormat {
    if value == Some(OsStr::new("json")) { LogFormat::Json } else { LogFormat::Text }
}

/// Whether an option means us, with one dash or two, as Go's flag packages take them.
fn is_ours(word: &OsStr) -> bool {
    word.as_bytes().starts_with(b"--imafs-") || word.as_bytes().starts_with(b"-imafs-")
}

fn is_option(word: &OsStr) -> bool {
    word.len() > 1 && word.as_bytes().starts_with(b"-")
}

/// The name of an option word, dashes and value left out.
fn name(word: &OsStr) -> Option<&str> {
    let text = word.to_str().filter(|_| is_option(word)).or_else(|| {
        // The value may be any bytes; the name before it is text.
        let bytes = word.as_bytes();
        let end = bytes.iter().position(|byte| *byte == b'=').filter(|_| is_option(word))?;
        std::str::from_utf8(bytes.get(..end)?).ok()
    })?;
    let text = text.strip_prefix("--").or_else(|| text.strip_prefix('-'))?;
    Some(text.split_once('=').map_or(text, |(name, _)| name))
}

/// The value of the last option with one of these names, as Go's flag packages take it: `--name=V` or `--name V`.
fn value_of(words: &[OsString], names: &[&str]) -> Option<OsString> {
    let mut found = None;
    for (at, word) in words.iter().enumerate() {
        if !name(word).is_some_and(|name| names.contains(&name)) {
            continue;
        }
        let bytes = word.as_bytes();
        found = match bytes.iter().position(|byte| *byte == b'=') {
            Some(equals) => bytes.get(equals + 1..).map(|value| OsString::from_vec(value.to_vec())),
            None => words.get(at + 1).cloned(),
        };
    }
    found
}

fn last(words: &[OsString]) -> Option<String> {
    let word = words.last().filter(|word| !is_option(word))?;
    word.to_str().filter(|word| is_id(word)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parsed(line: &str) -> Invocation {
        parse(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn the_lines_of_podman_docker_and_containerd_are_understood() {
        for (line, command, id, bundle, root) in [
            (
                "--log-format=json --log=/c/oci-log create --bundle /c/userdata --pid-file /run/pidfile 0a1b",
                Command::Create,
                "0a1b",
                "/c/userdata",
                "/run/runc",
            ),
            (
                "--root /run/containerd/runc/default --log /b/log.json --log-format json create --bundle /b --pid-file /b/init.pid web",
                Command::Create,
                "web",
                "/b",
                "/run/containerd/runc/default",
            ),
            (
                "--root /var/run/docker/runtime-runc/moby --log /b/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /b/init.pid --console-socket /tmp/pty.sock c1",
                Command::Create,
                "c1",
                "/b",
                "/var/run/docker/runtime-runc/moby",
            ),
            ("--root /r delete --force c1", Command::Delete, "c1", ".", "/r"),
            ("run -b /bundle c2", Command::Run, "c2", "/bundle", "/run/runc"),
            ("--debug run --bundle=/x --detach c3", Command::Run, "c3", "/x", "/run/runc"),
        ] {
            let found = parsed(line);
            assert_eq!(found.command, command, "{line}");
            assert_eq!(found.id.as_deref(), Some(id), "{line}");
            assert_eq!(found.bundle, Path::new(bundle), "{line}");
            assert_eq!(found.root, Path::new(root), "{line}");
            assert_eq!(
                found.forwarded.join(OsStr::new(" ")),
                OsString::from(line),
                "nothing is lost: {line}"
            );
        }
        assert!(parsed("run -d c3").detached);
        assert!(!parsed("run c3").detached);
    }

    #[test]
    fn an_options_value_is_never_taken_for_the_command() {
        let found = parsed("--root create --log run --criu delete state c1");
        assert_eq!(found.command, Command::Other);
        assert_eq!((found.root, found.log), ("create".into(), Some("run".into())));
    }

    #[test]
    fn our_options_are_read_and_kept_from_the_real_runtime() {
        let found = parsed("--imafs-profile=web --debug --imafs-config /e/r.yaml --root /r create -b /b c1");
        assert_eq!(found.profile.as_deref(), Some("web"));
        assert_eq!(found.config.as_deref(), Some(Path::new("/e/r.yaml")));
        assert_eq!(
            found.forwarded.join(OsStr::new(" ")),
            OsString::from("--debug --root /r create -b /b c1")
        );
        assert_eq!(found.globals.join(OsStr::new(" ")), OsString::from("--debug --root /r"));
        // After the command they are the container's business: `exec` hands them to a program.
        assert_eq!(parsed("exec c1 sh --imafs-profile=web").profile, None);
    }

    #[test]
    fn an_option_that_looks_like_ours_and_is_none_is_refused() {
        for (line, option) in [
            ("--imafs-profle=web run c1", "--imafs-profle=web"),
            ("--imafs-profile=web --imafs-confg /e run c1", "--imafs-confg"),
            ("-imafs-x run c1", "-imafs-x"),
            ("--imafs-profile", "--imafs-profile"),
            ("--imafs-config=/e --imafs-help", "--imafs-help"),
        ] {
            let found = parsed(line);
            assert_eq!(found.mistaken.as_deref(), Some(option), "{line}");
            assert!(found.check().unwrap_err().to_string().contains(option));
        }
        for line in ["--imafs-profile=web run c1", "-imafs-profile web run c1", "exec c1 x --imafs-profle=y"]
        {
            let found = parsed(line);
            assert_eq!(found.mistaken, None, "{line}");
            found.check().unwrap();
        }
        assert_eq!(parsed("-imafs-profile web run c1").profile.as_deref(), Some("web"));
    }

    #[test]
    fn what_is_no_command_line_is_left_to_the_real_runtime() {
        for line in
            ["", "--version", "-v", "help create", "features", "frobnicate --x", "-", "state", "--root"]
        {
            assert_eq!(parsed(line).command, Command::Other, "{line}");
        }
        assert_eq!(parsed("create").id, None);
        assert_eq!(parsed("delete --force").id, None);
        assert_eq!(parsed("create ../c1").id, None);
    }

    #[test]
    fn help_is_ours_unless_it_is_about_one_command() {
        for line in ["--help", "-h", "--debug --help", "help", "--help create -b /b c1"] {
            assert_eq!(parsed(line).command, Command::Help, "{line}");
        }
        for (line, command) in [("help run", Command::Other), ("--log --help state c1", Command::Other)] {
            assert_eq!(parsed(line).command, command, "{line}");
        }
        assert!(parsed("create --help").usage && parsed("run -h").usage);
        assert!(!parsed("create -b --help c1").usage && !parsed("run c1 -b --help").usage);
    }

    #[test]
    fn a_configuration_that_we_would_not_change_is_refused() {
        for line in ["run --config=other.json c1", "create -f other.json c1", "restore -config x c1"] {
            assert!(parsed(line).check().is_err(), "{line}");
        }
        for line in ["create --bundle /b c1", "exec -f x c1", "run -b config c1"] {
            parsed(line).check().unwrap();
        }
    }

    #[test]
    fn the_log_is_json_only_when_asked() {
        assert_eq!(parsed("--log-format json state c").log_format, LogFormat::Json);
        assert_eq!(parsed("--log-format=json state c").log_format, LogFormat::Json);
        assert_eq!(parsed("--log-format text state c").log_format, LogFormat::Text);
        assert_eq!(parsed("state c").log_format, LogFormat::Text);
    }

    #[test]
    fn bytes_that_are_no_text_are_carried_through() {
        let line = vec![
            OsString::from("create"),
            OsString::from_vec(b"--bundle=/b\xff".to_vec()),
            OsString::from("c"),
        ];
        let found = parse(line.clone());
        assert_eq!(found.bundle, PathBuf::from(OsString::from_vec(b"/b\xff".to_vec())));
        assert_eq!(found.forwarded, line);
    }
}
