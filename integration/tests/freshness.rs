//! What is served is what was checked: no stale page, no stale verdict, no side effect of a refused open.

use anyhow::{Context, Result, ensure};
use integration::stand::{label, set_label};
use integration::{Door, Mount, Stand, need, python};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Reading needs a signature; writing is not looked at.
const READ_SIGNED: &str = "appraise func=FILE_CHECK mask=MAY_READ appraise_type=imasig\n";
/// Every access of every file needs a signature.
const ALL_SIGNED: &str = "appraise appraise_type=imasig\n";

/// Sizes on both sides of what goes through the page cache by default (1 MiB): `(name, bytes)`.
const SIZES: [(&str, usize); 3] = [("small", 5_000), ("at-the-limit", 1 << 20), ("large", 3_000_000)];

/// A stand with a signed file of each size, filled with `fill`.
fn filled(fill: u8) -> Result<Stand> {
    let stand = Stand::new()?;
    for (name, size) in SIZES {
        stand.file(name, vec![fill; size], 0o644)?;
    }
    stand.sign(".")?;
    Ok(stand)
}

/// The bytes that the mount serves are all `fill`.
fn serves(mount: &Mount, name: &str, fill: u8) -> Result<()> {
    let content = std::fs::read(mount.path(name)).with_context(|| format!("cannot read {name}"))?;
    let other = content.iter().position(|byte| *byte != fill);
    ensure!(other.is_none(), "{name}: byte {other:?} is not {fill}");
    Ok(())
}

/// Overwrites a file in place on the host, signs it anew and puts its times back.
fn replace_in_place(stand: &Stand, name: &str, fill: u8) -> Result<()> {
    let path = stand.source(name);
    let file = File::options().write(true).open(&path)?;
    let before = file.metadata()?;
    file.write_all_at(&vec![fill; usize::try_from(before.len())?], 0)?;
    file.set_times(std::fs::FileTimes::new().set_modified(before.modified()?))?;
    stand.keys.sign(&path)
}

#[test]
fn a_shared_mount_serves_the_content_it_checked_and_no_old_page() -> Result<()> {
    need!();
    let stand = filled(b'a')?;
    let mount = stand.mount()?.policy(READ_SIGNED)?.args(["--cache", "shared"]).start()?;
    for (name, _) in SIZES {
        for fill in [b'a', b'b', b'c'] {
            replace_in_place(&stand, name, fill)?;
            serves(&mount, name, fill)?;
        }
    }
    Ok(())
}

#[test]
fn content_written_through_the_mount_is_served_back_at_once() -> Result<()> {
    need!();
    let stand = filled(b'a')?;
    let mount = stand.mount()?.policy("measure\n")?.start()?;
    for (name, size) in SIZES {
        serves(&mount, name, b'a')?;
        for fill in [b'b', b'c'] {
            let writer = File::options().write(true).open(mount.path(name))?;
            writer.write_all_at(&vec![fill; size], 0)?;
            serves(&mount, name, fill)?;
            drop(writer);
            serves(&mount, name, fill)?;
            ensure!(
                std::fs::read(stand.source(name))? == vec![fill; size],
                "{name}: the source holds other bytes"
            );
        }
    }
    Ok(())
}

#[test]
fn a_label_changed_on_the_host_is_noticed_by_a_shared_mount() -> Result<()> {
    need!();
    let stand = filled(b'a')?;
    let good = label(&stand.source("small"))?;
    let other = label(&stand.source("large"))?;
    let mount = stand.mount()?.policy(READ_SIGNED)?.args(["--cache", "shared"]).start()?;
    for _ in 0..3 {
        mount.allowed(Door::Open, "small")?;
        set_label(&stand.source("small"), &other)?;
        mount.refused(Door::Open, "small", "invalid-signature")?;
        set_label(&stand.source("small"), &good)?;
    }
    Ok(())
}

/// Opens with these flags; it has to be refused, and the source has to keep its size.
fn refused_and_intact(mount: &Mount, source: &Path, name: &str, flags: OFlags) -> Result<()> {
    let size = source.metadata()?.len();
    let opened = rustix::fs::open(mount.path(name), flags, Mode::from_raw_mode(0o600)).err();
    ensure!(opened == Some(Errno::ACCESS), "{name} with {flags:?} says {opened:?}");
    ensure!(source.metadata()?.len() == size, "{name} with {flags:?} was refused and truncated");
    Ok(())
}

#[test]
fn a_refused_open_truncates_nothing() -> Result<()> {
    need!();
    let stand = filled(b'a')?;
    stand.file("unsigned", "content\n", 0o644)?;
    let mount = stand.mount()?.policy(ALL_SIGNED)?.start()?;
    for name in ["small", "large", "unsigned"] {
        let truncating = [OFlags::WRONLY, OFlags::RDWR, OFlags::WRONLY | OFlags::CREATE];
        for flags in truncating {
            refused_and_intact(&mount, &stand.source(name), name, flags | OFlags::TRUNC)?;
        }
    }
    Ok(())
}

/// The store through a map of a file that passthrough serves: the daemon sees neither the store nor a time move.
#[test]
fn a_store_through_a_map_of_a_large_file_hides_nothing() -> Result<()> {
    need!();
    const STORE: &str = r#"
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
m = mmap.mmap(fd, 0)
os.close(fd)

def seen():
    try:
        os.close(os.open(sys.argv[1], os.O_RDONLY))
        return "open"
    except PermissionError:
        return "shut"

said = []
for byte in (b"a", b"X", b"a", b"X"):
    m[2000000:2000001] = byte
    said.append(seen())
print(*said)
"#;
    let stand = filled(b'a')?;
    let mount = stand.mount()?.policy(READ_SIGNED)?.start()?;
    mount.allowed(Door::Open, "large")?;
    let path = mount.path("large");
    let said = python::script(mount.target(), STORE, &[path.to_str().context("path is not text")?])?;
    // Whatever the map holds at the moment, its owner could change it after the check.
    ensure!(said.trim() == "shut shut shut shut", "good, bad, good, bad: {said}");
    mount.refused(Door::Open, "large", "invalid-signature")
}

#[test]
fn a_file_exchanged_for_another_takes_its_own_verdict_along() -> Result<()> {
    need!();
    let stand = filled(b'a')?;
    stand.file("unsigned", "content\n", 0o644)?;
    let mount = stand.mount()?.policy(READ_SIGNED)?.start()?;
    for _ in 0..3 {
        mount.allowed(Door::Open, "small")?;
        mount.refused(Door::Open, "unsigned", "IMA-signature-required")?;
        exchange(&mount)?;
        mount.refused(Door::Open, "small", "IMA-signature-required")?;
        mount.allowed(Door::Open, "unsigned")?;
        exchange(&mount)?;
    }
    Ok(())
}

fn exchange(mount: &Mount) -> Result<()> {
    let (cwd, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
    rustix::fs::renameat_with(cwd, mount.path("small"), cwd, mount.path("unsigned"), flags)
        .context("cannot exchange")
}

#[test]
fn an_unlinked_file_that_is_still_open_is_checked_when_reopened() -> Result<()> {
    need!();
    let stand = filled(b'a')?;
    let mount = stand.mount()?.policy(READ_SIGNED)?.start()?;
    let held = rustix::fs::open(mount.path("small"), OFlags::PATH, Mode::empty())?;
    std::fs::remove_file(mount.path("small"))?;
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    std::fs::read(&again).context("the good content is refused")?;
    File::options().write(true).open(&again)?.write_all_at(b"X", 0)?;
    let seen = std::fs::read(&again).err().as_ref().and_then(Errno::from_io_error);
    ensure!(seen == Some(Errno::ACCESS), "the changed content says {seen:?}");
    Ok(())
}

/// While a writer has a small file open, what it stores in a shared map may wait in the page cache of the mount: the
/// backing file still holds the good byte that would pass, the page the bad one that would be read. So nobody is let
/// in before the writer has gone, and no writer while somebody reads.
#[test]
fn a_store_that_waits_in_the_page_cache_is_not_served_unchecked() -> Result<()> {
    need!();
    const STORE: &str = r#"
import mmap, os, sys
path = sys.argv[1]

def opened(flags):
    try:
        return os.open(path, flags)
    except PermissionError:
        return None

def served():
    fd = opened(os.O_RDONLY)
    if fd is None:
        return "shut"
    byte = os.pread(fd, 1, 100)
    os.close(fd)
    return byte.decode()

first = os.open(path, os.O_RDONLY)
os.read(first, 10)
said = ["refused" if opened(os.O_RDWR) is None else "writer"]
os.close(first)
fd = os.open(path, os.O_RDWR)
m = mmap.mmap(fd, 0)
if sys.argv[2] == "closed":
    os.close(fd)
for byte in (b"a", b"X", b"a"):
    m[100:101] = byte
    said.append(served())
m.close()
if sys.argv[2] == "open":
    os.close(fd)
said.append(served())
print(*said)
"#;
    for (name, _) in SIZES {
        for descriptor in ["open", "closed"] {
            let stand = filled(b'a')?;
            let mount = stand.mount()?.policy(READ_SIGNED)?.start()?;
            let path = mount.path(name);
            let path = path.to_str().context("path is not text")?;
            let said = python::script(mount.target(), STORE, &[path, descriptor])?;
            ensure!(said.trim() == "refused shut shut shut a", "{name}, {descriptor}: {said}");
        }
    }
    Ok(())
}
