//! What several test files need: objects, subjects, queries, and a way to the recorded runs.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test helper that fails fails its test")]

use std::cell::Cell;
use std::path::PathBuf;

use policy::{
    Decision, Func, Mask, Object, ParseOptions, Policy, Query, Subject, SubjectIds, SubjectUnknown,
};

/// A file on the file system of the recorded runs.
pub fn file<'a>(owner: u32, path: &'a str) -> Object<'a> {
    Object {
        fsmagic: 0xef53,
        fsname: "ext4",
        fs_subtype: None,
        fsuuid: [1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef],
        owner,
        group: owner,
        path: path.as_bytes(),
    }
}

/// A subject that counts how often it is asked.
#[derive(Debug)]
pub struct Known {
    pub ids: SubjectIds,
    pub asked: Cell<usize>,
}

impl Known {
    /// An actor of the recorded runs: `UID` or `REAL/EFFECTIVE`. Only root's effective id brings capabilities.
    pub fn actor(text: &str) -> Self {
        let (uid, euid) = text.split_once('/').unwrap_or((text, text));
        let (uid, euid) = (uid.parse().unwrap(), euid.parse().unwrap());
        let root = euid == 0;
        let ids = SubjectIds {
            uid,
            euid,
            suid: euid,
            gid: uid,
            egid: euid,
            sgid: euid,
            cap_setuid: root,
            cap_setgid: root,
        };
        Self { ids, asked: Cell::new(0) }
    }
}

impl Subject for Known {
    fn ids(&self) -> Result<SubjectIds, SubjectUnknown> {
        self.asked.set(self.asked.get() + 1);
        Ok(self.ids)
    }
}

/// A subject nobody can tell anything about.
#[derive(Debug)]
pub struct Gone;

impl Subject for Gone {
    fn ids(&self) -> Result<SubjectIds, SubjectUnknown> {
        Err(SubjectUnknown { tid: 7, errno: 3 })
    }
}

pub fn policy(text: &str) -> Policy {
    Policy::parse(text.as_bytes(), &ParseOptions::default()).unwrap()
}

/// Decides an access by root to root's `/t/file`.
pub fn decide(text: &str, func: Func, mask: Mask) -> Decision {
    let object = file(0, "/t/file");
    let subject = Known::actor("0");
    policy(text).decide(&Query { func, mask, object: &object, subject: &subject, digest: None }).unwrap()
}

/// The directory of the recorded kernel runs.
pub fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../integration/golden")
}

/// One file of a recorded run.
pub fn recorded(scenario: &str, name: &str) -> String {
    let path = golden().join(scenario).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}
