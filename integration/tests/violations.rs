//! Violations of the measurement list: none that did not happen, and each one that did.
//!
//! FUSE tells of a close only after `close(2)` has returned, so counting writers carelessly reports writers that
//! are gone. The clients here run as processes of their own and start together.

use anyhow::{Context, Result, ensure};
use integration::{Mount, Stand, need};
use std::process::{Child, Command, Stdio};

/// Measures every read of every file, so that every reader takes part in the accounting.
const MEASURE_READS: &str = "measure func=FILE_CHECK mask=MAY_READ\n";

/// A mount of an empty tree.
fn empty_mount() -> Result<(Stand, Mount)> {
    let stand = Stand::new()?;
    let mount = stand.mount()?.policy(MEASURE_READS)?.start()?;
    Ok((stand, mount))
}

/// Runs `processes` clients at once, `rounds` rounds in all, and waits for them to succeed.
fn run_clients(mount: &Mount, verb: &str, processes: u32, rounds: u32) -> Result<()> {
    let each = (rounds / processes).to_string();
    let start = || -> Result<Child> {
        let mut client = Command::new(env!("CARGO_BIN_EXE_imafs-proof-client"));
        client.arg(verb).arg(mount.target()).arg(&each).stdin(Stdio::piped()).stderr(Stdio::piped());
        client.spawn().context("cannot start a client")
    };
    let mut clients = (0..processes).map(|_| start()).collect::<Result<Vec<_>>>()?;
    for client in &mut clients {
        drop(client.stdin.take());
    }
    for client in clients {
        let out = client.wait_with_output().context("cannot wait for a client")?;
        ensure!(out.status.success(), "a client failed: {}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(())
}

/// Records of violations with this cause; there have to be exactly `count`, and none with another.
fn violation_records(mount: &Mount, cause: &str, count: u64) -> Result<()> {
    let wanted = usize::try_from(count)?;
    let start = mount.records().beginning();
    let found = mount.records().since(start, wanted, integration::Record::is_violation)?;
    let other = found.iter().find(|r| r.text("cause") != cause);
    ensure!(other.is_none(), "a violation of another cause: {other:?}");
    ensure!(found.len() == wanted, "{} records of {cause}, not {count}", found.len());
    Ok(())
}

/// Lines of the list with an all-zero template digest: violations.
fn violation_lines(mount: &Mount) -> Result<usize> {
    let zeros = "0".repeat(40);
    Ok(mount
        .measurements()?
        .lines()
        .filter(|line| line.split_whitespace().nth(1) == Some(zeros.as_str()))
        .count())
}

/// 3,000 loops of write, close, open, read, close, by this many processes.
fn no_violation_with(processes: u32) -> Result<()> {
    let (_stand, mount) = empty_mount()?;
    run_clients(&mount, "rewrite", processes, 3_000)?;
    let violations = mount.violations()?;
    let records = mount.records().since(mount.records().beginning(), 0, integration::Record::is_violation)?;
    ensure!(violations == 0, "{violations} violations that did not happen: {records:?}");
    ensure!(violation_lines(&mount)? == 0, "a violation is in the list");
    violation_records(&mount, "open_writers", 0)
}

#[test]
fn one_process_that_rewrites_and_reads_gives_no_violation() -> Result<()> {
    need!();
    no_violation_with(1)
}

#[test]
fn two_processes_that_rewrite_and_read_give_no_violation() -> Result<()> {
    need!();
    no_violation_with(2)
}

#[test]
fn eight_processes_that_rewrite_and_read_give_no_violation() -> Result<()> {
    need!();
    no_violation_with(8)
}

/// `verb` opens 200 files both ways at once: as many violations of `cause`, in every place they are told.
fn every_meeting_is_recorded(verb: &str, cause: &str, processes: u32) -> Result<()> {
    let (_stand, mount) = empty_mount()?;
    run_clients(&mount, verb, processes, 200)?;
    ensure!(mount.violations()? == 200, "{} violations, not 200", mount.violations()?);
    ensure!(violation_lines(&mount)? == 200, "{} in the list, not 200", violation_lines(&mount)?);
    violation_records(&mount, cause, 200)
}

#[test]
fn every_reader_that_meets_a_writer_is_recorded() -> Result<()> {
    need!();
    every_meeting_is_recorded("readers-meet-writers", "open_writers", 1)
}

#[test]
fn every_reader_that_meets_a_writer_is_recorded_under_load() -> Result<()> {
    need!();
    every_meeting_is_recorded("readers-meet-writers", "open_writers", 8)
}

#[test]
fn every_writer_that_meets_a_measured_reader_is_recorded() -> Result<()> {
    need!();
    every_meeting_is_recorded("writers-meet-readers", "ToMToU", 1)
}

#[test]
fn every_writer_that_meets_a_measured_reader_is_recorded_under_load() -> Result<()> {
    need!();
    every_meeting_is_recorded("writers-meet-readers", "ToMToU", 8)
}
