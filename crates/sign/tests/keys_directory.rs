//! `keys/`: no private key is committed, and the script makes throwaway ones that work.

mod common;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use common::{Scratch, have, run};

fn keys() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../keys")
}

#[test]
fn no_private_key_lies_in_the_source_tree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let marker = [b"-----BEGIN ".as_slice(), b"PRIVATE KEY-----\nM"].concat();
    let walk = walkdir::WalkDir::new(&root)
        .into_iter()
        .filter_entry(|entry| !["target", ".git", "artifacts"].iter().any(|name| entry.file_name() == *name));
    for entry in walk.filter_map(Result::ok).filter(|entry| entry.file_type().is_file()) {
        let content = std::fs::read(entry.path()).unwrap_or_default();
        let named = entry.path().extension().is_some_and(|extension| extension == "key");
        // Documents and tests may show where a key would stand; a key has base64 behind the line.
        let holds = content.windows(marker.len()).enumerate().any(|(at, window)| {
            window == marker
                && content.get(at..).is_some_and(|rest| rest.len() > marker.len() + 60)
                && content.get(at + marker.len()..at + marker.len() + 60).is_some_and(|body| {
                    body.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=\n".contains(byte))
                })
        });
        assert!(!named && !holds, "{} is a private key", entry.path().display());
    }
}

#[test]
fn the_script_makes_a_chain_that_signs_and_refuses_to_overwrite() {
    if !have(&["sh", "openssl"]) {
        return;
    }
    let Some(scratch) = Scratch::new() else { return };
    let dir = scratch.path().join("throwaway");
    let make = || {
        Command::new(keys().join("make-throwaway.sh"))
            .arg(&dir)
            .env("IMAFS_SIGN", env!("CARGO_BIN_EXE_imafs-sign"))
            .output()
            .unwrap()
    };
    let output = make();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    scratch.openssl(&["verify", "-CAfile"], &[dir.join("ca.pem"), dir.join("signing.pem")]);

    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let file = scratch.file("f", "hello\n");
    let file = file.to_str().unwrap();
    assert_eq!(run(&["sign", "-k", &at("signing.key"), "--cert", &at("signing.pem"), file]).0, 0);
    assert_eq!(run(&["verify", "--cert", &at("signing.der"), file]).0, 0);
    assert_eq!(run(&["verify", "--cert", &at("ca.pem"), file]).0, 1, "the CA vouches for keys, not files");

    let output = make();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not empty"));
}
