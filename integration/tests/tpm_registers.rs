//! What a mount believes of the registers of its TPM: after it was mounted again, while nothing new is opened, and beside
//! others who want the same register. The TPM is a real emulator, and tpm2-tools say what it holds.

use anyhow::{Context, Result, ensure};
use integration::process::{output, succeed, until};
use integration::swtpm::{BANKS, Swtpm};
use integration::{Mount, MountBuilder, Need, Stand, need, pcrs};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const POLICY: &str = "measure func=FILE_CHECK mask=MAY_READ\n";
const PATIENCE: Duration = Duration::from_secs(60);

fn files(stand: &Stand, count: usize) -> Result<()> {
    for number in 0..count {
        stand.file(&format!("file-{number}"), format!("content {number}\n"), 0o644)?;
    }
    Ok(())
}

fn read(mount: &Mount, number: usize) -> std::io::Result<Vec<u8>> {
    std::fs::read(mount.path(format!("file-{number}")))
}

fn journaled(stand: &Stand, tpm: &Swtpm, journal: &Path) -> Result<MountBuilder> {
    let name = journal.file_name().and_then(|name| name.to_str()).context("no name")?;
    let builder = stand.mount()?.policy(POLICY)?.run_dir_at(stand.scratch.path().join("run"));
    Ok(builder.args(["--tpm", &tpm.tcti(), "--ns-id", name, "--journal"]).arg(journal))
}

/// Whether the mount's list, replayed from zero, is what the TPM holds in every bank.
fn replays(mount: &Mount, tpm: &Swtpm) -> Result<bool> {
    let list = mount.control("integrity/ima/binary_runtime_measurements")?;
    let values = tpm.pcr(10)?;
    for bank in BANKS {
        if !values.contains(&pcrs::replay(&list, bank)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Mounts, and expects a refusal with these words.
fn refused(builder: &MountBuilder, words: &str) -> Result<()> {
    let out = output(&mut builder.command()?)?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(out.status.code() == Some(2), "ended with {}: {said}", out.status);
    ensure!(said.contains(words), "{said}");
    Ok(())
}

#[test]
fn a_restart_after_a_list_went_on_is_seen_before_anything_is_served_on_it() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("tpm2_pcrread"));
    let stand = Stand::new()?;
    files(&stand, 4)?;
    let mut tpm = Swtpm::start(&stand.scratch)?;
    let journal = stand.scratch.path().join("web");
    let mount = journaled(&stand, &tpm, &journal)?.start()?;
    read(&mount, 0)?;
    mount.stop()?;
    // The allowed sibling: the TPM is as it was left.
    let mount = journaled(&stand, &tpm, &journal)?.start()?;
    read(&mount, 1)?;
    ensure!(replays(&mount, &tpm)?, "the list that went on does not replay");
    mount.stop()?;
    let mount = journaled(&stand, &tpm, &journal)?.start()?;
    tpm.kill()?;
    tpm.restart()?;
    read(&mount, 2).context("a restart is no reason to deny")?;
    ensure!(replays(&mount, &tpm)?, "a file was served under a PCR that the list does not give");
    mount.stop()?;
    let mount = journaled(&stand, &tpm, &journal)?.start().context("the next mount is refused")?;
    read(&mount, 3)?;
    ensure!(replays(&mount, &tpm)?, "the list does not replay at last");
    ensure!(mount.control_number("integrity/ima/runtime_measurements_count")? == 5, "another list");
    mount.stop().map(drop)
}

#[test]
fn a_restart_while_only_known_files_are_opened_is_made_good() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("tpm2_pcrread"));
    let stand = Stand::new()?;
    files(&stand, 3)?;
    let mut tpm = Swtpm::start(&stand.scratch)?;
    let mount = stand.mount()?.policy(POLICY)?.args(["--tpm", &tpm.tcti()]).start()?;
    for number in 0..3 {
        read(&mount, number)?;
    }
    ensure!(replays(&mount, &tpm)?, "the list does not replay at first");
    tpm.kill()?;
    tpm.restart()?;
    ensure!(!replays(&mount, &tpm)?, "the TPM was not restarted");
    let again = until(PATIENCE, || {
        read(&mount, 0)?;
        replays(&mount, &tpm)
    })?;
    ensure!(again, "nobody notices that the TPM was restarted");
    mount.stop().map(drop)
}

#[test]
fn a_journal_does_not_open_a_register_that_is_in_use() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("tpm2_pcrextend"));
    let stand = Stand::new()?;
    files(&stand, 2)?;
    let tpm = Swtpm::start(&stand.scratch)?;
    let [first, second] = ["first", "second"].map(|name| stand.scratch.path().join(name));
    let running = journaled(&stand, &tpm, &first)?.start()?;
    read(&running, 0)?;
    // On the same host the lock says so, from elsewhere the register does.
    refused(&journaled(&stand, &tpm, &second)?, "another mount has its list in PCR 10")?;
    let elsewhere = stand.scratch.dir("run-elsewhere")?;
    let other = || Ok::<_, anyhow::Error>(journaled(&stand, &tpm, &second)?.run_dir_at(&elsewhere));
    refused(&other()?, "PCR 10 of the TPM has been extended already")?;
    // Neither has done any harm.
    read(&running, 1).context("the mount that was there is destroyed")?;
    ensure!(replays(&running, &tpm)?, "its list does not replay");
    running.stop()?;
    // Another register is free, with the journal that the refused mount has made.
    let mount = other()?.args(["--pcr", "11"]).start()?;
    read(&mount, 1)?;
    mount.stop().map(drop)
}

#[test]
fn a_register_that_was_extended_before_is_no_beginning_of_a_journal() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("tpm2_pcrextend"));
    let stand = Stand::new()?;
    files(&stand, 2)?;
    let mut tpm = Swtpm::start(&stand.scratch)?;
    let extend = format!("10:sha256={}", "5a".repeat(32));
    succeed(Command::new("tpm2_pcrextend").args(["--tcti", &tpm.tcti(), &extend]))?;
    let journal = stand.scratch.path().join("web");
    refused(&journaled(&stand, &tpm, &journal)?, "PCR 10 of the TPM has been extended already")?;
    tpm.kill()?;
    tpm.restart()?;
    let mount = journaled(&stand, &tpm, &journal)?.start()?;
    read(&mount, 0)?;
    // What follows is what a base that is not zero made impossible.
    tpm.kill()?;
    tpm.restart()?;
    read(&mount, 1)?;
    ensure!(replays(&mount, &tpm)?, "the list does not replay");
    mount.stop()?;
    journaled(&stand, &tpm, &journal)?.start().context("the next mount is refused")?.stop().map(drop)
}

#[test]
fn a_mount_that_does_not_come_about_leaves_the_register_unused() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("tpm2_pcrread"));
    let stand = Stand::new()?;
    files(&stand, 1)?;
    let tpm = Swtpm::start(&stand.scratch)?;
    let mount = || Ok::<_, anyhow::Error>(stand.mount()?.policy(POLICY)?.args(["--tpm", &tpm.tcti()]));
    let long = format!("x{}", "y".repeat(60));
    let deep = stand.scratch.dir(&"z".repeat(60))?;
    let cases = [
        (mount()?.args(["--log", "/no/such/directory/log"]), "cannot open log"),
        (mount()?.args(["--audit", "file:/no/such/directory/records"]), "cannot open audit sink"),
        (mount()?.args(["--ns-id", &long]).run_dir_at(deep), "cannot listen on"),
    ];
    for (builder, words) in &cases {
        refused(builder, words)?;
        let zero = |value: &pcrs::Value| value.hex.bytes().all(|digit| digit == b'0');
        ensure!(tpm.pcr(10)?.iter().all(zero), "{words}: it has extended the PCR");
    }
    let mount = mount()?.start().context("the next mount is refused")?;
    read(&mount, 0)?;
    ensure!(replays(&mount, &tpm)?, "the list does not replay");
    mount.stop().map(drop)
}
