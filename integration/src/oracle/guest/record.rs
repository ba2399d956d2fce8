//! Runs a scenario in a guest and writes what came of it into the scenario's `kernel/`, in the form of
//! `integration/golden`: such a directory can be put there and is replayed by the tests.

use crate::golden::Scenario;
use crate::golden::list;
use crate::golden::stage::UUID;
use crate::oracle::guest::{Boot, Guest, initramfs};
use crate::oracle::stop;
use crate::process::{shell, succeed};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::process::Command;

/// Size of the file system that scenarios are played on, as in the recordings.
const DISK: u64 = 32 << 20;
/// Room for an archive of results.
const RESULTS: u64 = 32 << 20;

/// How often a guest is booted at most.
const ATTEMPTS: usize = 3;

/// Files of the results that are kept as the guest wrote them.
const VERBATIM: [&str; 6] = [
    "ops.tsv",
    "ascii_runtime_measurements",
    "binary_runtime_measurements",
    "runtime_measurements_count",
    "violations",
    "tree",
];

/// Boots a guest with the scenario and writes `kernel/`. What was there before is replaced.
///
/// # Errors
/// Fails when the guest does not run or does not finish, with what it said.
pub fn record(guest: &Guest, scenario: &Scenario) -> Result<()> {
    // An emulated machine on a busy one may fail to start. That is no answer of the kernel's, so it is asked again.
    for _ in 1..ATTEMPTS {
        if let Ok(()) = attempt(guest, scenario) {
            return Ok(());
        }
        stop::check()?;
    }
    attempt(guest, scenario)
}

fn attempt(guest: &Guest, scenario: &Scenario) -> Result<()> {
    let work = tempfile::Builder::new().prefix("imafs-oracle-").tempdir().context("no work directory")?;
    let work = work.path();
    let disk = work.join("disk");
    make_disk(scenario, work, &disk)?;
    let archive = work.join("initrd");
    initramfs::with_scenario(guest.base(), &scenario.dir, work, &archive)?;
    let results = work.join("results");
    File::create(&results).and_then(|file| file.set_len(RESULTS)).context("no room for results")?;
    let text = std::fs::read_to_string(scenario.dir.join("cmdline")).context("cannot read cmdline")?;
    let arguments: Vec<&str> = text.split_whitespace().collect();
    let tpm = !arguments.contains(&"oracle.notpm");
    guest.run(&Boot {
        work,
        archive: &archive,
        disk: &disk,
        results: &results,
        arguments: &arguments.join(" "),
        tpm,
    })?;
    let out = work.join("out");
    std::fs::create_dir(&out).context("cannot make a directory")?;
    let console = || std::fs::read_to_string(work.join("console")).unwrap_or_default();
    succeed(Command::new("tar").arg("-xf").arg(&results).arg("-C").arg(&out))
        .with_context(|| format!("the guest left nothing; it said:\n{}", console()))?;
    let status =
        std::fs::read_to_string(out.join("whole")).with_context(|| format!("not whole:\n{}", console()))?;
    let errors = std::fs::read_to_string(out.join("errors")).unwrap_or_default();
    ensure!(status.trim() == "0", "the player ended with {}: {errors}", status.trim());
    keep(&out, &scenario.dir.join("kernel"), tpm)
}

/// Makes the file system with the files of `setup.sh` in it.
fn make_disk(scenario: &Scenario, work: &Path, disk: &Path) -> Result<()> {
    let files = work.join("files");
    std::fs::create_dir(&files).context("cannot make a directory")?;
    let script = std::fs::read_to_string(scenario.dir.join("setup.sh")).context("cannot read setup.sh")?;
    shell(&files, format!("umask 022\n{script}"))?;
    File::create(disk).and_then(|file| file.set_len(DISK)).context("cannot make the disk")?;
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-b", "4096", "-O", "verity", "-U", UUID, "-d"]).arg(&files).arg(disk);
    succeed(&mut mkfs).map(drop)
}

/// Puts the results into the recording's form.
fn keep(out: &Path, kernel: &Path, tpm: bool) -> Result<()> {
    if kernel.exists() {
        std::fs::remove_dir_all(kernel).context("cannot remove the old recording")?;
    }
    std::fs::create_dir_all(kernel).context("cannot make kernel/")?;
    let copy = |name: &str| {
        std::fs::copy(out.join(name), kernel.join(name)).with_context(|| format!("no {name} in the results"))
    };
    for name in VERBATIM {
        copy(name)?;
    }
    for name in ["pre.tsv", "policy.tsv"] {
        if out.join(name).exists() {
            copy(name)?;
        }
    }
    let text =
        |name: &str| std::fs::read(out.join(name)).with_context(|| format!("no {name} in the results"));
    let write = |name: &str, content: &[u8]| {
        std::fs::write(kernel.join(name), content).with_context(|| format!("cannot write {name}"))
    };
    write("audit.tsv", &without_ids(&of_the_scenario(&text("audit.tsv")?)))?;
    write("dmesg", &words_of_ima(&text("log")?))?;
    let entries = list::parse(&text("ascii_runtime_measurements")?, &text("binary_runtime_measurements")?)?;
    if !tpm {
        return write("verify", b"no TPM\n");
    }
    let extended: BTreeSet<u32> = entries.iter().map(list::Entry::pcr).collect::<Result<_>>()?;
    let registers = registers(&String::from_utf8(text("registers")?)?, &extended)?;
    write("pcr", registers.as_bytes())?;
    // The oracle is believed only if its list is what its TPM was told.
    list::matches_registers(&entries, &registers).context("the guest's list and TPM disagree")?;
    write("verify", b"the list replays to every bank of the TPM\n")
}

/// The registers 0 to 9 and those extended, in lower case.
fn registers(text: &str, extended: &BTreeSet<u32>) -> Result<String> {
    let mut kept = String::new();
    for value in crate::pcrs::parse(text)? {
        if value.index < 10 || extended.contains(&value.index) {
            writeln!(kept, "{} {} {}", value.bank, value.index, value.hex).context("cannot write")?;
        }
    }
    Ok(kept)
}

/// Audit records without those of the player's own reading of counters between operations.
fn of_the_scenario(records: &[u8]) -> Vec<u8> {
    let own = b"\ttype=1805 file=\"/sys/kernel/security/";
    let foreign = |line: &&[u8]| !line.windows(own.len()).any(|window| window == own);
    records.split_inclusive(|byte| *byte == b'\n').filter(foreign).flatten().copied().collect()
}

/// Audit records with `*` for process ids.
fn without_ids(records: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    for line in records.split_inclusive(|byte| *byte == b'\n') {
        let mut words = line.split(|byte| *byte == b' ');
        let mut first = true;
        for word in &mut words {
            if !std::mem::take(&mut first) {
                kept.push(b' ');
            }
            let id = [&b"pid="[..], b"ppid="].into_iter().find(|key| word.starts_with(key));
            match id {
                Some(key) => {
                    kept.extend_from_slice(key);
                    kept.push(b'*');
                }
                None => kept.extend_from_slice(word),
            }
        }
    }
    kept
}

/// What IMA and its neighbours wrote to the kernel's log, without time stamps.
fn words_of_ima(log: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    for line in log.split(|byte| *byte == b'\n') {
        let stamp = line.iter().position(|byte| *byte == b']').map_or(0, |at| at + 2);
        let words = line.get(stamp..).unwrap_or_default();
        if [&b"ima: "[..], b"integrity: ", b"evm: "].iter().any(|who| words.starts_with(who)) {
            kept.extend_from_slice(words);
            kept.push(b'\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_lose_process_ids_and_nothing_else() {
        let records = b"3\ttype=1805 file=\"/t/pid=1\" ppid=12 pid=13 uid=0\n4\ttype=1800 pid=9 uid=1\n";
        let kept = b"3\ttype=1805 file=\"/t/pid=1\" ppid=* pid=* uid=0\n4\ttype=1800 pid=* uid=1\n";
        assert_eq!(without_ids(records), kept);
    }

    #[test]
    fn records_of_the_player_itself_are_left_out() {
        let own = b"1\ttype=1805 file=\"/sys/kernel/security/integrity/ima/violations\" hash=\"x\"\n";
        let kept = b"1\ttype=1805 file=\"/t/sys/kernel/security/\" hash=\"x\"\n";
        assert_eq!(of_the_scenario(&[&own[..], kept].concat()), kept);
    }

    #[test]
    fn only_the_words_of_ima_are_kept_of_the_log() {
        let log = b"[    0.1] ima: No TPM\n[    0.2] usb: hub\n[    0.3] integrity: no key\n";
        assert_eq!(words_of_ima(log), b"ima: No TPM\nintegrity: no key\n");
    }

    #[test]
    fn registers_are_those_of_the_boot_and_those_extended() {
        let text = "sha1 9 AB\nsha1 10 CD\nsha1 11 EF\n";
        assert_eq!(registers(text, &BTreeSet::from([11])).unwrap(), "sha1 9 ab\nsha1 11 ef\n");
    }
}
