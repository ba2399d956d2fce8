//! What imafs-sign writes evmctl verifies, and the other way round: every key kind with every hash,
//! each beside a signature with one bit flipped and a key that did not sign.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::path::Path;

use common::{Scratch, clear_label, evmctl, have, label, run, set_label};

const HASHES: [&str; 5] = ["sha1", "sha224", "sha256", "sha384", "sha512"];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Flips the last bit of the label, which is in the signature or the digest.
fn flip(path: &Path) {
    let mut value = label(path).unwrap();
    *value.last_mut().unwrap() ^= 1;
    set_label(path, &value);
}

fn both_ways(kind: &str) {
    if !have(&["openssl", "evmctl"]) {
        return;
    }
    let Some(scratch) = Scratch::new() else { return };
    scratch.openssl_key("own", kind);
    scratch.openssl_key("stranger", kind);
    let at = |name: &str| text(&scratch.path().join(name)).to_owned();
    let (key, certificate, stranger) = (at("own.key"), at("own.der"), at("stranger.der"));
    for hash in HASHES {
        let ours = scratch.file(&format!("ours-{hash}"), "hello\n");
        let theirs = scratch.file(&format!("theirs-{hash}"), "hello\n");

        let (status, _, errors) =
            run(&["sign", "--key", &key, "--cert", &certificate, "--hash-algo", hash, text(&ours)]);
        assert_eq!((status, errors.as_str()), (0, ""), "{kind} {hash}");
        assert!(evmctl(&["ima_verify", "-k", &certificate, text(&ours)]), "{kind} {hash}");
        assert!(!evmctl(&["ima_verify", "-k", &stranger, text(&ours)]), "{kind} {hash}");
        flip(&ours);
        assert!(!evmctl(&["ima_verify", "-k", &certificate, text(&ours)]), "{kind} {hash}");

        assert!(evmctl(&["ima_sign", "-a", hash, "-k", &key, text(&theirs)]), "{kind} {hash}");
        let verify = |certificate: &str| run(&["verify", "--cert", certificate, text(&theirs)]);
        assert_eq!(verify(&certificate).0, 0, "{kind} {hash}");
        let (status, lines, _) = verify(&stranger);
        assert_eq!(status, 1, "{kind} {hash}");
        assert!(lines.contains("no key"), "{lines}");
        flip(&theirs);
        let (status, lines, _) = verify(&certificate);
        assert_eq!(status, 1, "{kind} {hash}");
        assert!(lines.contains("the signature does not match"), "{lines}");
    }
}

#[test]
fn rsa_2048_signatures_go_both_ways() {
    both_ways("rsa:2048");
}

#[test]
fn rsa_4096_signatures_go_both_ways() {
    both_ways("rsa:4096");
}

#[test]
fn p256_signatures_go_both_ways() {
    both_ways("P-256");
}

#[test]
fn p384_signatures_go_both_ways() {
    both_ways("P-384");
}

#[test]
fn evmctl_signs_and_verifies_with_our_keys_and_certificates() {
    if !have(&["evmctl"]) {
        return;
    }
    let Some(scratch) = Scratch::new() else { return };
    for (kind, bits) in [("rsa", Some("2048")), ("p256", None), ("p384", None)] {
        let at = |end: &str| text(&scratch.path().join(format!("{kind}.{end}"))).to_owned();
        let mut args = vec!["keygen", "--type", kind];
        args.extend(bits.iter().flat_map(|bits| ["--bits", bits]));
        let (key, der) = (at("key"), at("der"));
        args.extend(["--out-key", &key, "--out-cert", &der]);
        let (status, _, errors) = run(&args);
        assert_eq!((status, errors.as_str()), (0, ""));

        let ours = scratch.file(&format!("{kind}-ours"), "hello\n");
        assert_eq!(run(&["sign", "-k", &key, text(&ours)]).0, 0);
        assert!(evmctl(&["ima_verify", "-k", &der, text(&ours)]), "{kind}");
        let theirs = scratch.file(&format!("{kind}-theirs"), "hello\n");
        assert!(evmctl(&["ima_sign", "--keyid-from-cert", &der, "-k", &key, text(&theirs)]), "{kind}");
        assert_eq!(run(&["verify", "--cert", &der, text(&theirs)]).0, 0, "{kind}");
        std::fs::write(&theirs, "hello!").unwrap();
        assert_eq!(run(&["verify", "--cert", &der, text(&theirs)]).0, 1, "{kind}");
    }
}

#[test]
fn keyids_agree_with_evmctl_s() {
    if !have(&["openssl", "evmctl"]) {
        return;
    }
    let Some(scratch) = Scratch::new() else { return };
    scratch.openssl_key("k", "P-256");
    let at = |name: &str| text(&scratch.path().join(name)).to_owned();
    let file = scratch.file("f", "hello\n");
    assert!(evmctl(&["ima_sign", "-k", &at("k.key"), text(&file)]));
    let theirs = label(&file).unwrap()[3..7].to_vec();
    for extra in [vec![], vec!["--cert".to_owned(), at("k.pem")]] {
        clear_label(&file);
        let mut args = vec!["sign".to_owned(), "-k".to_owned(), at("k.key"), text(&file).to_owned()];
        args.extend(extra);
        assert_eq!(run(&args).0, 0);
        assert_eq!(label(&file).unwrap()[3..7], theirs);
    }
    assert_eq!(run(&["sign", "--force", "-k", &at("k.key"), "--keyid", "0x01020304", text(&file)]).0, 0);
    assert_eq!(label(&file).unwrap()[3..7], [1, 2, 3, 4]);
}

#[test]
fn hash_labels_go_both_ways() {
    if !have(&["evmctl"]) {
        return;
    }
    let Some(scratch) = Scratch::new() else { return };
    for hash in HASHES {
        let ours = scratch.file(&format!("ours-{hash}"), "hello\n");
        let theirs = scratch.file(&format!("theirs-{hash}"), "hello\n");
        assert!(evmctl(&["ima_hash", "-a", hash, text(&theirs)]));
        assert_eq!(run(&["hash", "--write", "-a", hash, text(&ours)]).0, 0);
        assert_eq!(label(&ours), label(&theirs), "{hash}");
        assert_eq!(run(&["verify", "--hash", text(&theirs)]).0, 0, "{hash}");
        flip(&theirs);
        let (status, lines, _) = run(&["verify", "--hash", text(&theirs)]);
        assert_eq!(status, 1);
        assert!(lines.contains("does not match the hash label"), "{lines}");
    }
}
