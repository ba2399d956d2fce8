//! The journal of a mount: full disks, damage, who may use it, and what is asked of it.

use anyhow::{Context, Result, ensure};
use integration::journal::Journal;
use integration::process::{output, succeed};
use integration::scratch::detach;
use integration::stand::flip;
use integration::{Door, Mount, MountBuilder, Need, Stand, need};
use rustix::io::Errno;
use rustix::process::Signal;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const POLICY: &str = "measure func=FILE_CHECK mask=MAY_READ\n";

fn with_journal(stand: &Stand, journal: &Path) -> Result<MountBuilder> {
    let builder = stand.mount()?.policy(POLICY)?.args(["--ns-id", "journaled", "--journal"]);
    Ok(builder.arg(journal))
}

fn stand(files: usize) -> Result<Stand> {
    let stand = Stand::new()?;
    for number in 0..files {
        stand.file(&format!("file-{number}"), format!("content {number}\n"), 0o644)?;
    }
    Ok(stand)
}

fn read(mount: &Mount, number: usize) -> std::result::Result<(), Option<Errno>> {
    let read = std::fs::read(mount.path(format!("file-{number}")));
    read.map(drop).map_err(|error| Errno::from_io_error(&error))
}

fn killed(mount: Mount) -> Result<()> {
    let target = mount.target().to_owned();
    mount.signal(Signal::KILL)?;
    mount.wait()?;
    detach(&target);
    Ok(())
}

/// A small filesystem of its own, unmounted on drop.
struct Disk(PathBuf);

impl Disk {
    fn new(stand: &Stand) -> Result<Self> {
        let image = stand.scratch.path().join("disk");
        let at = stand.scratch.dir("small")?;
        std::fs::File::create(&image).and_then(|file| file.set_len(4 << 20)).context("cannot make a disk")?;
        succeed(Command::new("mkfs.ext4").args(["-q", "-O", "^has_journal", "-m", "0"]).arg(&image))?;
        succeed(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at))?;
        Ok(Self(at))
    }

    /// Fills it to the last byte, and gives the file that does.
    fn fill(&self) -> Result<PathBuf> {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).context("cannot make the filler")?;
        for size in [64 << 10, 4096, 512, 1] {
            let piece = vec![0_u8; size];
            while file.write_all(&piece).and_then(|()| file.sync_data()).is_ok() {}
        }
        Ok(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        detach(&self.0);
    }
}

#[test]
fn a_full_disk_denies_and_when_there_is_space_again_nothing_is_missing() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("mkfs.ext4"));
    let stand = stand(60)?;
    let disk = Disk::new(&stand)?;
    let directory = disk.0.join("journal");
    let mount = with_journal(&stand, &directory)?.start()?;
    read(&mount, 0).ok().context("the first file is refused")?;
    let filler = disk.fill()?;
    // What is left of the last block may take some entries more.
    let full = (1..50).find(|number| read(&mount, *number).is_err()).context("the disk is not full")?;
    for number in full..full + 5 {
        ensure!(read(&mount, number) == Err(Some(Errno::ACCESS)), "file {number} is served unmeasured");
    }
    let words = |record: &integration::Record| record.text("cause") == "journal-error";
    let causes = mount.records().since(mount.records().beginning(), 6, words)?;
    ensure!(causes.len() == 6, "{} records for 6 refusals", causes.len());
    read(&mount, 0).ok().context("a file that was measured before is refused")?;
    std::fs::remove_file(filler).context("cannot make space")?;
    for number in full..60 {
        read(&mount, number).ok().with_context(|| format!("file {number} is refused with space left"))?;
    }
    let list = mount.control("integrity/ima/binary_runtime_measurements")?;
    killed(mount)?;
    let journal = Journal::read(&directory.join("journal"))?;
    ensure!(journal.list == list && journal.entries == 61, "{} entries on disk", journal.entries);
    let mount = with_journal(&stand, &directory)?.start()?;
    ensure!(mount.control("integrity/ima/binary_runtime_measurements")? == list, "another list");
    ensure!(mount.stop()?.success(), "did not end well");
    Ok(())
}

#[test]
fn a_damaged_journal_refuses_the_mount_and_stays_as_it_is() -> Result<()> {
    need!();
    let stand = stand(5)?;
    let directory = stand.scratch.path().join("journal");
    let mount = with_journal(&stand, &directory)?.start()?;
    for number in 0..5 {
        read(&mount, number).ok().context("a file is refused")?;
    }
    killed(mount)?;
    let path = directory.join("journal");
    let middle = std::fs::metadata(&path).context("no journal")?.len() / 2;
    flip(&path, middle)?;
    let damaged = std::fs::read(&path).context("cannot read the journal")?;
    let builder = with_journal(&stand, &directory)?;
    let refused = output(&mut builder.command()?)?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(2), "ended with {}", refused.status);
    ensure!(words.contains("is damaged") && words.contains("imafs journal verify"), "says: {words}");
    ensure!(std::fs::read(&path).context("cannot read the journal")? == damaged, "it was changed");
    let verify = output(
        Command::new(integration::process::ours("imafs")?).args(["journal", "verify"]).arg(&directory),
    )?;
    ensure!(verify.status.code() == Some(1), "verify ended with {}", verify.status);
    flip(&path, middle)?;
    let mount = with_journal(&stand, &directory)?.start()?;
    ensure!(mount.control_number("integrity/ima/runtime_measurements_count")? == 6, "another list");
    Ok(())
}

#[test]
fn one_journal_has_one_mount() -> Result<()> {
    need!();
    let stand = stand(1)?;
    let directory = stand.scratch.path().join("journal");
    let mount = with_journal(&stand, &directory)?.start()?;
    let second = with_journal(&stand, &directory)?;
    let refused = output(&mut second.command()?)?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(2) && words.contains("in use by another process"), "{words}");
    ensure!(mount.stop()?.success(), "did not end well");
    // Another mount may not go on with its list.
    let other = stand.mount()?.args(["--ns-id", "other", "--journal"]).arg(&directory);
    let refused = output(&mut other.command()?)?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(words.contains("that of the mount journaled, not other"), "{words}");
    Ok(())
}

#[test]
fn a_journal_that_the_container_could_reach_is_refused() -> Result<()> {
    need!();
    let stand = stand(1)?;
    let refused = |directory: &Path, words: &str| -> Result<()> {
        let builder = with_journal(&stand, directory)?;
        let out = output(&mut builder.command()?)?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(out.status.code() == Some(2) && said.contains(words), "{}: {said}", directory.display());
        Ok(())
    };
    refused(&stand.source("journal"), "which is served")?;
    // The same directory by another way: a bind mount of what is served.
    let bound = stand.scratch.dir("bound")?;
    succeed(Command::new("mount").arg("--bind").arg(stand.tree()).arg(&bound))?;
    let seen = refused(&bound.join("journal"), "which is served");
    detach(&bound);
    seen?;
    let open = stand.scratch.dir("open")?;
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o755)).context("cannot open it up")?;
    refused(&open, "open to others")?;
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o700)).context("cannot close it")?;
    let mount = with_journal(&stand, &open)?.start()?;
    mount.allowed(Door::Open, "file-0")
}

#[test]
fn an_overlay_that_leads_to_what_is_served_is_no_place_for_a_journal() -> Result<()> {
    need!();
    let stand = stand(1)?;
    let dir = |name: &str| stand.scratch.dir(name);
    let (lower, work, merged) = (dir("lower")?, dir("work")?, dir("merged")?);
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        stand.tree().display(),
        work.display()
    );
    succeed(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers]).arg(&merged))?;
    let builder = with_journal(&stand, &merged.join("journal"))?;
    let out = output(&mut builder.command()?);
    detach(&merged);
    let said = String::from_utf8_lossy(&out?.stderr).into_owned();
    ensure!(said.contains("which is served"), "{said}");
    Ok(())
}

#[test]
fn a_list_in_little_memory_is_shown_whole() -> Result<()> {
    need!();
    let stand = stand(2000)?;
    let directory = stand.scratch.path().join("journal");
    let mount = with_journal(&stand, &directory)?.args(["--list-memory", "50KiB"]).start()?;
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..8)
            .map(|first| {
                let mount = &mount;
                scope.spawn(move || (first..2000).step_by(8).all(|number| read(mount, number).is_ok()))
            })
            .collect();
        readers.into_iter().all(|reader| reader.join().is_ok_and(|good| good))
    })
    .then_some(())
    .context("a file was refused")?;
    let status: serde_json::Value = serde_json::from_slice(&mount.control("status")?)?;
    let held = status.get("list-memory").and_then(serde_json::Value::as_u64).context("no list-memory")?;
    // The newest entries stay in any case.
    ensure!(held < 150_000, "{held} bytes in memory");
    ensure!(status.get("journal").is_none(), "the container is told of the host's paths: {status}");
    let text = mount.measurements()?;
    ensure!(text.lines().count() == 2001, "{} lines", text.lines().count());
    let journal = Journal::read(&directory.join("journal"))?;
    ensure!(journal.list == mount.control("integrity/ima/binary_runtime_measurements")?, "another list");
    let shown = output(mount.imafs(&["journal", "show", "--list"])?.arg(&directory))?;
    ensure!(shown.stdout == text.as_bytes(), "'journal show --list' shows another list");
    Ok(())
}

#[test]
fn list_memory_without_a_journal_is_refused_with_the_reason() -> Result<()> {
    need!();
    let stand = stand(1)?;
    let out = output(&mut stand.mount()?.args(["--list-memory", "1MiB"]).command()?)?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(out.status.code() == Some(2) && said.contains("read back from a journal"), "{said}");
    Ok(())
}
