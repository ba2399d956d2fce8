//! The list in a real TPM emulator: judged by `tpm2_pcrread` and `evmctl`, killed under load, and started by imafs.

use anyhow::{Context, Result, bail, ensure};
use integration::attestation::{NONCE, judge, quote};
use integration::keylime::{self, Question};
use integration::process::{output, until};
use integration::swtpm::{BANKS, Swtpm, pcrread};
use integration::{Mount, Need, Stand, need, pcrs};
use rustix::process::Signal;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const THREADS: usize = 8;
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

/// Keylime's own replay meets each bank, and none without the list's last entry.
fn keylime_replays(mount: &Mount, values: &[pcrs::Value], dir: &Path) -> Result<()> {
    let list = mount.control("integrity/ima/ascii_runtime_measurements")?;
    let last = list.trim_ascii_end().iter().rposition(|byte| *byte == b'\n').context("one line")?;
    for value in values {
        for (end, wrong) in [(list.len(), None), (last + 1, Some("ima.pcr_mismatch"))] {
            let (bank, pcr) = (value.bank.clone(), value.hex.clone());
            let list = list.get(..end).unwrap_or_default().to_vec();
            let answer = keylime::ask(&Question { list, bank, pcr, ..Question::default() }, dir)?;
            ensure!(answer.wrong == Vec::from_iter(wrong), "{}: Keylime says {:?}", value.bank, answer.wrong);
            ensure!(
                (answer.pcr == value.hex) == wrong.is_none(),
                "{}: Keylime has {}",
                value.bank,
                answer.pcr
            );
        }
    }
    Ok(())
}

/// Puts the mount's list and these registers before evmctl, which has to meet two of the banks at the list's last
/// entry; the other two are computed.
fn replays(mount: &Mount, values: &[pcrs::Value], dir: &Path) -> Result<u64> {
    let list = dir.join("list");
    let bytes = mount.control("integrity/ima/binary_runtime_measurements")?;
    std::fs::write(&list, &bytes)?;
    let entries = mount.control_number("integrity/ima/runtime_measurements_count")?;
    pcrs::evmctl_accepts(&list, entries, values, dir)?;
    for bank in BANKS {
        let replayed = pcrs::replay(&bytes, bank)?;
        ensure!(values.contains(&replayed), "{bank}: the list replays to {}", replayed.hex);
    }
    Ok(entries)
}

/// Has imafs-attest replay evidence of the mount: in each bank to what `tpm2_pcrread` says.
fn attest_replays(mount: &Mount, values: &[pcrs::Value], dir: &Path) -> Result<()> {
    let evidence = dir.join("evidence");
    let key = quote(mount, NONCE, &evidence)?;
    // Every file of the mount's source, as coreutils digest it.
    let digests = integration::process::succeed(
        Command::new("sh").args(["-c", "sha256sum file-* > ../digests"]).current_dir(dir.join("source")),
    );
    digests.context("cannot digest the source")?;
    let digests = dir.join("digests");
    let digests = digests.to_str().context("not UTF-8")?;
    let (status, verdict) = judge(&evidence, NONCE, &["--ak", &key, "--digests", digests])?;
    ensure!(status == 0, "{verdict}");
    let registers = verdict.get("registers").and_then(serde_json::Value::as_array).context("no registers")?;
    ensure!(registers.len() == BANKS.len(), "{registers:?}");
    for value in values {
        let replayed = registers.iter().any(|register| {
            register.get("bank") == Some(&value.bank.as_str().into())
                && register.get("replayed") == Some(&value.hex.as_str().into())
        });
        ensure!(replayed, "imafs-attest replays {} to something else: {registers:?}", value.bank);
    }
    Ok(())
}

fn on_threads(work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || work(first))).collect();
        for thread in threads {
            match thread.join() {
                Ok(done) => done?,
                Err(_) => bail!("a thread panicked"),
            }
        }
        Ok(())
    })
}

#[test]
fn five_thousand_measured_opens_from_eight_threads_replay_to_every_bank() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Tpm, Need::Keylime);
    const FILES: usize = 5_000;
    let stand = Stand::new()?;
    files(&stand, FILES)?;
    let tpm = Swtpm::start(&stand.scratch)?;
    let mount = stand.mount()?.policy(POLICY)?.args(["--tpm", &tpm.tcti()]).start()?;
    on_threads(|first| {
        for number in (first..FILES).step_by(THREADS) {
            read(&mount, number).with_context(|| format!("cannot read file {number}"))?;
        }
        Ok(())
    })?;
    let values = tpm.pcr(10)?;
    let entries = replays(&mount, &values, stand.scratch.path())?;
    ensure!(entries == FILES as u64 + 1, "{entries} entries");
    attest_replays(&mount, &values, stand.scratch.path())?;
    keylime_replays(&mount, &values, stand.scratch.path())?;
    // And what the mount shows is what the TPM says.
    let shown = pcrs::parse(&String::from_utf8(mount.control("pcrs")?)?)?;
    ensure!(values.iter().all(|value| shown.contains(value)), "{shown:?}");
    mount.stop()?;
    // The registers are the TPM's: they outlive the mount.
    ensure!(tpm.pcr(10)? == values, "the registers have changed");
    Ok(())
}

#[test]
fn a_tpm_that_is_killed_under_load_denies_with_its_cause_and_is_picked_up_again() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Tpm);
    let stand = Stand::new()?;
    files(&stand, 1)?;
    let mut tpm = Swtpm::start(&stand.scratch)?;
    let mount = stand.mount()?.policy(POLICY)?.args(["--tpm", &tpm.tcti()]).start()?;
    let (next, stop, denied) = (AtomicUsize::new(1), AtomicBool::new(false), AtomicUsize::new(0));
    read(&mount, 0)?;
    std::thread::scope(|scope| -> Result<()> {
        let load = || -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                // New every time, so that there is always something to measure.
                let number = next.fetch_add(1, Ordering::Relaxed);
                stand.file(&format!("file-{number}"), format!("content {number}\n"), 0o644)?;
                match read(&mount, number) {
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                        denied.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err(error) => bail!("file {number}: {error}"),
                }
            }
            Ok(())
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
        let mut story = || -> Result<()> {
            for _ in 0..3 {
                std::thread::sleep(Duration::from_millis(150));
                tpm.kill()?;
                let before = denied.load(Ordering::Relaxed);
                ensure!(
                    until(PATIENCE, || Ok(denied.load(Ordering::Relaxed) > before))?,
                    "nothing is denied"
                );
                // What was measured before is served all the same.
                read(&mount, 0).context("a measured file waits for the TPM")?;
                tpm.restart()?;
                ensure!(
                    until(PATIENCE, || Ok(mount.status()?.get("measurements-due") == Some(&0.into())))?,
                    "no recovery"
                );
            }
            Ok(())
        };
        let told = story();
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        told
    })?;
    replays(&mount, &tpm.pcr(10)?, stand.scratch.path())?;
    let causes = mount
        .records()
        .since(mount.records().beginning(), 1, |record| record.text("op") == "add_template_measure")?;
    ensure!(!causes.is_empty(), "no record of a failed extend");
    for record in causes {
        // ECONNREFUSED or ENOENT where nobody listened, EIO where the connection broke.
        let cause = record.text("cause");
        let known = ["TPM_error(-111)", "TPM_error(-2)", "TPM_error(-5)"].contains(&cause.as_str());
        ensure!(known, "another cause: {record:?}");
    }
    Ok(())
}

#[test]
fn a_mount_told_to_log_serves_without_its_tpm_and_extends_later() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Tpm);
    let stand = Stand::new()?;
    files(&stand, 40)?;
    let mut tpm = Swtpm::start(&stand.scratch)?;
    let builder = stand.mount()?.policy(POLICY)?.args(["--tpm", &tpm.tcti(), "--tpm-fail", "log"]);
    let mount = builder.start()?;
    for number in 0..10 {
        read(&mount, number)?;
    }
    let mark = mount.records().mark()?;
    tpm.kill()?;
    for number in 10..20 {
        read(&mount, number).context("it is not served without the TPM")?;
    }
    let failed = |record: &integration::Record| record.text("op") == "add_template_measure";
    let records = mount.records().since(mark, 10, failed)?;
    ensure!(records.len() == 10, "{} records of ten failed extends", records.len());
    let facts = mount.status()?;
    ensure!(facts.get("measurements-due") == Some(&10.into()), "{facts}");
    ensure!(facts.get("tpm-state") == Some(&"TPM_error(-111)".into()), "{facts}");
    tpm.restart()?;
    for number in 20..30 {
        read(&mount, number)?;
    }
    ensure!(mount.status()?.get("tpm-state") == Some(&"ready".into()), "{}", mount.status()?);
    ensure!(replays(&mount, &tpm.pcr(10)?, stand.scratch.path())? == 31, "another number of entries");
    Ok(())
}

#[test]
fn readers_of_measured_files_do_not_wait_for_a_tpm_that_hangs() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Tpm);
    let stand = Stand::new()?;
    files(&stand, 2)?;
    let tpm = Swtpm::start(&stand.scratch)?;
    let mount = stand.mount()?.policy(POLICY)?.args(["--tpm", &tpm.tcti()]).start()?;
    read(&mount, 0)?;
    tpm.signal(Signal::STOP)?;
    std::thread::scope(|scope| -> Result<()> {
        let new = scope.spawn(|| read(&mount, 1));
        for _ in 0..100 {
            read(&mount, 0)?;
        }
        ensure!(!new.is_finished(), "a new file was served without its extend");
        tpm.signal(Signal::CONT)?;
        new.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        Ok(())
    })?;
    ensure!(replays(&mount, &tpm.pcr(10)?, stand.scratch.path())? == 3, "another number of entries");
    Ok(())
}

#[test]
fn a_tpm_of_the_mounts_own_comes_and_goes_with_it() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Tpm);
    let stand = Stand::new()?;
    files(&stand, 5)?;
    let builder = stand.mount()?.policy(POLICY)?.args(["--tpm", "swtpm", "--ns-id", "own"]);
    let mounts = builder.run_dir().join("mounts");
    let mount = builder.start()?;
    for number in 0..5 {
        read(&mount, number)?;
    }
    let tcti = format!("swtpm:path={}", mounts.join("own.tpm.sock").display());
    let facts = mount.status()?;
    ensure!(facts.get("tpm-at") == Some(&tcti.clone().into()), "{facts}");
    ensure!(facts.get("tpm-state") == Some(&"ready".into()), "{facts}");
    // The container learns which banks there are, and nothing of the host's paths.
    let inside: serde_json::Value = serde_json::from_slice(&mount.control("status")?)?;
    ensure!(inside.get("tpm-banks").is_some() && inside.get("tpm-at").is_none(), "{inside}");
    ensure!(replays(&mount, &pcrread(&tcti, 10)?, stand.scratch.path())? == 6, "another number of entries");
    let log = mount.log();
    mount.stop()?;
    ensure!(!log.contains("tcti") && !log.contains("esys"), "libtss2 was not quiet:\n{log}");
    left_nothing(&mounts)?;
    ensure!(swtpms_of(&mounts)?.is_empty(), "its swtpm still runs");
    Ok(())
}

#[test]
fn a_tpm_of_a_mount_that_is_killed_dies_with_it_and_is_cleared_away() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"));
    let stand = Stand::new()?;
    files(&stand, 1)?;
    let builder = stand.mount()?.policy(POLICY)?.args(["--tpm", "swtpm", "--ns-id", "own"]);
    let mounts = builder.run_dir().join("mounts");
    let mount = builder.start()?;
    read(&mount, 0)?;
    ensure!(swtpms_of(&mounts)?.len() == 1, "no swtpm runs");
    let target = mount.target().to_string_lossy().into_owned();
    let mut umount = mount.imafs(&["umount", &target])?;
    mount.signal(Signal::KILL)?;
    mount.wait()?;
    ensure!(until(PATIENCE, || Ok(swtpms_of(&mounts)?.is_empty()))?, "its swtpm still runs");
    integration::process::succeed(&mut umount)?;
    left_nothing(&mounts)
}

/// That the run directory holds nothing of a TPM any more.
fn left_nothing(mounts: &Path) -> Result<()> {
    for entry in std::fs::read_dir(mounts).context("cannot list the run directory")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        ensure!(!name.contains("tpm"), "{name} was left behind");
    }
    Ok(())
}

/// The swtpm processes with a path beneath `dir` on their command line.
fn swtpms_of(dir: &Path) -> Result<Vec<String>> {
    let ours = |process: std::fs::DirEntry| {
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        (line.starts_with("swtpm\0") && line.contains(&*dir.to_string_lossy())).then_some(line)
    };
    Ok(std::fs::read_dir("/proc").context("cannot list /proc")?.flatten().filter_map(ours).collect())
}

#[test]
fn what_is_no_usable_tpm_is_refused_with_the_next_step() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"));
    let stand = Stand::new()?;
    let tpm = Swtpm::start(&stand.scratch)?;
    let first = stand.mount()?.policy(POLICY)?.args(["--tpm", &tpm.tcti()]).start()?;
    let missing = "device:/dev/no-such-tpm";
    let cases = [
        (missing.to_owned(), "no such file or directory", "ls /dev/tpm*"),
        ("swtpm:path=/nowhere/sock".to_owned(), "no such file or directory", "--tpm swtpm"),
        ("swtpm:host=127.0.0.1,port=1".to_owned(), "connection refused", "--tpm swtpm"),
        ("sotf".to_owned(), "unknown TPM 'sotf'", "did you mean 'soft'"),
        // The first mount extends its registers, and this one's list could never be shown to replay to them.
        (tpm.tcti(), "PCR 10 of the TPM has been extended already", "--host-list"),
    ];
    for (tcti, reason, advice) in cases {
        let builder = stand.mount()?.policy(POLICY)?.args(["--tpm", &tcti]);
        let out = output(&mut builder.command()?)?;
        let words = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(out.status.code() == Some(2), "{tcti}: ended with {}: {words}", out.status);
        ensure!(words.contains(reason) && words.contains(advice), "{tcti}: {words}");
        ensure!(!words.contains("ERROR:"), "libtss2 was not quiet:\n{words}");
        ensure!(!integration::scratch::is_fuse_mount(&builder.target()), "it is mounted all the same");
    }
    first.stop().map(drop)
}
