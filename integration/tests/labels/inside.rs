//! What the container can do with labels that are not in `security.ima`.

use anyhow::{Context, Result, ensure};
use integration::stand::{label, remove_label, set_label};
use integration::store::{MANIFEST, Store, USER_LABEL, make_manifest, read};
use integration::{Door, Mount, need};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::{ALL_LABELLED, ALL_SIGNED, READ_SIGNED, errno, two_signed_files};

fn names(path: &Path) -> Result<Vec<String>> {
    let mut list = vec![0_u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut list[..]).context("cannot list attributes")?;
    list.truncate(length);
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

fn write_to(mount: &Mount, name: &str) -> Result<()> {
    let mut file = OpenOptions::new().append(true).open(mount.path(name)).context("cannot open to write")?;
    file.write_all(b"more\n").context("cannot write")
}

#[test]
fn a_label_is_seen_as_security_ima_whatever_holds_it() -> Result<()> {
    need!();
    for store in Store::ALL {
        let stand = two_signed_files()?;
        remove_label(&stand.source("bad"))?;
        let signature = label(&stand.source("good"))?;
        store.take_over(stand.tree(), &stand.keys)?;
        let mount = store.of(stand.mount()?.policy(ALL_SIGNED)?).start()?;
        ensure!(label(&mount.path("good"))? == signature, "{store:?} shows another label");
        ensure!(
            names(&mount.path("good"))? == ["security.ima"],
            "{store:?}: {:?}",
            names(&mount.path("good"))?
        );
        ensure!(
            read(&mount.path("bad"), "security.ima")?.is_none(),
            "{store:?} shows a label of an unlabelled file"
        );
        ensure!(names(&mount.path("bad"))?.is_empty(), "{store:?}");
        ensure!(read(&mount.path("good"), USER_LABEL)?.is_none(), "{store:?} shows how it keeps labels");
    }
    Ok(())
}

#[test]
fn the_labels_of_other_stores_are_not_shown() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    let good = label(&stand.source("good"))?;
    rustix::fs::lsetxattr(stand.source("bad"), USER_LABEL, &good, XattrFlags::empty())?;
    remove_label(&stand.source("bad"))?;
    let by_user = Store::User.of(stand.mount()?.policy(ALL_SIGNED)?).start()?;
    ensure!(label(&by_user.path("bad"))? == good);
    ensure!(
        read(&by_user.path("good"), "security.ima")?.is_none() && names(&by_user.path("good"))?.is_empty()
    );
    let by_ima = Store::Xattr.of(stand.mount()?.policy(ALL_SIGNED)?).start()?;
    ensure!(label(&by_ima.path("good"))? == good);
    ensure!(read(&by_ima.path("bad"), USER_LABEL)?.is_none() && names(&by_ima.path("bad"))?.is_empty());
    Ok(())
}

#[test]
fn what_could_become_a_label_is_not_set_inside() -> Result<()> {
    need!();
    for store in Store::ALL {
        let stand = two_signed_files()?;
        store.take_over(stand.tree(), &stand.keys)?;
        let mount = store.of(stand.mount()?.policy(READ_SIGNED)?).start()?;
        let path = mount.path("good");
        let raw = |name: &str| rustix::fs::lsetxattr(&path, name, &[4_u8, 4, 1], XattrFlags::empty());
        ensure!(raw(USER_LABEL) == Err(Errno::PERM), "{store:?}: {:?}", raw(USER_LABEL));
        ensure!(raw("user.imafs.other") == Err(Errno::PERM), "{store:?}");
        ensure!(rustix::fs::lremovexattr(&path, USER_LABEL) == Err(Errno::PERM), "{store:?}");
        ensure!(raw("user.other") == Ok(()), "{store:?}: other attributes are nobody's business");
        mount.allowed(Door::Open, "good")?;
    }
    Ok(())
}

#[test]
fn a_label_set_inside_goes_to_the_store_or_nowhere() -> Result<()> {
    need!();
    for store in Store::ALL {
        let stand = two_signed_files()?;
        let (good, bad) = (label(&stand.source("good"))?, label(&stand.source("bad"))?);
        store.take_over(stand.tree(), &stand.keys)?;
        let mount = store.of(stand.mount()?.policy(READ_SIGNED)?).start()?;
        mount.allowed(Door::Open, "good")?;
        let set = rustix::fs::lsetxattr(mount.path("good"), "security.ima", &bad, XattrFlags::empty());
        let kept = match store {
            Store::Xattr => "security.ima",
            Store::User => USER_LABEL,
            Store::Manifest => {
                ensure!(set == Err(Errno::OPNOTSUPP), "{set:?}");
                ensure!(read(&stand.source("good"), "security.ima")?.is_none(), "it went past the manifest");
                ensure!(remove_label(&mount.path("good")).is_err(), "a label of a manifest was removed");
                mount.allowed(Door::Open, "good")?;
                continue;
            }
        };
        ensure!(set == Ok(()), "{store:?}: {set:?}");
        ensure!(read(&stand.source("good"), kept)?.as_ref() == Some(&bad), "{store:?}");
        mount.refused(Door::Open, "good", "invalid-signature")?;
        set_label(&mount.path("good"), &good)?;
        mount.allowed(Door::Open, "good")?;
        remove_label(&mount.path("good"))?;
        ensure!(read(&stand.source("good"), kept)?.is_none(), "{store:?}");
        mount.refused(Door::Open, "good", "IMA-signature-required")?;
        let nonsense = rustix::fs::lsetxattr(mount.path("good"), "security.ima", &[9], XattrFlags::empty());
        ensure!(nonsense == Err(Errno::INVAL), "{store:?}: {nonsense:?}");
    }
    Ok(())
}

#[test]
fn a_hash_label_is_renewed_in_the_store_that_takes_labels() -> Result<()> {
    need!();
    for store in Store::ALL {
        let stand = two_signed_files()?;
        stand.hash(".")?;
        store.take_over(stand.tree(), &stand.keys)?;
        let mount = store.of(stand.mount()?.policy(ALL_LABELLED)?).start()?;
        mount.allowed(Door::Open, "good")?;
        write_to(&mount, "bad")?;
        match store {
            Store::Xattr | Store::User => mount.allowed(Door::Open, "bad")?,
            Store::Manifest => mount.refused(Door::Open, "bad", "invalid-hash")?,
        }
        // The same for what is made inside.
        std::fs::write(mount.path("new"), "new").context("cannot make a file")?;
        match store {
            Store::Xattr | Store::User => mount.allowed(Door::Open, "new")?,
            Store::Manifest => mount.refused(Door::Open, "new", "missing-hash")?,
        }
        mount.allowed(Door::Open, "good")?;
    }
    Ok(())
}

/// With a manifest nothing will renew the label, so a verdict does not stand while somebody writes.
#[test]
fn a_writer_of_a_file_with_a_hash_in_a_manifest_hides_nothing() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    stand.hash(".")?;
    Store::Manifest.take_over(stand.tree(), &stand.keys)?;
    let mount = Store::Manifest.of(stand.mount()?.policy(ALL_LABELLED)?).start()?;
    mount.allowed(Door::Open, "bad")?;
    let mut writer = OpenOptions::new().append(true).open(mount.path("bad")).context("cannot open")?;
    writer.write_all(b"x").context("cannot write")?;
    mount.refused(Door::Open, "bad", "invalid-hash")?;
    drop(writer);
    mount.refused(Door::Open, "bad", "invalid-hash")?;
    mount.allowed(Door::Open, "good")
}

#[test]
fn a_label_in_a_manifest_stays_with_its_path() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    stand.file("dir/inner", "inner\n", 0o644)?;
    make_manifest(stand.tree(), &stand.keys, &["--image", "web"])?;
    let mount = Store::Manifest.of(stand.mount()?.policy(READ_SIGNED)?).start()?;
    for name in ["good", "bad", "dir/inner"] {
        mount.allowed(Door::Open, name)?;
    }
    std::fs::rename(mount.path("good"), mount.path("moved"))?;
    mount.refused(Door::Open, "moved", "IMA-signature-required")?;
    // Other content in its place is judged by the label of the place.
    std::fs::rename(mount.path("bad"), mount.path("good"))?;
    mount.refused(Door::Open, "good", "invalid-signature")?;
    std::fs::rename(mount.path("moved"), mount.path("good"))?;
    mount.allowed(Door::Open, "good")?;
    std::fs::rename(mount.path("dir"), mount.path("other"))?;
    mount.refused(Door::Open, "other/inner", "IMA-signature-required")?;
    std::fs::rename(mount.path("other"), mount.path("dir"))?;
    mount.allowed(Door::Open, "dir/inner")?;
    // A name that was not in the image has no label, however good the other one's is.
    std::fs::hard_link(mount.path("good"), mount.path("linked"))?;
    for _ in 0..2 {
        mount.allowed(Door::Open, "good")?;
        mount.refused(Door::Open, "linked", "IMA-signature-required")?;
    }
    Ok(())
}

#[test]
fn both_names_of_a_file_in_the_image_have_its_label() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    std::fs::hard_link(stand.source("good"), stand.source("also-good"))?;
    Store::Manifest.take_over(stand.tree(), &stand.keys)?;
    let mount = Store::Manifest.of(stand.mount()?.policy(ALL_SIGNED)?).start()?;
    mount.allowed(Door::Open, "good")?;
    mount.allowed(Door::Open, "also-good")?;
    std::fs::hard_link(stand.source("bad"), stand.source("also-bad"))?;
    mount.refused(Door::Open, "also-bad", "IMA-signature-required")
}

#[test]
fn content_that_was_served_for_its_label_in_a_manifest_is_not_written_by_another_name() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    make_manifest(stand.tree(), &stand.keys, &["--image", "web"])?;
    let mount = Store::Manifest.of(stand.mount()?.policy(READ_SIGNED)?).start()?;
    std::fs::hard_link(mount.path("good"), mount.path("linked"))?;
    let reader = File::open(mount.path("good")).context("it is good")?;
    let write = || OpenOptions::new().append(true).open(mount.path("linked"));
    ensure!(errno(write())? == Errno::ACCESS);
    drop(reader);
    drop(write().context("nobody reads it any more")?);
    mount.allowed(Door::Open, "good")?;
    write_to(&mount, "linked")?;
    mount.refused(Door::Open, "good", "invalid-signature")
}

#[test]
fn the_manifest_is_not_there_inside() -> Result<()> {
    need!();
    let stand = two_signed_files()?;
    make_manifest(stand.tree(), &stand.keys, &["--image", "web"])?;
    for store in [Store::Manifest, Store::Xattr] {
        let mount = store.of(stand.mount()?.policy(READ_SIGNED)?.args(["--cache", "shared"])).start()?;
        let place = mount.path(MANIFEST);
        let listed = std::fs::read_dir(mount.target())?.collect::<std::io::Result<Vec<_>>>()?;
        ensure!(listed.iter().all(|entry| entry.file_name() != MANIFEST), "{listed:?}");
        ensure!(errno(File::open(&place))? == Errno::NOENT);
        ensure!(errno(std::fs::metadata(&place))? == Errno::NOENT);
        ensure!(errno(File::create(&place))? == Errno::PERM);
        ensure!(errno(std::fs::create_dir(&place))? == Errno::PERM);
        ensure!(errno(std::os::unix::fs::symlink("x", &place))? == Errno::PERM);
        ensure!(errno(std::fs::rename(mount.path("bad"), &place))? == Errno::PERM);
        ensure!(errno(std::fs::hard_link(mount.path("bad"), &place))? == Errno::PERM);
        ensure!(stand.source(MANIFEST).is_file(), "it is where it was");
        // Below the root the name is one like any other.
        std::fs::create_dir_all(mount.path("below"))?;
        std::fs::write(mount.path("below").join(MANIFEST), "x")?;
    }
    Ok(())
}

#[test]
fn the_status_names_the_store_and_the_manifest() -> Result<()> {
    need!();
    for store in Store::ALL {
        let stand = two_signed_files()?;
        store.take_over(stand.tree(), &stand.keys)?;
        let mount = store.of(stand.mount()?.policy(ALL_SIGNED)?).start()?;
        let mut status = mount.imafs(&["status", "--json"])?;
        let said = integration::process::succeed(status.arg(mount.target()))?;
        let facts: serde_json::Value = serde_json::from_str(&said).context("no JSON")?;
        ensure!(facts["labels"] == store.name(), "{said}");
        let manifest = &facts["manifest"];
        ensure!(manifest.is_null() == (store != Store::Manifest), "{said}");
        if store == Store::Manifest {
            ensure!(
                manifest["image"] == "web" && manifest["labels"] == 2 && manifest["void"].is_null(),
                "{said}"
            );
            let sum = integration::process::succeed(
                std::process::Command::new("sha256sum").arg(stand.source(MANIFEST)),
            )?;
            ensure!(sum.split(' ').next() == manifest["sha256"].as_str(), "{said}");
        }
    }
    Ok(())
}
