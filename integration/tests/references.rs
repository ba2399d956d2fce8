//! What `imafs-attest` holds lists against, each made of a real tree: Keylime runtime policies, manifests of labels.

use anyhow::{Context, Result, ensure};
use integration::attestation::{NONCE, judge, quote, reasons};
use integration::keylime::{self, Question};
use integration::process::{ours, output, succeed};
use integration::store::make_manifest;
use integration::swtpm::Swtpm;
use integration::{Mount, Need, Stand, need};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const POLICY: &str = "measure func=FILE_CHECK mask=MAY_READ\n";

/// Names that lists record as they are, and some that they do not.
const NAMES: [&str; 4] = ["a", "b with space", "deep/er/c", "line\nbreak"];

fn mount(stand: &Stand, tpm: &Swtpm) -> Result<Mount> {
    stand.mount()?.policy(POLICY)?.args(["--tpm", &tpm.tcti()]).start()
}

fn tree() -> Result<Stand> {
    let stand = Stand::new()?;
    for name in NAMES {
        stand.file(name, name, 0o644)?;
    }
    Ok(stand)
}

fn read(mount: &Mount, names: &[&str]) -> Result<()> {
    for name in names {
        std::fs::read(mount.path(name)).with_context(|| format!("cannot read {name}"))?;
    }
    Ok(())
}

/// Makes a runtime policy.
fn policy_of(source: &Path, to: &Path) -> Result<Value> {
    let mut policy = Command::new(ours("imafs-attest")?);
    succeed(policy.arg("policy").arg(source).arg("--output").arg(to))?;
    serde_json::from_slice(&std::fs::read(to)?).context("not JSON")
}

/// What Keylime finds wrong with the list of a mount under the digests of a policy of ours.
fn keylime_finds(mount: &Mount, tpm: &Swtpm, policy: &Value, dir: &Path) -> Result<Vec<String>> {
    let mut allowed = policy.get("digests").cloned().context("no digests")?;
    // The emulator's registers of the boot are zero, and the file's digest by coreutils.
    let zeros = succeed(Command::new("sh").args(["-c", "head -c 320 /dev/zero | sha256sum"]))?;
    let aggregate = zeros.split(' ').next().context("no digest")?;
    let digests = allowed.as_object_mut().context("no object")?;
    digests.insert("boot_aggregate".to_owned(), serde_json::json!([aggregate]));
    let values = tpm.pcr(10)?;
    let pcr = values.iter().find(|value| value.bank == "sha256").context("no bank")?.hex.clone();
    let list = mount.control("integrity/ima/ascii_runtime_measurements")?;
    let question =
        Question { list, bank: "sha256".to_owned(), pcr, allowed: Some(allowed), ..Question::default() };
    Ok(keylime::ask(&question, dir)?.wrong)
}

#[test]
fn a_runtime_policy_of_the_tree_is_what_its_mount_is_held_against() -> Result<()> {
    need!(
        Need::Root,
        Need::Fuse,
        Need::Program("swtpm"),
        Need::Program("tar"),
        Need::Program("evmctl"),
        Need::Program("openssl"),
        Need::Keylime
    );
    let stand = tree()?;
    std::fs::hard_link(stand.source("a"), stand.source("linked"))?;
    std::os::unix::fs::symlink("a", stand.source("symbolic"))?;
    let dir = stand.scratch.dir("policy")?;
    let archive = dir.join("tree.tar");
    succeed(Command::new("tar").arg("-C").arg(stand.tree()).arg("-cf").arg(&archive).arg("."))?;
    let path = dir.join("from-tree.json");
    let policy = policy_of(stand.tree(), &path)?;
    let from_archive = policy_of(&archive, &dir.join("from-archive.json"))?;
    ensure!(policy == from_archive, "a tree and its archive differ:\n{policy}\n{from_archive}");
    let digests = policy.get("digests").and_then(Value::as_object).context("no digests")?;
    ensure!(
        digests.keys().eq(["/a", "/b_with_space", "/deep/er/c", "/line_break", "/linked"]),
        "{digests:?}"
    );
    let tpm = Swtpm::start(&stand.scratch)?;
    let mount = mount(&stand, &tpm)?;
    read(&mount, &NAMES)?;
    read(&mount, &["linked"])?;
    let evidence = dir.join("evidence");
    let key = quote(&mount, NONCE, &evidence)?;
    let path = path.to_str().context("not UTF-8")?;
    let (status, verdict) = judge(&evidence, NONCE, &["--ak", &key, "--runtime-policy", path])?;
    ensure!(status == 0, "{verdict}");
    let wrong = keylime_finds(&mount, &tpm, &policy, &dir)?;
    ensure!(wrong.is_empty(), "Keylime finds {wrong:?} wrong");
    // Content that is not the policy's.
    stand.file("a", "another content", 0o644)?;
    read(&mount, &["a"])?;
    quote(&mount, NONCE, &evidence)?;
    let (status, verdict) = judge(&evidence, NONCE, &["--ak", &key, "--runtime-policy", path])?;
    ensure!(status == 1 && reasons(&verdict) == ["wrong-digest"], "{verdict}");
    ensure!(!keylime_finds(&mount, &tpm, &policy, &dir)?.is_empty(), "Keylime finds nothing wrong");
    Ok(())
}

/// A manifest of the stand's tree, beside it.
fn manifest_of(stand: &Stand, name: &str, args: &[&str]) -> Result<String> {
    let to = stand.scratch.path().join(name).to_str().context("not UTF-8")?.to_owned();
    make_manifest(stand.tree(), &stand.keys, &[&["--image", "web", "--output", &to], args].concat())?;
    Ok(to)
}

#[test]
fn a_manifest_is_held_against_paths_and_content() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("evmctl"), Need::Program("openssl"));
    let stand = tree()?;
    let path = manifest_of(&stand, "signed", &[])?;
    let hashes = manifest_of(&stand, "hashed", &["--from", "hash"])?;
    let ring = stand.keys.certificate.to_str().context("not UTF-8")?.to_owned();
    let tpm = Swtpm::start(&stand.scratch)?;
    let evidence = stand.scratch.path().join("evidence");
    let mount = mount(&stand, &tpm)?;
    read(&mount, &NAMES)?;
    let key = quote(&mount, NONCE, &evidence)?;
    let ask = |manifest| judge(&evidence, NONCE, &["--ak", &key, "--manifest", manifest, "--keyring", &ring]);
    for manifest in [&path, &hashes] {
        let (status, verdict) = ask(manifest)?;
        ensure!(status == 0, "{manifest}: {verdict}");
    }
    // A file that is signed, under a name that is another's.
    std::fs::copy(stand.source("a"), stand.source("deep/er/c"))?;
    read(&mount, &["deep/er/c"])?;
    quote(&mount, NONCE, &evidence)?;
    for (manifest, reason) in [(&path, "bad-signature"), (&hashes, "wrong-digest")] {
        let (status, verdict) = ask(manifest)?;
        ensure!(status == 1 && reasons(&verdict) == [reason], "{manifest}: {verdict}");
        let offender = verdict.pointer("/entries/0/path").and_then(Value::as_str);
        ensure!(offender == Some("/deep/er/c"), "{verdict}");
    }
    // Another's manifest says nothing.
    let stranger = stand.stranger()?.certificate;
    let mut verify = Command::new(ours("imafs-attest")?);
    verify.arg("verify").arg(&evidence).args(["--nonce", NONCE, "--ak", &key, "--manifest", &path]);
    let out = output(verify.arg("--keyring").arg(stranger))?;
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(out.status.code() == Some(2) && words.contains("vouches"), "{}: {words}", out.status);
    Ok(())
}
