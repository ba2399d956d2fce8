//! Coming and going: background and foreground, `ps` and `status`, signals, crashes, two mounts side by side.

use anyhow::{Context, Result, bail, ensure};
use integration::process::{ours, output, succeed, until};
use integration::scratch::{is_fuse_mount, mount_table, mounts_below};
use integration::{Door, Mount, MountBuilder, Stand, need};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long things may take that happen after a command has returned.
const SOON: Duration = Duration::from_secs(10);

/// `imafs` with this test's state directory.
fn imafs(run_dir: &Path, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(ours("imafs")?);
    command.env("IMAFS_RUN_DIR", run_dir).args(args);
    Ok(command)
}

/// `ps --json`: one object per running mount.
fn running(run_dir: &Path) -> Result<Vec<Value>> {
    let text = succeed(&mut imafs(run_dir, &["ps", "--json"])?)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))).collect()
}

/// Process id of the only running mount.
fn only_pid(run_dir: &Path) -> Result<Pid> {
    let mounts = running(run_dir)?;
    let [mount] = mounts.as_slice() else { bail!("not one mount but {mounts:?}") };
    let pid = mount.get("pid").and_then(Value::as_i64).with_context(|| format!("no pid in {mount}"))?;
    Pid::from_raw(i32::try_from(pid)?).context("a pid of 0")
}

/// Waits until a process is gone.
fn ends(pid: Pid) -> Result<bool> {
    until(SOON, || Ok(test_kill_process(pid).is_err()))
}

/// The errno behind an error of the standard library.
fn errno<T>(result: std::io::Result<T>) -> Option<Errno> {
    result.err().as_ref().and_then(Errno::from_io_error)
}

/// Mounts in the background, looks, unmounts; whatever happened, nothing stays.
fn mount_look_unmount(stand: &Stand) -> Result<()> {
    let builder = stand.mount()?;
    let out = output(&mut builder.command()?)?;
    let ready = std::fs::read_to_string(builder.target().join("file"));
    let pid = only_pid(&builder.run_dir());
    let mut umount = imafs(&builder.run_dir(), &["umount"])?;
    let unmounted = output(umount.arg(builder.target()))?;
    let mounted = is_fuse_mount(&builder.target());
    ensure!(out.status.success(), "mount: {}", String::from_utf8_lossy(&out.stderr));
    ensure!(ready.context("the mount was not ready")? == "content\n", "other content");
    ensure!(unmounted.status.success(), "umount: {}", String::from_utf8_lossy(&unmounted.stderr));
    ensure!(!mounted, "still mounted when umount returned");
    ensure!(ends(pid?)?, "the process is still there");
    ensure!(running(&builder.run_dir())?.is_empty(), "ps still shows it");
    Ok(())
}

#[test]
fn the_mount_is_ready_when_the_command_returns_and_gone_after_umount() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.file("file", "content\n", 0o644)?;
    for _ in 0..5 {
        mount_look_unmount(&stand)?;
    }
    Ok(())
}

#[test]
fn termination_unmounts_cleanly() -> Result<()> {
    need!();
    for signal in [Signal::TERM, Signal::INT] {
        let stand = Stand::new()?;
        let mount = stand.mount()?.start()?;
        let target = mount.target().to_owned();
        mount.signal(signal)?;
        let status = mount.wait()?;
        ensure!(status.success(), "ended with {status} on {signal:?}");
        ensure!(!is_fuse_mount(&target), "still mounted after {signal:?}");
    }
    Ok(())
}

/// Whoever has a file open keeps it: the mount point goes at once, the process with its last user.
#[test]
fn termination_with_a_file_open_takes_the_mount_away_and_leaves_the_file_to_its_user() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.file("file", "content\n", 0o644)?;
    let mount = stand.mount()?.start()?;
    let target = mount.target().to_owned();
    let mut held = std::fs::File::open(mount.path("file"))?;
    mount.signal(Signal::TERM)?;
    ensure!(until(SOON, || Ok(!is_fuse_mount(&target)))?, "still mounted");
    let mut content = String::new();
    held.read_to_string(&mut content).context("the open file cannot be read")?;
    ensure!(content == "content\n", "other content: {content}");
    drop(held);
    let status = mount.wait()?;
    ensure!(status.success(), "ended with {status}");
    Ok(())
}

#[test]
fn ps_and_status_tell_of_a_running_mount() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let mount = stand.mount()?.named_policy("exec").start()?;
    let target = mount.target().to_string_lossy().into_owned();
    let table = succeed(&mut mount.imafs(&["ps"])?)?;
    ensure!(table.contains(&target), "ps does not show the target:\n{table}");
    let json = succeed(&mut mount.imafs(&["ps", "--json"])?)?;
    let one: Value = serde_json::from_str(json.trim()).context("ps --json")?;
    ensure!(one.get("pid").and_then(Value::as_u64) == Some(u64::from(mount.pid())), "another pid: {one}");
    ensure!(one.get("target").and_then(Value::as_str) == Some(target.as_str()), "another target: {one}");
    let words = succeed(&mut mount.imafs(&["status", &target])?)?;
    for word in ["enforce", "passthrough"] {
        ensure!(words.contains(word), "status does not speak of {word}:\n{words}");
    }
    let json = succeed(&mut mount.imafs(&["status", &target, "--json"])?)?;
    let status: Value = serde_json::from_str(json.trim()).context("status --json")?;
    ensure!(status.is_object(), "status --json is {status}");
    let inside: Value = serde_json::from_slice(&mount.control("status")?).context("/.imafs/status")?;
    ensure!(inside.is_object(), "/.imafs/status is {inside}");
    Ok(())
}

#[test]
fn two_mounts_of_one_source_keep_lists_and_records_apart() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.file("file", "content\n", 0o644)?;
    let measured = stand.mount()?.policy("measure\n")?.start()?;
    let appraised = stand.mount()?.policy("appraise\n")?.start()?;
    measured.allowed(Door::Open, "file")?;
    appraised.refused(Door::Open, "file", "missing-hash")?;
    let count = |mount: &Mount| mount.control_number("integrity/ima/runtime_measurements_count");
    ensure!(count(&measured)? == 2 && count(&appraised)? == 1, "lists mix");
    ensure!(measured.control("ns_id")? != appraised.control("ns_id")?, "both have the same id");
    let start = measured.records().beginning();
    measured.records().no_refusal(start)?;
    ensure!(measured.stop()?.success(), "the first did not end well");
    appraised.refused(Door::Open, "file", "missing-hash")
}

#[test]
fn a_killed_imafs_leaves_what_umount_clears_away() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.file("file", "content\n", 0o644)?;
    let builder = stand.mount()?;
    succeed(&mut builder.command()?)?;
    let pid = only_pid(&builder.run_dir())?;
    kill_process(pid, Signal::KILL).context("cannot kill imafs")?;
    ensure!(ends(pid)?, "imafs survives a kill");
    let seen = errno(std::fs::read(builder.target().join("file")));
    ensure!(seen == Some(Errno::NOTCONN), "an orphaned mount says {seen:?}");
    let mut umount = imafs(&builder.run_dir(), &["umount"])?;
    succeed(umount.arg(builder.target()))?;
    ensure!(mounts_below(&builder.target()).is_empty(), "still mounted");
    ensure!(running(&builder.run_dir())?.is_empty(), "ps still shows it");
    // And the place is as good as new.
    succeed(&mut builder.command()?)?;
    let content = std::fs::read(builder.target().join("file"));
    let mut umount = imafs(&builder.run_dir(), &["umount"])?;
    succeed(umount.arg(builder.target()))?;
    ensure!(content? == b"content\n", "other content");
    Ok(())
}

#[test]
fn an_unmount_of_a_busy_mount_is_refused_and_the_mount_goes_on() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.file("file", "content\n", 0o644)?;
    let mount = stand.mount()?.start()?;
    let held = std::fs::File::open(mount.path("file"))?;
    let mut umount = mount.imafs(&["umount"])?;
    let out = output(umount.arg(mount.target()))?;
    let words = String::from_utf8_lossy(&out.stderr);
    ensure!(!out.status.success(), "unmounted under an open file");
    ensure!(
        words.contains("in use") && words.contains("file"),
        "the error does not say who uses it: {words}"
    );
    ensure!(std::fs::read(mount.path("file"))? == b"content\n", "the mount does not go on");
    drop(held);
    ensure!(mount.stop()?.success(), "did not end well");
    Ok(())
}

#[test]
fn a_read_only_mount_lets_nothing_be_written() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.file("file", "content\n", 0o644)?;
    let mount = stand.mount()?.arg("--read-only").start()?;
    let seen = errno(std::fs::write(mount.path("file"), "other\n"));
    ensure!(seen == Some(Errno::ROFS), "writing says {seen:?}");
    mount.allowed(Door::Open, "file")
}

#[test]
fn an_overlay_of_lower_and_upper_is_mounted_without_a_way_around() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    let dir = |name| stand.scratch.dir(name);
    let (lower, upper, work) = (dir("lower")?, dir("upper")?, dir("work")?);
    std::fs::write(lower.join("file"), "lower\n")?;
    let builder = MountBuilder::new(&stand.scratch, "")?;
    let builder = builder.arg("--lower").arg(&lower).arg("--upper").arg(&upper).arg("--work").arg(&work);
    let mount = builder.start()?;
    ensure!(std::fs::read(mount.path("file"))? == b"lower\n", "the lower file does not show");
    std::fs::write(mount.path("file"), "upper\n")?;
    ensure!(std::fs::read(lower.join("file"))? == b"lower\n", "the lower layer was written");
    ensure!(std::fs::read(upper.join("file"))? == b"upper\n", "the upper layer was not written");
    let table = mount_table();
    let attached = table.iter().find(|m| m.super_options.contains(&*upper.to_string_lossy()));
    ensure!(attached.is_none(), "the overlay is attached: {attached:?}");
    Ok(())
}

#[test]
fn a_log_on_a_full_disk_does_not_end_the_mount() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.file("file", "content\n", 0o644)?;
    let builder = stand.mount()?.args(["--log", "/dev/full"]);
    let out = output(&mut builder.command()?)?;
    ensure!(out.status.success(), "mount: {}", String::from_utf8_lossy(&out.stderr));
    let read = std::fs::read_to_string(builder.target().join("file"));
    let pid = only_pid(&builder.run_dir());
    let mut umount = imafs(&builder.run_dir(), &["umount"])?;
    let unmounted = output(umount.arg(builder.target()))?;
    ensure!(read.context("the mount is dead")? == "content\n", "other content");
    ensure!(ends(pid?)? && unmounted.status.success(), "it does not end as it should");
    Ok(())
}

#[test]
fn a_connection_that_was_aborted_is_no_clean_end() -> Result<()> {
    need!();
    let stand = Stand::new()?;
    stand.file("file", "content\n", 0o644)?;
    let journal = stand.scratch.path().join("journal");
    let path = journal.to_str().context("not UTF-8")?.to_owned();
    let mount = || stand.mount()?.args(["--journal", &path, "--ns-id", "aborted"]).start();
    let first = mount()?;
    let target = first.target().to_owned();
    // Somebody uses it, so that it is not unmounted.
    let user = std::fs::File::open(first.path("file"))?;
    let forced = rustix::mount::unmount(&target, rustix::mount::UnmountFlags::FORCE);
    ensure!(forced == Err(Errno::BUSY), "{forced:?}");
    ensure!(!first.wait()?.success(), "it ended as if it had been unmounted");
    ensure!(!is_fuse_mount(&target), "a dead mount stands there");
    drop(user);
    // The list goes on, as after a crash.
    let second = mount()?;
    ensure!(until(SOON, || Ok(second.log().contains("the list goes on after")))?, "{}", second.log());
    second.stop()?;
    Ok(())
}
