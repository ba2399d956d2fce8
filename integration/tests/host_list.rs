//! Many mounts on one TPM, some of them killed: the host list replays to the PCR, each mount's list to its own.
//!
//! Twenty mounts by default; `IMAFS_MOUNTS=200 cargo test -p integration --test host_list` (`make host-list`) for more.

use anyhow::{Context, Result, ensure};
use integration::process::{output, succeed, until};
use integration::swtpm::Swtpm;
use integration::{Mount, Need, Stand, need, pcrs};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const POLICY: &str = "measure func=FILE_CHECK mask=MAY_READ\n";
const FILES: usize = 200;
const KILLS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// How many mounts share the TPM.
fn mounts() -> Result<usize> {
    std::env::var("IMAFS_MOUNTS").map_or(Ok(20), |text| text.parse().context("IMAFS_MOUNTS is no number"))
}

/// Mounts of one host: they share a run directory, which the builder would give each its own of.
struct Host<'a> {
    stand: &'a Stand,
    tcti: String,
    run_dir: PathBuf,
}

impl Host<'_> {
    fn start(&self, ns: usize) -> Result<Mount> {
        self.start_with(ns, &[])
    }

    fn start_with(&self, ns: usize, args: &[&str]) -> Result<Mount> {
        let builder = self.stand.mount()?.policy(POLICY)?.run_dir_at(&self.run_dir).args(args);
        let builder =
            builder.args(["--tpm", &self.tcti, "--host-list", "main", "--ns-id", &format!("ns-{ns}")]);
        builder.start()
    }

    /// The host list replays to the PCR.
    fn replays(&self, tpm: &Swtpm) -> Result<()> {
        let bytes = std::fs::read(self.run_dir.join("tpm/main/list")).context("cannot read the host list")?;
        for value in tpm.pcr(10)? {
            let replayed = pcrs::replay(&bytes, &value.bank)?;
            ensure!(replayed == value, "the host list replays to {replayed:?}, the TPM has {value:?}");
        }
        evmctl_replays(&bytes, tpm, self.stand.scratch.path())
    }
}

/// The mount's own list and registers, before evmctl.
fn own_list_replays(mount: &Mount, dir: &Path) -> Result<u64> {
    let list = dir.join("own-list");
    std::fs::write(&list, mount.control("integrity/ima/binary_runtime_measurements")?)?;
    let values = pcrs::parse(&String::from_utf8(mount.control("pcrs")?)?)?;
    let entries = mount.control_number("integrity/ima/runtime_measurements_count")?;
    pcrs::evmctl_accepts(&list, entries, &values, dir)?;
    Ok(entries)
}

/// Opens files of this mount until told to stop, or until the mount is gone.
fn load(target: &Path, stop: &AtomicBool) {
    for number in (0..FILES).cycle() {
        if stop.load(Ordering::Relaxed) || std::fs::read(target.join(format!("file-{number}"))).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_host_list_of_many_mounts_replays_to_the_pcr_though_some_are_killed() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Tpm);
    let stand = Stand::new()?;
    for number in 0..FILES {
        stand.file(&format!("file-{number}"), format!("content {number}\n"), 0o644)?;
    }
    let tpm = Swtpm::start(&stand.scratch)?;
    let host = Host { stand: &stand, tcti: tpm.tcti(), run_dir: stand.scratch.dir("run")? };
    let count = mounts()?;
    let mut running: Vec<(usize, Mount)> =
        (0..count).map(|ns| Ok((ns, host.start(ns)?))).collect::<Result<_>>()?;
    let stop = AtomicBool::new(false);
    let mut seed = 20_261_122_usize;
    std::thread::scope(|scope| -> Result<()> {
        let stop = &stop;
        let work = |mount: &Mount| {
            let target = mount.target().to_owned();
            scope.spawn(move || load(&target, stop));
        };
        running.iter().for_each(|(_, mount)| work(mount));
        let mut story = || -> Result<()> {
            for _ in 0..KILLS {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let which = (seed >> 33) % running.len();
                std::thread::sleep(Duration::from_millis((seed >> 20) as u64 % 60));
                let (ns, victim) = running.swap_remove(which);
                victim.signal(Signal::KILL)?;
                let target = victim.target().to_owned();
                let mut umount = victim.imafs(&["umount", "--lazy", &target.to_string_lossy()])?;
                victim.wait()?;
                succeed(&mut umount)?;
                let again = host.start(ns)?;
                work(&again);
                running.push((ns, again));
            }
            Ok(())
        };
        let told = story();
        stop.store(true, Ordering::Relaxed);
        told
    })?;
    // What the last one that was killed left is put in order by the next line, which each of these writes.
    for (_, mount) in &running {
        let number = FILES + 1;
        stand.file(&format!("file-{number}"), format!("content {number}\n"), 0o644)?;
        std::fs::read(mount.path(format!("file-{number}"))).context("a mount that was left alone denies")?;
    }
    host.replays(&tpm)?;
    for (_, mount) in &running {
        own_list_replays(mount, stand.scratch.path())?;
    }
    for (_, mount) in running {
        mount.stop()?;
    }
    Ok(())
}

/// The host list has the form of a kernel's, so evmctl replays it.
fn evmctl_replays(bytes: &[u8], tpm: &Swtpm, dir: &Path) -> Result<()> {
    let list = dir.join("host-list");
    std::fs::write(&list, bytes)?;
    let lines = bytes.windows(10).filter(|window| *window == b"\x06\0\0\0ima-ns").count();
    pcrs::evmctl_accepts(&list, lines as u64, &tpm.pcr(10)?, dir)
}

/// Whether a process holds the lock on the host list, by the kernel's table.
fn holds_lock(host: &Host<'_>, pid: u32) -> Result<bool> {
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(host.run_dir.join("tpm/main/lock"))?);
    let locks = std::fs::read_to_string("/proc/locks").context("cannot read /proc/locks")?;
    let of = |line: &str| {
        line.contains("FLOCK")
            && !line.contains("->")
            && line.contains(&format!(" {pid} "))
            && line.contains(&format!(":{inode} "))
    };
    Ok(locks.lines().any(of))
}

/// Whether all threads of a process are stopped.
fn is_stopped(pid: u32) -> Result<bool> {
    let mut threads = std::fs::read_dir(format!("/proc/{pid}/task")).context("cannot list the threads")?;
    threads.try_fold(true, |stopped, thread| {
        let stat = std::fs::read_to_string(thread?.path().join("stat")).context("cannot read its state")?;
        Ok(stopped && stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
    })
}

#[test]
fn a_mount_that_is_stopped_with_the_lock_denies_others_for_a_while_and_is_named() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Tpm);
    let stand = Stand::new()?;
    for number in 0..FILES {
        stand.file(&format!("file-{number}"), format!("content {number}\n"), 0o644)?;
    }
    let tpm = Swtpm::start(&stand.scratch)?;
    let host = Host { stand: &stand, tcti: tpm.tcti(), run_dir: stand.scratch.dir("run")? };
    let (holder, strict) = (host.start(0)?, host.start(1)?);
    let lenient = host.start_with(2, &["--tpm-fail", "log"])?;
    let read = |mount: &Mount, number: usize| std::fs::read(mount.path(format!("file-{number}")));
    for mount in [&holder, &strict, &lenient] {
        read(mount, 0)?;
    }
    let (denials, leniencies) = (strict.mark()?, lenient.mark()?);
    std::thread::scope(|scope| -> Result<()> {
        // A TPM that does not answer keeps its user in the midst of a line.
        tpm.signal(Signal::STOP)?;
        let held = scope.spawn(|| read(&holder, 1));
        let story = || -> Result<()> {
            ensure!(until(PATIENCE, || holds_lock(&host, holder.pid()))?, "the lock is not taken");
            holder.signal(Signal::STOP)?;
            // A signal takes effect later, and the answer must find it stopped.
            ensure!(until(PATIENCE, || is_stopped(holder.pid()))?, "it does not stop");
            tpm.signal(Signal::CONT)?;
            let waits = [&strict, &lenient].map(|mount| scope.spawn(|| read(mount, 1)));
            let [strictly, leniently] = waits.map(std::thread::ScopedJoinHandle::join);
            let refused = strictly.ok().context("a thread panicked")?.err().context("served unmeasured")?;
            ensure!(refused.kind() == std::io::ErrorKind::PermissionDenied, "{refused}");
            leniently.ok().context("a thread panicked")?.context("it was told to log")?;
            // Nobody waits that long again; what was measured before is served all the same.
            for number in 2..20 {
                ensure!(read(&strict, number).is_err(), "file {number} is served unmeasured");
            }
            read(&strict, 0).map(drop).context("a measured file waits")
        };
        let told = story();
        holder.signal(Signal::CONT)?;
        tpm.signal(Signal::CONT)?;
        held.join().ok().context("a thread panicked")?.context("the holder's own open")?;
        told
    })?;
    let failed = |record: &integration::Record| record.text("op") == "add_template_measure";
    let denied = strict.records().since(denials, 19, failed)?;
    ensure!(denied.len() == 19, "{} records of nineteen denials", denied.len());
    ensure!(denied.iter().all(|record| record.text("cause") == "TPM_error(-110)"), "{denied:?}");
    ensure!(lenient.records().since(leniencies, 1, failed)?.len() == 1, "nothing is recorded");
    // The log has it once, and by name.
    let named = format!("process {}, which is stopped, holds the host list", holder.pid());
    let told = strict.log().lines().filter(|line| line.contains("cannot measure")).count();
    ensure!(strict.log().contains(&named) && told == 1, "{told} lines:\n{}", strict.log());
    for mount in [&strict, &lenient] {
        let caught_up = until(PATIENCE, || Ok(mount.status()?.get("measurements-due") == Some(&0.into())));
        ensure!(caught_up?, "no recovery: {}", mount.status()?);
        read(mount, 30).context("denied after the recovery")?;
        own_list_replays(mount, stand.scratch.path())?;
    }
    host.replays(&tpm)
}

#[test]
fn a_host_list_that_cannot_be_used_is_refused_with_the_next_step() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("swtpm"));
    let stand = Stand::new()?;
    let tpm = Swtpm::start(&stand.scratch)?;
    let host = Host { stand: &stand, tcti: tpm.tcti(), run_dir: stand.scratch.dir("run")? };
    let first = host.start(0)?;
    let tcti = tpm.tcti();
    let cases: [(&[&str], &str); 4] = [
        (&["--tpm", &tcti, "--host-list", "main", "--pcr", "11"], "--pcr 10"),
        (&["--tpm", &tcti, "--host-list", "another"], "no line of the host list explains"),
        (&["--tpm", &tcti], "--host-list"),
        (&["--host-list", "main"], "--tpm device:/dev/tpmrm0"),
    ];
    for (args, words) in cases {
        let builder = stand.mount()?.policy(POLICY)?.run_dir_at(&host.run_dir).args(args);
        let out = output(&mut builder.command()?)?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(out.status.code() == Some(2), "{args:?}: ended with {}: {said}", out.status);
        ensure!(said.contains(words), "{args:?}: {said}");
    }
    let text = succeed(&mut first.imafs(&["status", "--json", &first.target().to_string_lossy()])?)?;
    ensure!(text.contains("\"host-list\":\"main\""), "{text}");
    first.stop().map(drop)
}
