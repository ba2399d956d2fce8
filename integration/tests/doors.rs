//! A file that fails appraisal is denied through every door, and the same door lets its sibling through.

use anyhow::{Context, Result};
use integration::stand::flip;
use integration::{Door, Stand, need};

/// Every access of every file needs a signature.
const ALL_SIGNED: &str = "appraise appraise_type=imasig\n";
/// A shared object that every Debian has and that needs nothing but the C library.
const LIBRARY: &str = "/lib/x86_64-linux-gnu/libm.so.6";

/// Signed copies `good` and `bad` of a host file, one byte of `bad` changed after signing.
///
/// The byte is the last one: past everything that the loader or the kernel looks at, so that only appraisal refuses.
fn good_and_bad(host: &str) -> Result<Stand> {
    let stand = Stand::new()?;
    for name in ["good", "bad"] {
        stand.host_file(name, host)?;
    }
    stand.sign(".")?;
    let size = stand.source("bad").metadata().context("no size")?.len();
    flip(&stand.source("bad"), size - 1)?;
    Ok(stand)
}

/// Tries each door on both files. `O_RDWR` of a signed file is refused for both under a rule that covers writing,
/// as the kernel does, so it has its own test.
fn try_doors(host: &str, policy: &str, doors: &[Door]) -> Result<()> {
    let stand = good_and_bad(host)?;
    let builder = stand.mount()?;
    let builder = if policy.contains(' ') { builder.policy(policy)? } else { builder.named_policy(policy) };
    let mount = builder.start()?;
    for door in doors.iter().copied().filter(|door| *door != Door::OpenReadWrite && *door != Door::OpenDirect)
    {
        mount.allowed(door, "good")?;
        mount.refused(door, "bad", "invalid-signature")?;
    }
    Ok(())
}

#[test]
fn every_reading_door_is_shut() -> Result<()> {
    need!();
    try_doors("/etc/passwd", ALL_SIGNED, &Door::READING)
}

#[test]
fn every_reading_door_of_a_large_file_is_shut() -> Result<()> {
    need!();
    // Larger than the page-cache limit, so that passthrough would serve it.
    let stand = Stand::new()?;
    let content: Vec<u8> = (0..3_u32 << 18).flat_map(u32::to_le_bytes).collect();
    for name in ["good", "bad"] {
        stand.file(name, &content, 0o644)?;
    }
    stand.sign(".")?;
    flip(&stand.source("bad"), 2_000_000)?;
    let mount = stand.mount()?.policy(ALL_SIGNED)?.start()?;
    for door in Door::READING.into_iter().filter(|d| *d != Door::OpenReadWrite && *d != Door::OpenDirect) {
        mount.allowed(door, "good")?;
        mount.refused(door, "bad", "invalid-signature")?;
    }
    Ok(())
}

#[test]
fn every_running_door_is_shut() -> Result<()> {
    need!();
    try_doors("/bin/true", ALL_SIGNED, &Door::RUNNING)
}

#[test]
fn every_running_door_is_shut_by_the_shipped_exec_policy() -> Result<()> {
    need!();
    try_doors("/bin/true", "exec", &Door::RUNNING)
}

#[test]
fn every_loading_door_is_shut() -> Result<()> {
    need!();
    try_doors(LIBRARY, ALL_SIGNED, &Door::LOADING)
}

#[test]
fn every_loading_door_is_shut_by_the_shipped_exec_policy() -> Result<()> {
    need!();
    try_doors(LIBRARY, "exec", &Door::LOADING)
}

#[test]
fn every_reading_door_is_shut_by_the_shipped_immutable_policy() -> Result<()> {
    need!();
    try_doors("/etc/passwd", "immutable", &Door::READING)
}

#[test]
fn reading_and_writing_at_once_is_refused() -> Result<()> {
    need!();
    let stand = good_and_bad("/etc/passwd")?;
    let mount = stand.mount()?.policy(ALL_SIGNED)?.start()?;
    mount.refused(Door::OpenReadWrite, "bad", "invalid-signature")?;
    mount.refused(Door::OpenAppend, "bad", "invalid-signature")
}

/// The kernel cannot collect a digest through `O_DIRECT`, says so in words of its own, and denies, be the file good
/// or bad, unless the rule permits it (`ima_collect_measurement`, Linux 6.1).
#[test]
fn direct_reading_is_refused_unless_the_rule_permits_it() -> Result<()> {
    need!();
    let stand = good_and_bad("/etc/passwd")?;
    let mount = stand.mount()?.policy(ALL_SIGNED)?.start()?;
    let mark = mount.mark()?;
    let opened = Door::OpenDirect.enter(&mount.path("bad"))?;
    anyhow::ensure!(
        matches!(opened, Err(integration::Refusal::Errno(rustix::io::Errno::ACCESS))),
        "O_DIRECT gives {opened:?}"
    );
    mount.records().one_refusal(mark, "failed(directio)", "bad")?;
    drop(mount);
    let mount = stand.mount()?.policy("appraise appraise_type=imasig permit_directio\n")?.start()?;
    let opened = Door::OpenDirect.enter(&mount.path("good"))?;
    anyhow::ensure!(opened.is_ok(), "O_DIRECT is refused though the rule permits it: {opened:?}");
    Ok(())
}

#[test]
fn data_files_stay_readable_under_the_exec_policy() -> Result<()> {
    need!();
    let stand = good_and_bad("/etc/passwd")?;
    let mount = stand.mount()?.named_policy("exec").start()?;
    mount.allowed(Door::Open, "bad")?;
    mount.allowed(Door::Mmap, "bad")
}
