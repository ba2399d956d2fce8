//! The same tree, the same doors, three stores.

use anyhow::{Context, Result, ensure};
use integration::stand::{flip, label, remove_label, set_label};
use integration::store::{MANIFEST, Store, make_manifest, read};
use integration::{Door, Mount, Stand, need};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{ALL_LABELLED, ALL_SIGNED, RUN_SIGNED, two_signed_files};

/// A file, what was done to it, and why it is refused where a signature is asked for and where any label will do.
struct Row {
    name: &'static str,
    done: fn(&Stand, &str) -> Result<()>,
    signed: Option<&'static str>,
    labelled: Option<&'static str>,
}

const ROWS: [Row; 11] = [
    Row { name: "as-signed", done: |_, _| Ok(()), signed: None, labelled: None },
    Row { name: "dir/as-signed", done: |_, _| Ok(()), signed: None, labelled: None },
    Row {
        name: "hashed",
        done: |stand, name| stand.hash(name),
        signed: Some("IMA-signature-required"),
        labelled: None,
    },
    Row {
        name: "changed",
        done: |stand, name| flip(&stand.source(name), 3),
        signed: Some("invalid-signature"),
        labelled: Some("invalid-signature"),
    },
    Row {
        name: "hashed-and-changed",
        done: |stand, name| {
            stand.hash(name)?;
            flip(&stand.source(name), 3)
        },
        signed: Some("IMA-signature-required"),
        labelled: Some("invalid-hash"),
    },
    Row {
        name: "without-a-label",
        done: |stand, name| remove_label(&stand.source(name)),
        signed: Some("IMA-signature-required"),
        labelled: Some("missing-hash"),
    },
    Row {
        name: "with-the-label-of-another",
        done: |stand, name| set_label(&stand.source(name), &label(&stand.source("as-signed"))?),
        signed: Some("invalid-signature"),
        labelled: Some("invalid-signature"),
    },
    Row {
        name: "signed-by-a-stranger",
        done: |stand, name| stand.stranger()?.sign(&stand.source(name)),
        signed: Some("invalid-signature"),
        labelled: Some("invalid-signature"),
    },
    Row {
        name: "with-half-a-signature",
        done: |stand, name| {
            let whole = label(&stand.source(name))?;
            set_label(&stand.source(name), whole.get(..whole.len() / 2).unwrap_or_default())
        },
        signed: Some("invalid-signature"),
        labelled: Some("invalid-signature"),
    },
    Row {
        name: "with-half-a-hash",
        done: |stand, name| {
            stand.hash(name)?;
            set_label(&stand.source(name), label(&stand.source(name))?.get(..20).unwrap_or_default())
        },
        signed: Some("IMA-signature-required"),
        labelled: Some("invalid-hash"),
    },
    Row {
        name: "with-nonsense",
        done: |stand, name| set_label(&stand.source(name), &[2, 4, 5, 6]),
        signed: Some("unknown-ima-data"),
        labelled: Some("unknown-ima-data"),
    },
];

/// The tree of all rows, labels in `security.ima`.
fn tampered() -> Result<Stand> {
    let stand = Stand::new()?;
    for row in &ROWS {
        stand.file(row.name, format!("the file {}\n", row.name), 0o644)?;
    }
    stand.sign(".")?;
    for row in &ROWS {
        (row.done)(&stand, row.name).context(row.name)?;
    }
    Ok(stand)
}

fn through(mount: &Mount, door: Door, name: &str, cause: Option<&str>) -> Result<()> {
    match cause {
        None => mount.allowed(door, name),
        Some(cause) => mount.refused(door, name, cause),
    }
}

#[test]
fn the_three_stores_give_the_same_verdicts_on_the_same_tree() -> Result<()> {
    need!();
    for store in Store::ALL {
        let stand = tampered()?;
        store.take_over(stand.tree(), &stand.keys)?;
        let signed = store.of(stand.mount()?.policy(ALL_SIGNED)?).start()?;
        let labelled = store.of(stand.mount()?.policy(ALL_LABELLED)?).start()?;
        for row in &ROWS {
            let context = || format!("{store:?}, {}", row.name);
            // Twice: what is remembered gives what was found.
            for _ in 0..2 {
                through(&signed, Door::Open, row.name, row.signed).with_context(context)?;
                through(&labelled, Door::Open, row.name, row.labelled).with_context(context)?;
            }
        }
    }
    Ok(())
}

#[test]
fn programs_run_or_not_by_each_store() -> Result<()> {
    need!();
    for store in Store::ALL {
        let stand = Stand::new()?;
        for name in ["good", "bad"] {
            stand.host_file(name, "/bin/true")?;
        }
        stand.sign(".")?;
        flip(&stand.source("bad"), stand.source("bad").metadata()?.len() - 1)?;
        store.take_over(stand.tree(), &stand.keys)?;
        let mount = store.of(stand.mount()?.policy(RUN_SIGNED)?).start()?;
        mount.allowed(Door::Exec, "good").with_context(|| format!("{store:?}"))?;
        mount.refused(Door::Exec, "bad", "invalid-signature").with_context(|| format!("{store:?}"))?;
    }
    Ok(())
}

#[test]
fn the_measurement_lists_are_the_same_labels_included() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    let mut lists = Vec::new();
    for store in Store::ALL {
        store.take_over(stand.tree(), &stand.keys)?;
        let mount = store.of(stand.mount()?.policy("measure func=FILE_CHECK\n")?).start()?;
        mount.allowed(Door::Open, "good")?;
        lists.push(mount.measurements()?);
        mount.stop()?;
        // Back to where the next store takes them from.
        if store == Store::User {
            for name in ["good", "bad"] {
                let kept = read(&stand.source(name), integration::store::USER_LABEL)?.context("no label")?;
                set_label(&stand.source(name), &kept)?;
            }
        }
    }
    ensure!(lists.iter().all(|list| *list == lists[0]), "the lists differ: {lists:?}");
    let signed = lists[0].lines().find(|line| line.contains(" /good ")).context("not measured")?;
    ensure!(signed.contains(" 0302"), "no signature in {signed}");
    Ok(())
}

#[test]
fn no_store_falls_back_to_another() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    // Good labels in security.ima, and none in the store asked for, or for one file alone.
    let mount = Store::User.of(stand.mount()?.policy(ALL_SIGNED)?).start()?;
    mount.refused(Door::Open, "good", "IMA-signature-required")?;
    drop(mount);
    super::refused(Store::Manifest.of(stand.mount()?.policy(ALL_SIGNED)?), "cannot read manifest")?;
    std::fs::rename(stand.source("good"), stand.scratch.path().join("aside"))?;
    make_manifest(stand.tree(), &stand.keys, &["--image", "web"])?;
    std::fs::rename(stand.scratch.path().join("aside"), stand.source("good"))?;
    let mount = Store::Manifest.of(stand.mount()?.policy(ALL_SIGNED)?).start()?;
    mount.refused(Door::Open, "good", "IMA-signature-required")?;
    mount.allowed(Door::Open, "bad")?;
    drop(mount);
    // And the other way round: what only the other stores hold does not count where attributes are asked for.
    Store::User.take_over(stand.tree(), &stand.keys)?;
    let mount = Store::Xattr.of(stand.mount()?.policy(ALL_SIGNED)?).start()?;
    mount.refused(Door::Open, "bad", "IMA-signature-required")
}

#[test]
fn a_change_beneath_a_shared_mount_is_noticed_by_each_store() -> Result<()> {
    need!();
    for store in Store::ALL {
        let stand = two_signed_files()?;
        store.take_over(stand.tree(), &stand.keys)?;
        let mount = store.of(stand.mount()?.policy(ALL_SIGNED)?.args(["--cache", "shared"])).start()?;
        mount.allowed(Door::Open, "bad")?;
        flip(&stand.source("bad"), 3)?;
        mount.refused(Door::Open, "bad", "invalid-signature").with_context(|| format!("{store:?}"))?;
        mount.allowed(Door::Open, "good")?;
    }
    Ok(())
}

/// A tmpfs keeps whatever it is given; what matters is that no label is asked of it that it was not given.
#[test]
fn a_source_without_attributes_is_served_by_a_manifest() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    make_manifest(stand.tree(), &stand.keys, &["--image", "web"])?;
    let bare = stand.scratch.dir("bare")?;
    let mut mount = std::process::Command::new("mount");
    integration::process::succeed(mount.args(["-t", "ramfs", "ramfs"]).arg(&bare))?;
    for name in ["good", "bad", MANIFEST] {
        std::fs::copy(stand.source(name), bare.join(name)).context("cannot copy")?;
    }
    let kept = rustix::fs::lsetxattr(bare.join("bad"), "user.x", b"x", rustix::fs::XattrFlags::empty());
    ensure!(kept == Err(rustix::io::Errno::OPNOTSUPP), "this filesystem keeps attributes: {kept:?}");
    flip(&bare.join("bad"), 3)?;
    let builder = integration::MountBuilder::new(&stand.scratch, &bare)?.trust(&stand.keys.certificate);
    let mount = Store::Manifest.of(builder.policy(ALL_SIGNED)?).start()?;
    mount.allowed(Door::Open, "good")?;
    mount.refused(Door::Open, "bad", "invalid-signature")
}

#[test]
fn the_manifest_of_a_lower_layer_serves_a_stack() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    Store::Manifest.take_over(stand.tree(), &stand.keys)?;
    let (upper, work) = (stand.scratch.dir("upper")?, stand.scratch.dir("work")?);
    std::fs::write(upper.join("bad"), "from the upper layer").context("cannot write")?;
    let builder = integration::MountBuilder::new(&stand.scratch, "")?.trust(&stand.keys.certificate);
    let builder =
        builder.arg("--lower").arg(stand.tree()).arg("--upper").arg(&upper).arg("--work").arg(&work);
    let mount = Store::Manifest.of(builder.policy(ALL_SIGNED)?).start()?;
    mount.allowed(Door::Open, "good")?;
    mount.refused(Door::Open, "bad", "invalid-signature")
}

/// Reads a manifest by `docs/manifest.md`, and splits what is signed from the signature.
const READER: &str = r#"
import hashlib, struct, sys
data = open(sys.argv[1], "rb").read()
magic, version, k, n, b, serial = struct.unpack_from("<8sHHIQQ", data)
assert (magic, version) == (b"imafsMAN", 1)
at, last = 32 + k, b""
print(data[32:at].decode(), serial)
for _ in range(n):
    p, l = struct.unpack_from("<HH", data, at)
    path, label = data[at + 4:at + 4 + p], data[at + 4 + p:at + 4 + p + l]
    assert len(label) == l > 0 and path > last
    print(path.hex(), label.hex())
    at, last = at + 4 + p + l, path
assert at == b
kind, form, algo, keyid, s = struct.unpack_from(">BBB4sH", data, b)
assert (kind, form, algo) == (3, 2, 4) and len(data) == b + 9 + s
open(sys.argv[2], "wb").write(bytes(byte ^ 0xff for byte in hashlib.sha256(data[:b]).digest()))
open(sys.argv[3], "wb").write(data[b + 9:])
"#;

#[test]
fn another_reader_finds_the_same_in_a_manifest_and_openssl_verifies_it() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    let odd = std::ffi::OsStr::from_bytes(b"odd \xff\n name");
    std::fs::write(stand.source(odd), "odd")?;
    std::fs::hard_link(stand.source("good"), stand.source("also good"))?;
    stand.sign(".")?;
    let mut labels = BTreeMap::new();
    for name in ["good", "bad", "also good"] {
        labels.insert(format!("/{name}").into_bytes(), label(&stand.source(name))?);
    }
    labels.insert(b"/odd \xff\n name".to_vec(), label(&stand.source(odd))?);
    make_manifest(
        stand.tree(),
        &stand.keys,
        &["--from", "xattr", "--image", "team/web:1", "--serial", "77"],
    )?;
    let path = |name: &str| stand.scratch.path().join(name);
    let text = |path: &Path| path.to_str().map(str::to_owned).context("path is not text");
    let (digest, signature) = (path("digest"), path("signature"));
    let args = [text(&stand.source(MANIFEST))?, text(&digest)?, text(&signature)?];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let said = integration::python::script(stand.tree(), READER, &args)?;
    let mut lines = said.lines();
    ensure!(lines.next() == Some("team/web:1 77"), "{said}");
    let expected: Vec<_> =
        labels.iter().map(|(path, label)| format!("{} {}", hex::encode(path), hex::encode(label))).collect();
    ensure!(lines.eq(expected.iter().map(String::as_str)), "{said}\n{expected:?}");
    let public = path("public");
    let mut x509 = std::process::Command::new("openssl");
    x509.args(["x509", "-pubkey", "-noout", "-in"]).arg(&stand.keys.certificate);
    std::fs::write(&public, integration::process::succeed(&mut x509)?)?;
    let mut verify = std::process::Command::new("openssl");
    verify.args(["pkeyutl", "-verify", "-pubin", "-inkey"]).arg(&public).arg("-in").arg(&digest);
    let said = integration::process::succeed(verify.arg("-sigfile").arg(&signature))?;
    ensure!(said.contains("Verified Successfully"), "{said}");
    Ok(())
}
