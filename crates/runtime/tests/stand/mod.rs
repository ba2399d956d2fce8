//! The runtime between an engine that is this test, and a real runtime and an `imafs` that write down how they were
//! called and do the least that is expected of them. Needs no privilege.

#![allow(dead_code, reason = "each test file uses what it needs of it")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails loudly")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Writes one line a call, each word in brackets, and does what runc does to its root directory.
const RUNC: &str = r#"#!/bin/sh
{ for word in "$@"; do printf '[%s]' "$word"; done; echo; } >> "$STAND/runc.log"
root=/nonexistent
for word in "$@"; do
    [ "$previous" = --root ] && root=$word
    case $word in --root=*) root=${word#--root=} ;; esac
    previous=$word
    last=$word
done
case " $* " in
    *' create '*) mkdir -p "$root/$last"; cp "$STAND/bundle/config.json" "$STAND/config.seen" ;;
    *' delete '*) rm -rf "$root/$last" ;;
    *' features '*) echo '{"ociVersionMin":"1.0.0"}' ;;
esac
exit "${STAND_STATUS:-0}"
"#;

const IMAFS: &str = r#"#!/bin/sh
{ for word in "$@"; do printf '[%s]' "$word"; done; echo; } >> "$STAND/imafs.log"
[ "$1" != mount ] || exit "${STAND_MOUNT:-0}"
"#;

/// See the module's text.
#[derive(Debug)]
pub struct Stand {
    dir: tempfile::TempDir,
}

impl Stand {
    /// With one profile, `exec`, which is the default and permits what the tests ask for.
    pub fn new() -> Self {
        let stand = Self { dir: tempfile::tempdir().unwrap() };
        for (name, text) in [("runc", RUNC), ("imafs", IMAFS)] {
            stand.write(name, text);
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(stand.path(name), mode).unwrap();
        }
        stand.write("exec.yaml", "policy: exec\n");
        stand.write(
            "runtime.yaml",
            &format!(
                "runtime: {0}/runc\nimafs: {0}/imafs\ndefault: exec\nprofiles:\n  exec: {{file: exec.yaml}}\n",
                stand.dir.path().display()
            ),
        );
        std::fs::create_dir_all(stand.path("bundle/rootfs")).unwrap();
        stand.bundle("rootfs", &[]);
        stand
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Writes the bundle's `config.json`.
    pub fn bundle(&self, root: &str, annotations: &[(&str, &str)]) {
        let annotations: serde_json::Map<_, _> =
            annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let config = serde_json::json!({
            "ociVersion": "1.0.2", "root": { "path": root }, "annotations": annotations,
        });
        self.write("bundle/config.json", &config.to_string());
    }

    /// Calls the runtime. `settings` are environment variables that the two programs heed.
    pub fn call(&self, words: &[&str], settings: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imafs-runtime"));
        command.args(words).env("STAND", self.dir.path()).env("IMAFS_RUN_DIR", self.path("run"));
        command.env("IMAFS_RUNTIME_CONFIG", self.path("runtime.yaml")).envs(settings.iter().copied());
        command.current_dir(self.dir.path()).output().unwrap()
    }

    /// `create` of `c1` from the bundle, with a root of the stand's own.
    pub fn create(&self, settings: &[(&str, &str)]) -> Output {
        let (root, bundle) = (self.path("root"), self.path("bundle"));
        let words = ["--root", root.to_str().unwrap(), "create", "--bundle", bundle.to_str().unwrap(), "c1"];
        self.call(&words, settings)
    }

    /// `delete` of `c1`.
    pub fn delete(&self) -> Output {
        self.call(&["--root", self.path("root").to_str().unwrap(), "delete", "c1"], &[])
    }

    /// How often and how a program was called: one line a call.
    pub fn calls(&self, program: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(&format!("{program}.log"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Slots there are.
    pub fn slots(&self) -> Vec<PathBuf> {
        names_in(&self.path("run/runtime"))
    }
}

/// Paths in a directory; none when it is not there.
pub fn names_in(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// What a program said.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}
