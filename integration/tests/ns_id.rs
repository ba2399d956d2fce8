//! What bears a mount's id is that mount's alone: two that want the same at once, and one that ends while the next begins.

use anyhow::{Context, Result, ensure};
use integration::process::{output, succeed, until};
use integration::swtpm::pcrread;
use integration::{MountBuilder, Need, Stand, need};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

const POLICY: &str = "measure func=FILE_CHECK mask=MAY_READ\n";
const PATIENCE: Duration = Duration::from_secs(60);
const ROUNDS: usize = 6;

fn builder(stand: &Stand, run_dir: &Path) -> Result<MountBuilder> {
    let builder = stand.mount()?.policy(POLICY)?.run_dir_at(run_dir);
    Ok(builder.args(["--tpm", "swtpm", "--ns-id", "same"]))
}

/// That the TPM of the mount with the id answers where it says it is, and that the mount extends it.
fn tpm_answers(run_dir: &Path, target: &Path, file: &str) -> Result<()> {
    let tcti = format!("swtpm:path={}", run_dir.join("mounts/same.tpm.sock").display());
    let before = pcrread(&tcti, 10).context("the TPM's socket is gone")?;
    std::fs::read(target.join(file)).with_context(|| format!("{file} is refused"))?;
    ensure!(pcrread(&tcti, 10)? != before, "it is not the mount's TPM that answers");
    Ok(())
}

fn run_dir(stand: &Stand) -> Result<PathBuf> {
    for number in 0..ROUNDS * 2 {
        stand.file(&format!("file-{number}"), format!("content {number}\n"), 0o644)?;
    }
    stand.scratch.dir("run")
}

#[test]
fn of_two_mounts_that_begin_with_one_id_one_is_made_and_whole() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("tpm2_pcrread"));
    let stand = Stand::new()?;
    let run_dir = run_dir(&stand)?;
    for round in 0..ROUNDS {
        let both = [builder(&stand, &run_dir)?, builder(&stand, &run_dir)?];
        let mut commands = [both[0].command()?, both[1].command()?];
        let outputs = std::thread::scope(|scope| -> Result<Vec<Output>> {
            let running: Vec<_> =
                commands.iter_mut().map(|command| scope.spawn(|| output(command))).collect();
            let joined =
                running.into_iter().map(|one| one.join().map_err(|_| anyhow::anyhow!("panicked"))?);
            joined.collect()
        })?;
        let made: Vec<bool> = outputs.iter().map(|out| out.status.success()).collect();
        let said: Vec<_> = outputs.iter().map(|out| String::from_utf8_lossy(&out.stderr)).collect();
        let winner = made.iter().position(|made| *made).with_context(|| format!("neither: {said:?}"))?;
        ensure!(!made[1 - winner], "round {round}: both are mounted");
        ensure!(said[1 - winner].contains("a mount with the id same"), "{said:?}");
        let target = both[winner].target();
        let checked = tpm_answers(&run_dir, &target, &format!("file-{round}"));
        let mut umount = std::process::Command::new(integration::process::ours("imafs")?);
        succeed(umount.env("IMAFS_RUN_DIR", &run_dir).arg("umount").arg(&target))?;
        checked.with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

#[test]
fn a_mount_that_ends_takes_nothing_of_the_next() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"), Need::Program("tpm2_pcrread"));
    let stand = Stand::new()?;
    let run_dir = run_dir(&stand)?;
    let mut mount = builder(&stand, &run_dir)?.start()?;
    for round in 0..ROUNDS {
        tpm_answers(&run_dir, mount.target(), &format!("file-{round}"))?;
        mount.signal(Signal::TERM)?;
        // While it ends, the next tries to begin.
        let mut next = None;
        let begun = until(PATIENCE, || {
            next = builder(&stand, &run_dir)?.start().ok();
            Ok(next.is_some())
        })?;
        ensure!(begun, "no mount follows");
        mount.wait()?;
        mount = next.context("no mount follows")?;
        tpm_answers(&run_dir, mount.target(), &format!("file-{}", ROUNDS + round))?;
    }
    mount.stop().map(drop)
}
