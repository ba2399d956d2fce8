//! The measurement list and the PCRs, judged by `evmctl ima_measurement`.

use anyhow::{Context, Result, bail, ensure};
use integration::{Mount, Need, Stand, need, pcrs};
use std::path::Path;

const FILES: usize = 2_500;
const OPENS: usize = 10_000;
const THREADS: usize = 8;

/// Opens and reads `OPENS` files from `THREADS` threads; each file is opened several times, by several threads.
fn open_from_all_threads(mount: &Mount) -> Result<()> {
    let open_share = |first: usize| -> Result<()> {
        for turn in (first..OPENS).step_by(THREADS) {
            // 7 and the number of files have no common divisor: each file gets its turn, threads do not walk alike.
            let path = mount.path(format!("file-{}", turn * 7 % FILES));
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || open_share(first))).collect();
        for thread in threads {
            if let Err(payload) = thread.join().map_err(|_| ()) {
                bail!("a thread panicked: {payload:?}");
            }
        }
        Ok(())
    })
}

/// Puts the list and the PCRs before evmctl.
fn evmctl_agrees(mount: &Mount, dir: &Path) -> Result<u64> {
    let list = dir.join("list");
    std::fs::write(&list, mount.control("integrity/ima/binary_runtime_measurements")?)?;
    let values = pcrs::parse(&String::from_utf8(mount.control("pcrs")?)?)?;
    let entries = mount.control_number("integrity/ima/runtime_measurements_count")?;
    pcrs::evmctl_accepts(&list, entries, &values, dir)?;
    Ok(entries)
}

#[test]
fn the_list_replays_to_the_pcrs_after_ten_thousand_opens_from_eight_threads() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("evmctl"));
    let stand = Stand::new()?;
    for number in 0..FILES {
        stand.file(&format!("file-{number}"), format!("content {number}\n"), 0o644)?;
    }
    let policy = "measure func=FILE_CHECK mask=MAY_READ\n";
    let mount = stand.mount()?.policy(policy)?.args(["--bank", "sha1,sha256"]).start()?;
    open_from_all_threads(&mount)?;
    let entries = evmctl_agrees(&mount, stand.scratch.path())?;
    ensure!(entries == FILES as u64 + 1, "{entries} entries for {FILES} files and boot_aggregate");
    ensure!(mount.measurements()?.lines().count() as u64 == entries, "the ASCII list has another length");
    ensure!(mount.violations()? == 0, "{} violations", mount.violations()?);
    Ok(())
}

#[test]
fn the_list_replays_to_the_pcrs_with_violations_in_it() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("evmctl"));
    let stand = Stand::new()?;
    for number in 0..20 {
        stand.file(&format!("file-{number}"), "content\n", 0o644)?;
    }
    let policy = "measure func=FILE_CHECK mask=MAY_READ\n";
    let mount = stand.mount()?.policy(policy)?.args(["--bank", "sha1,sha256"]).start()?;
    for number in 0..20 {
        let path = mount.path(format!("file-{number}"));
        let writer = std::fs::File::options().write(true).open(&path).context("cannot open to write")?;
        std::fs::read(&path).context("cannot read")?;
        drop(writer);
    }
    let entries = evmctl_agrees(&mount, stand.scratch.path())?;
    ensure!(entries == 41, "{entries} entries for 20 files, 20 violations and boot_aggregate");
    Ok(())
}

#[test]
fn the_list_of_a_mount_over_labelled_files_carries_their_signatures() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("evmctl"));
    let stand = Stand::new()?;
    stand.file("signed", "content\n", 0o644)?;
    stand.file("plain", "content\n", 0o644)?;
    stand.sign("signed")?;
    let policy = "measure func=FILE_CHECK mask=MAY_READ\n";
    let mount = stand.mount()?.policy(policy)?.args(["--template", "ima-sig"]).start()?;
    for name in ["signed", "plain"] {
        std::fs::read(mount.path(name)).context("cannot read")?;
    }
    let hex: String =
        integration::stand::label(&stand.source("signed"))?.iter().map(|b| format!("{b:02x}")).collect();
    let list = mount.measurements()?;
    // sha256sum of "content\n".
    let digest = "sha256:434728a410a78f56fc1b5899c3593436e61ab0c731e9072d95e96db290205e53";
    ensure!(
        list.contains(&format!(" ima-sig {digest} /signed {hex}\n")),
        "no signature in the list:\n{list}"
    );
    ensure!(list.contains(&format!(" ima-sig {digest} /plain \n")), "no line with an empty field:\n{list}");
    evmctl_agrees(&mount, stand.scratch.path()).map(drop)
}

/// A judge that says yes to everything would prove nothing: it has to accept what a real kernel and a real TPM left,
/// and refuse it with one digit changed.
#[test]
fn evmctl_accepts_a_kernels_own_list_and_refuses_a_changed_pcr() -> Result<()> {
    need!(Need::Program("evmctl"));
    let kernel = integration::process::repository().join("integration/golden/measure-basics/kernel");
    let list = kernel.join("binary_runtime_measurements");
    let entries: u64 = std::fs::read_to_string(kernel.join("runtime_measurements_count"))?.trim().parse()?;
    let mut values = pcrs::parse(&std::fs::read_to_string(kernel.join("pcr"))?)?;
    let scratch = integration::Scratch::new()?;
    pcrs::evmctl_accepts(&list, entries, &values, scratch.path())?;
    let changed = values.iter_mut().find(|v| v.bank == "sha256" && v.index == 10).context("no PCR 10")?;
    changed.hex = changed.hex.chars().rev().collect();
    ensure!(
        pcrs::evmctl_accepts(&list, entries, &values, scratch.path()).is_err(),
        "a wrong PCR was accepted"
    );
    Ok(())
}
