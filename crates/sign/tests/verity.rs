//! Signatures of fs-verity digests: against `fsverity digest` and `openssl`, for evmctl 1.4 does not make them, and
//! against labels that a 6.1 kernel took.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Scratch, have, label, run, set_label};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What `fsverity digest` says.
fn fsverity(path: &Path, hash: &str) -> Vec<u8> {
    let tool = ["digest", "--compact", &format!("--hash-alg={hash}")].map(str::to_owned);
    let output = Command::new("fsverity").args(tool).arg(path).output().unwrap();
    hex::decode(String::from_utf8(output.stdout).unwrap().trim()).unwrap()
}

/// Whether openssl finds the signature in this label to be one of `struct ima_file_id` by the certificate's key.
fn openssl_accepts(scratch: &Scratch, certificate: &str, label: &[u8], hash: &str, digest: &[u8]) -> bool {
    let (key, signature, message) =
        (scratch.path().join("pub"), scratch.path().join("sig"), scratch.path().join("id"));
    let public = Command::new("openssl").args(["x509", "-in", certificate, "-pubkey", "-noout"]).output();
    std::fs::write(&key, public.unwrap().stdout).unwrap();
    std::fs::write(&signature, label.get(9..).unwrap()).unwrap();
    let id = if hash == "sha256" { 4 } else { 6 };
    std::fs::write(&message, [&[6, id], digest].concat()).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", &format!("-{hash}"), "-verify"]).arg(key).arg("-signature").arg(signature);
    openssl.arg(message).output().unwrap().status.success()
}

#[test]
fn signatures_are_those_of_the_tools_for_both_hashes_and_every_kind_of_key() {
    if !have(&["openssl", "fsverity"]) {
        return;
    }
    let Some(scratch) = Scratch::new() else { return };
    for (name, kind) in [("rsa", "rsa:2048"), ("p256", "P-256"), ("p384", "P-384")] {
        scratch.openssl_key(name, kind);
        let at = |end: &str| text(&scratch.path().join(format!("{name}.{end}"))).to_owned();
        let (key, certificate) = (at("key"), at("pem"));
        for hash in ["sha256", "sha512"] {
            for size in [0, 1, 4096, 4097] {
                let what = format!("{name} {hash} {size}");
                let file = scratch.file(&what, &"x".repeat(size));
                let sign = ["sign", "--verity", "-k", &key, "--cert", &certificate, "-a", hash, text(&file)];
                assert_eq!(run(&sign).0, 0, "{what}");
                let label = label(&file).unwrap();
                let id = if hash == "sha256" { 4 } else { 6 };
                assert_eq!(label.get(..3).unwrap(), [6, 3, id], "{what}");
                let digest = fsverity(&file, hash);
                assert!(openssl_accepts(&scratch, &certificate, &label, hash, &digest), "{what}");
                let other: Vec<u8> = digest.iter().map(|byte| byte ^ 1).collect();
                assert!(!openssl_accepts(&scratch, &certificate, &label, hash, &other), "{what}");
                let (_, lines, _) = run(&sign);
                assert!(lines.contains("1 already labelled so"), "{lines}");
            }
        }
    }
}

#[test]
fn verity_signatures_are_checked_as_such_and_as_nothing_else() {
    let Some(scratch) = Scratch::new() else { return };
    let at = |name: &str| text(&scratch.path().join(name)).to_owned();
    let (key, certificate) = (at("key"), at("cert"));
    assert_eq!(run(&["keygen", "--type", "p256", "--out-key", &key, "--out-cert", &certificate]).0, 0);
    let file = scratch.file("f", &"hello\n".repeat(3000));
    let verify = |more: &[&str]| run(&[&["verify", "--cert", &certificate, text(&file)], more].concat());

    assert_eq!(run(&["sign", "-k", &key, text(&file)]).0, 0);
    assert_eq!(verify(&[]).0, 0);
    let (status, lines, _) = verify(&["--verity"]);
    assert!(status == 1 && lines.contains("a signature of the content, none of the fs-verity"), "{lines}");

    let (status, lines, _) = run(&["sign", "--verity", "-k", &key, text(&file)]);
    assert!(status == 0 && lines.starts_with("signed 1 file (fs-verity sha256, key "), "{lines}");
    assert_eq!(verify(&["--verity"]).0, 0);
    let (status, lines, _) = verify(&[]);
    assert!(status == 1 && lines.contains("which --verity checks"), "{lines}");

    let good = label(&file).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    set_label(&file, &bad);
    let (status, lines, _) = verify(&["--verity"]);
    assert!(status == 1 && lines.contains("the signature does not match"), "{lines}");
    set_label(&file, &good);
    std::fs::write(&file, "hello\n".repeat(3001)).unwrap();
    assert_eq!(verify(&["--verity"]).0, 1);

    let (status, _, errors) = run(&["sign", "--verity", "-a", "sha384", "-k", &key, text(&file)]);
    assert!(status == 2 && errors.contains("fs-verity has no sha384 digests"), "{errors}");
    assert_eq!(run(&["sign", "--verity", "--hash", text(&file)]).0, 2);
    assert_eq!(run(&["verify", "--verity", "--hash", text(&file)]).0, 2);
}

/// `integration/golden/verity-appraise`: the kernel let `v-good` and `v-good512` through, and no other of these.
#[test]
fn labels_that_a_kernel_took_verify_and_those_it_refused_do_not() {
    let Some(scratch) = Scratch::new() else { return };
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration/golden/verity-appraise");
    let certificate = text(&recording.join("keys/trusted.der")).to_owned();
    let setup = std::fs::read_to_string(recording.join("setup.sh")).unwrap();
    let mut seen = 0;
    for line in setup.lines() {
        let mut words = line.split(' ');
        let (Some("xattr"), Some(name), Some(hex)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        // Not the empty file, and not what a kernel refused for the digest that its filesystem kept.
        if !name.starts_with("v-") || ["v-zero", "v-algo", "v-mixed", "v-empty"].contains(&name) {
            continue;
        }
        let file = scratch.file(name, "hello\n");
        set_label(&file, &hex::decode(hex).unwrap());
        let expected = if name.starts_with("v-good") { 0 } else { 1 };
        assert_eq!(run(&["verify", "--verity", "--cert", &certificate, text(&file)]).0, expected, "{name}");
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
}
