//! Load and size: nothing is skipped under load, nothing waits for what does not concern it, nothing is unbounded.

use anyhow::{Context, Result, bail, ensure};
use integration::{Door, Stand, need};
use rustix::io::Errno;
use std::time::{Duration, Instant};

#[test]
fn every_refusal_of_a_crowd_is_recorded_once() -> Result<()> {
    need!();
    const THREADS: usize = 8;
    const OPENS: usize = 50;
    let stand = Stand::new()?;
    stand.file("unsigned", "content\n", 0o644)?;
    let mount = stand.mount()?.policy("appraise appraise_type=imasig\n")?.start()?;
    let open_all = || -> Result<()> {
        for _ in 0..OPENS {
            let seen = std::fs::read(mount.path("unsigned")).err().as_ref().and_then(Errno::from_io_error);
            ensure!(seen == Some(Errno::ACCESS), "an unsigned file says {seen:?}");
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..THREADS).map(|_| scope.spawn(open_all)).collect();
        crowd.into_iter().try_for_each(|member| match member.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread panicked"),
        })
    })?;
    let start = mount.records().beginning();
    let records = mount.records().since(start, THREADS * OPENS, integration::Record::is_refusal)?;
    ensure!(records.len() == THREADS * OPENS, "{} records for {} refusals", records.len(), THREADS * OPENS);
    Ok(())
}

#[test]
fn a_huge_file_being_hashed_keeps_nobody_else_waiting() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let huge = stand.file("huge", "", 0o644)?;
    std::fs::File::options().write(true).open(huge)?.set_len(4 << 30)?;
    for number in 0..200 {
        stand.file(&format!("small-{number}"), "content\n", 0o644)?;
    }
    let mount = stand.mount()?.policy("measure func=FILE_CHECK mask=MAY_READ\n")?.start()?;
    let path = mount.path("huge");
    let hashing = std::thread::spawn(move || {
        let start = Instant::now();
        std::fs::File::open(path).map(|_| start.elapsed())
    });
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    for number in 0..200 {
        std::fs::read(mount.path(format!("small-{number}"))).context("cannot read a small file")?;
    }
    let small = start.elapsed();
    ensure!(!hashing.is_finished(), "the huge file was done first: this shows nothing");
    let huge = hashing.join().ok().context("the opener panicked")?.context("the huge file does not open")?;
    ensure!(small < huge, "200 small files took {small:?}, the huge one {huge:?}");
    Ok(())
}

/// Descriptors that the imafs process may hold in the next test.
const DESCRIPTORS: usize = 512;

#[test]
fn a_tree_far_larger_than_the_descriptor_limit_is_served_whole() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    for number in 0..5_000 {
        stand.file(&format!("dir-{}/file-{number}", number % 50), format!("{number}\n"), 0o644)?;
    }
    let builder = stand.mount()?.policy("measure func=FILE_CHECK mask=MAY_READ\n")?;
    let mount = builder.limit_descriptors(DESCRIPTORS).start()?;
    let mut held = Vec::new();
    for number in 0..5_000 {
        let path = mount.path(format!("dir-{}/file-{number}", number % 50));
        let content = std::fs::read_to_string(&path).with_context(|| format!("file {number}"))?;
        ensure!(content == format!("{number}\n"), "file {number} holds {content:?}");
        // The kernel keeps what somebody holds: these records cannot be forgotten.
        if number < 2_000 {
            held.push(rustix::fs::open(&path, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())?);
        }
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", mount.pid()))?.count();
    ensure!(open <= DESCRIPTORS, "{open} descriptors");
    for number in [0, 1_999, 4_999] {
        mount.allowed(Door::Open, &format!("dir-{}/file-{number}", number % 50))?;
    }
    Ok(())
}

#[test]
fn many_files_open_at_once_under_a_small_limit_are_an_error_and_no_hang() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    for number in 0..1_000 {
        stand.file(&format!("file-{number}"), "content\n", 0o644)?;
    }
    let builder = stand.mount()?.policy("measure func=FILE_CHECK mask=MAY_READ\n")?;
    let mount = builder.limit_descriptors(256).start()?;
    let mut held = Vec::new();
    for number in 0..1_000 {
        match std::fs::File::options().read(true).write(true).open(mount.path(format!("file-{number}"))) {
            Ok(file) => held.push(file),
            Err(e) => {
                let errno = Errno::from_io_error(&e);
                ensure!(
                    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::IO | Errno::ACCESS)),
                    "{errno:?}"
                );
            }
        }
    }
    drop(held);
    // And when the crowd has gone, all is well again.
    mount.allowed(Door::Open, "file-999")
}
