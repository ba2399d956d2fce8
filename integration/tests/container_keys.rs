//! Keys that the container adds to its own ring, KEY_CHECK, and the mode.

use anyhow::{Context, Result, ensure};
use integration::loader::{Loaded, alone, load, open_to_write, write_once};
use integration::process::{output, repository, succeed};
use integration::{Door, Mount, Need, Stand, need};
use rustix::io::Errno;
use std::path::Path;
use std::process::Command;

/// What a kernel lists when the certificate `ec.pem` is added to `.ima`; `spec` vectors computed by hand, see
/// `crates/appraise/tests/vectors/README.md` for the certificate.
const EC_ADDED: &str = "10 7973765dfa5a43db8733f7c48d2edd756ae0228d ima-buf \
    sha256:868b3b505c348601a298f893e4ef14d824b6b2beb31963aea31871294218c4b4 .ima 30820180";

fn der(stand: &Stand, pem: &Path) -> Result<Vec<u8>> {
    let out = stand.scratch.path().join("key.der");
    let mut convert = Command::new("openssl");
    convert.args(["x509", "-outform", "DER", "-in"]).arg(pem).arg("-out").arg(&out);
    succeed(&mut convert)?;
    std::fs::read(out).context("openssl made no certificate")
}

fn ring(mount: &Mount) -> std::path::PathBuf {
    mount.path(".imafs/keys/.ima")
}

fn count(mount: &Mount) -> Result<u64> {
    mount.control_number("ima/runtime_measurements_count")
}

#[test]
fn a_key_is_measured_as_a_kernel_measures_it_once() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("openssl"));
    let _alone = alone();
    let stand = Stand::new()?;
    let pem = repository().join("crates/appraise/tests/vectors/ec.pem");
    let key = der(&stand, &pem)?;
    let policy = "measure func=KEY_CHECK keyrings=.ima|_ima uid=0\ndont_measure func=KEY_CHECK\n";
    let own = ["--control", "rw", "--policy-owner", "container"];
    let mount = stand.mount()?.policy(policy)?.trust(&pem).args(own).start()?;
    let list = mount.measurements()?;
    ensure!(list.lines().count() == 3, "the two keys of the mount are not measured:\n{list}");
    ensure!(
        list.lines().skip(1).all(|line| line.contains(" ima-buf sha256:") && line.contains(" _ima 30")),
        "{list}"
    );
    ensure!(write_once(&ring(&mount), &key) == Ok(key.len()), "the key is refused");
    let list = mount.measurements()?;
    let last = list.lines().last().context("an empty list")?;
    ensure!(last.starts_with(EC_ADDED), "{last}");
    ensure!(write_once(&ring(&mount), &key) == Ok(key.len()), "the key is refused the second time");
    ensure!(count(&mount)? == 4, "the same key is measured twice");
    let shown = String::from_utf8(mount.control("keys/.ima")?)?;
    ensure!(shown.lines().count() == 1 && shown.starts_with("d2d8a49d "), "{shown}");
    ensure!(
        mount.control("keys/_ima")?.iter().filter(|byte| **byte == b'\n').count() == 2,
        "the host's ring grew"
    );
    Ok(())
}

#[test]
fn keys_that_came_before_the_containers_rules_are_measured_with_them() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("openssl"));
    let _alone = alone();
    let stand = Stand::new()?;
    let key = der(&stand, &stand.keys.certificate)?;
    let own = ["--control", "rw", "--policy-owner", "container"];
    let mount = stand.mount()?.policy("dont_measure\n")?.args(own).start()?;
    ensure!(write_once(&ring(&mount), &key) == Ok(key.len()), "the key is refused");
    ensure!(count(&mount)? == 1, "a key is measured that no rule names");
    let rules = b"measure func=KEY_CHECK keyrings=.ima\n";
    ensure!(load(&mount.path(".imafs/ima/policy"), rules)? == Loaded::Whole, "the load is refused");
    let came = integration::process::until(std::time::Duration::from_secs(5), || Ok(count(&mount)? == 2))?;
    ensure!(came, "the key on the ring is not measured: {}", mount.measurements()?);
    ensure!(mount.measurements()?.contains(" ima-buf "), "{}", mount.measurements()?);
    Ok(())
}

#[test]
fn a_key_that_nobody_vouches_for_is_refused_and_not_measured() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("openssl"));
    let _alone = alone();
    let stand = Stand::new()?;
    let own = ["--control", "rw", "--policy-owner", "container"];
    let mount = stand.mount()?.policy("measure func=KEY_CHECK\n")?.args(own).start()?;
    let before = count(&mount)?;
    let good = der(&stand, &stand.keys.certificate)?;
    let stranger = der(&stand, &stand.stranger()?.certificate)?;
    let mut broken = good.clone();
    *broken.last_mut().context("an empty certificate")? ^= 1;
    let pem = std::fs::read(&stand.keys.certificate)?;
    let trailing = [good.as_slice(), b"x"].concat();
    for (what, bytes, errno) in [
        ("a stranger's", stranger.as_slice(), Errno::NOKEY),
        ("one with a wrong signature of its own", &broken, Errno::KEYREJECTED),
        ("one in PEM", &pem, Errno::BADMSG),
        ("half of one", good.split_at(good.len() / 2).0, Errno::BADMSG),
        ("one with something behind it", &trailing, Errno::BADMSG),
        ("nonsense", b"nonsense", Errno::BADMSG),
        ("a megabyte", &vec![0x30; 1 << 20], Errno::BADMSG),
    ] {
        ensure!(
            write_once(&ring(&mount), bytes) == Err(errno),
            "{what}: {:?}",
            write_once(&ring(&mount), bytes)
        );
    }
    ensure!(mount.control("keys/.ima")?.is_empty(), "something is on the ring");
    ensure!(count(&mount)? == before, "a refused key is measured");
    let host = open_to_write(&mount.path(".imafs/keys/_ima")).err();
    ensure!(host == Some(Errno::ACCESS), "the host's ring can be written: {host:?}");
    ensure!(write_once(&ring(&mount), &good) == Ok(good.len()), "a good key is refused");
    Ok(())
}

#[test]
fn a_blacklisted_key_is_refused_whoever_vouches_for_it() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("openssl"));
    let _alone = alone();
    let stand = Stand::new()?;
    let key = der(&stand, &stand.keys.certificate)?;
    // The digest of what was signed: the first element of the certificate.
    let file = stand.scratch.file("key", &key)?;
    let tbs = stand.scratch.path().join("tbs");
    let mut cut = Command::new("openssl");
    cut.args(["asn1parse", "-inform", "DER", "-strparse", "4", "-noout", "-in"])
        .arg(&file)
        .arg("-out")
        .arg(&tbs);
    succeed(&mut cut)?;
    let digest = succeed(Command::new("openssl").args(["dgst", "-sha256", "-r"]).arg(&tbs))?;
    let digest = digest.split(' ').next().context("no digest")?;
    let blacklist = stand.scratch.file("blacklist", format!("tbs:{digest}\n"))?;
    let mount = stand.mount()?.policy("measure func=KEY_CHECK\n")?;
    let own = ["--control", "rw", "--policy-owner", "container", "--blacklist"];
    let mount = mount.args(own).arg(&blacklist).start()?;
    ensure!(write_once(&ring(&mount), &key) == Err(Errno::KEYREJECTED), "a revoked key is taken");
    ensure!(mount.control("keys/.ima")?.is_empty(), "it is on the ring");
    Ok(())
}

/// Each layer is judged by its own ring, and a key that is added ends what was remembered.
#[test]
fn the_containers_rules_know_the_containers_keys_alone() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("openssl"));
    let _alone = alone();
    let stand = Stand::new()?;
    stand.file("signed", "content\n", 0o644)?;
    stand.sign("signed")?;
    let own = ["--control", "rw", "--policy-owner", "container"];
    let host = "appraise func=FILE_CHECK mask=MAY_READ appraise_type=imasig\n";
    let mount = stand.mount()?.policy(host)?.args(own).start()?;
    mount.allowed(Door::Open, "signed")?;
    ensure!(load(&mount.path(".imafs/ima/policy"), host.as_bytes())? == Loaded::Whole, "the load is refused");
    mount.refused(Door::Open, "signed", "invalid-signature")?;
    let key = der(&stand, &stand.keys.certificate)?;
    ensure!(write_once(&ring(&mount), &key) == Ok(key.len()), "the key is refused");
    mount.allowed(Door::Open, "signed")
}

#[test]
fn the_container_tightens_the_mode_and_only_the_host_weakens_it() -> Result<()> {
    need!();
    let _alone = alone();
    let stand = Stand::new()?;
    stand.file("unsigned", "content\n", 0o644)?;
    let policy = "appraise func=FILE_CHECK appraise_type=imasig\n";
    let mount = stand.mount()?.policy(policy)?.args(["--control", "rw", "--appraise", "log"]).start()?;
    let mode = mount.path(".imafs/mode");
    ensure!(std::fs::read(mount.path("unsigned")).is_ok(), "log refuses");
    for weaker in ["off", "fix"] {
        ensure!(write_once(&mode, weaker.as_bytes()) == Err(Errno::PERM), "{weaker} is taken");
    }
    ensure!(write_once(&mode, b"enforce\n") == Ok(8), "enforce is refused");
    mount.refused(Door::Open, "unsigned", "IMA-signature-required")?;
    ensure!(write_once(&mode, b"log\n") == Err(Errno::PERM), "the container weakens the mode");
    mount.refused(Door::Open, "unsigned", "IMA-signature-required")?;
    let target = mount.target().to_string_lossy().into_owned();
    ensure!(succeed(&mut mount.imafs(&["mode", &target])?)? == "enforce\n", "the host sees another mode");
    ensure!(succeed(&mut mount.imafs(&["mode", &target, "log"])?)? == "log\n", "the host cannot weaken it");
    ensure!(std::fs::read(mount.path("unsigned")).is_ok(), "log refuses");
    ensure!(mount.control("mode")? == b"log\n", "the container sees another mode");
    let out = output(&mut mount.imafs(&["mode", &target, "lax"])?)?;
    ensure!(out.status.code() == Some(2), "a mode that does not exist: {out:?}");
    ensure!(mount.stop()?.success(), "imafs failed");
    let mount = stand.mount()?.policy(policy)?.args(["--control", "ro", "--appraise", "log"]).start()?;
    let refused = open_to_write(&mount.path(".imafs/mode")).err();
    ensure!(
        refused == Some(Errno::ACCESS),
        "it can be written where reading is all that is allowed: {refused:?}"
    );
    Ok(())
}

#[test]
fn additions_to_the_list_are_recorded_where_that_is_asked_for() -> Result<()> {
    need!();
    let _alone = alone();
    let stand = Stand::new()?;
    stand.file("a", "content\n", 0o644)?;
    let policy = "measure func=FILE_CHECK mask=MAY_READ\n";
    let added = |record: &integration::Record| record.text("op") == "add_template_measure";
    for (args, expected) in [(&["--integrity-audit"][..], 1), (&[], 0)] {
        let mount = stand.mount()?.policy(policy)?.args(args).start()?;
        std::fs::read(mount.path("a"))?;
        let found = mount.records().since(mount.records().beginning(), expected, added)?;
        ensure!(found.len() == expected, "{args:?}: {found:?}");
        for record in found {
            let texts = (record.text("cause"), record.text("name"), record.text("res"));
            ensure!(texts == ("hash_added".to_owned(), "/a".to_owned(), "1".to_owned()), "{texts:?}");
        }
    }
    Ok(())
}
