//! Rules of a container that name registers of the host's TPM: what the TPM cannot extend, or others do, stops nobody else.

use anyhow::{Context, Result, ensure};
use integration::loader::{Loaded, load};
use integration::process::{output, succeed};
use integration::swtpm::{BANKS, Swtpm};
use integration::{Mount, MountBuilder, Need, Stand, need, pcrs};
use rustix::io::Errno;
use std::path::Path;
use std::process::Command;

const POLICY: &str = "measure func=FILE_CHECK mask=MAY_READ\n";

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
fn a_container_cannot_stop_the_list_with_a_register_that_nobody_can_extend() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("tpm2_pcrextend"));
    let stand = Stand::new()?;
    files(&stand, 6)?;
    let tpm = Swtpm::start(&stand.scratch)?;
    let journal = stand.scratch.path().join("web");
    let own = ["--control", "rw", "--policy-owner", "container", "--policy-loads", "many"];
    let mount = journaled(&stand, &tpm, &journal)?.args(own).start()?;
    let policy = mount.path(".imafs/integrity/ima/policy");
    let rule = |pcr: u32, file: u32| format!("measure func=FILE_CHECK pcr={pcr} path=/file-{file}\n");
    for pcr in [17, 22, 24, 30, 63] {
        let loaded = load(&policy, rule(pcr, 0).as_bytes())?;
        ensure!(loaded == Loaded::RefusedAt(1, Errno::INVAL), "PCR {pcr}: {loaded:?}");
    }
    read(&mount, 0)?;
    // One that the TPM has and nobody uses is another matter.
    ensure!(load(&policy, rule(11, 1).as_bytes())? == Loaded::Whole, "PCR 11 is refused");
    read(&mount, 1)?;
    ensure!(tpm.pcr(11)?.iter().all(|value| value.hex.bytes().any(|digit| digit != b'0')), "not extended");
    // One that somebody else uses denies what the rule is about, and nothing else.
    let extend = format!("12:sha256={}", "5a".repeat(32));
    succeed(Command::new("tpm2_pcrextend").args(["--tcti", &tpm.tcti(), &extend]))?;
    ensure!(load(&policy, rule(12, 2).as_bytes())? == Loaded::Whole, "PCR 12 is refused");
    let denied = read(&mount, 2).err().and_then(|error| Errno::from_io_error(&error));
    ensure!(denied == Some(Errno::ACCESS), "{denied:?}");
    read(&mount, 3).context("the whole list waits for a register of somebody else")?;
    ensure!(replays(&mount, &tpm)?, "the list does not replay");
    mount.stop()?;
    let mount = journaled(&stand, &tpm, &journal)?.start().context("the next mount is refused")?;
    read(&mount, 4)?;
    mount.stop()?;
    let words = "line 1, column 1: \"pcr=17\" names a PCR that the measurement list cannot extend here";
    let dynamic = stand.mount()?.policy(&rule(17, 0))?.args(["--tpm", &tpm.tcti(), "--pcr", "23"]);
    refused(&dynamic, words)?;
    refused(&journaled(&stand, &tpm, &stand.scratch.path().join("other"))?.args(["--pcr", "17"]), "--pcr")
}
