//! `make soak`: a long, mixed load on one mount that measures everything, and a look at what it costs imafs.
//!
//! Question: do memory, descriptors or threads of the imafs process grow with time, and does any operation fail that
//! should not? A Debian root filesystem is mounted; fio with four jobs, `find`, a storm of execs under chroot and
//! `imafs-sign` of a tree inside all run at once for `$IMAFS_SOAK_SECONDS` (default 1200). Every five seconds the
//! process is sampled. It ends with 0 when nothing grew and nothing failed, else with 1 and the reasons.

mod load;
mod samples;

use anyhow::{Context, Result, bail};
use integration::keys::Kind;
use integration::{Keys, Mount, MountBuilder, Scratch, fixture, pcrs, process};
use samples::Samples;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn main() -> Result<()> {
    let seconds = std::env::var("IMAFS_SOAK_SECONDS").unwrap_or_else(|_| "1200".to_owned());
    let length = Duration::from_secs(seconds.parse().context("IMAFS_SOAK_SECONDS is not a number")?);
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("cannot watch for signals")?;
    }
    let scratch = Scratch::new()?;
    let (mount, keys) = prepare(&scratch, length)?;
    println!(
        "soak: {} s on {}, imafs is process {}",
        length.as_secs(),
        mount.target().display(),
        mount.pid()
    );
    let load = load::Load::new(mount.target(), &keys, length);
    let (samples, failures) = run(&mount, &load, length, &interrupted)?;
    if interrupted.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    load.report();
    let mut wrong = failures;
    wrong.extend(samples.growth());
    wrong.extend(after(&mount, &scratch));
    samples.write(&process::repository().join("target/soak.csv"))?;
    samples.summary();
    if wrong.is_empty() {
        println!("soak: nothing grew and nothing failed");
        return Ok(());
    }
    wrong.iter().for_each(|reason| eprintln!("soak: {reason}"));
    bail!("{} things went wrong", wrong.len())
}

/// The mount over a fresh Debian tree, and a key to sign with. RSA, because its signatures are always the same: the
/// list must not grow for signing the same file again.
fn prepare(scratch: &Scratch, length: Duration) -> Result<(Mount, Keys)> {
    let tar = fixture::debian_tar()?.context("the soak needs a root filesystem")?;
    let tree = scratch.path().join("debian");
    fixture::unpack(&tar, &tree)?;
    std::fs::create_dir(tree.join("fio")).context("cannot make fio's directory")?;
    let keys = Keys::make(&scratch.dir("keys")?, "soak", Kind::Rsa)?;
    // Loads end some time after they are told to.
    let limit = length + Duration::from_secs(300);
    let mount = MountBuilder::new(scratch, &tree)?
        .policy("measure\n")?
        .trust(&keys.certificate)
        .live_for(limit)
        .start()?;
    Ok((mount, keys))
}

/// Runs the load and samples beside it. Returns the samples, and what failed.
fn run(
    mount: &Mount,
    load: &load::Load,
    length: Duration,
    interrupted: &AtomicBool,
) -> Result<(Samples, Vec<String>)> {
    let start = Instant::now();
    let mut samples = Samples::default();
    let failures = std::thread::scope(|scope| -> Result<Vec<String>> {
        let workers = load.start(scope);
        let mut sampled = Ok(());
        while start.elapsed() < length && !interrupted.load(Ordering::Relaxed) && sampled.is_ok() {
            std::thread::sleep(samples::INTERVAL.min(length));
            sampled = samples.take(mount, start.elapsed());
        }
        load.stop();
        let failures =
            workers.into_iter().filter_map(|w| w.join().unwrap_or(Some("a worker panicked".to_owned())));
        let failures = failures.collect();
        sampled.map(|()| failures)
    })?;
    Ok((samples, failures))
}

/// What has to hold when all is quiet again.
fn after(mount: &Mount, scratch: &Scratch) -> Vec<String> {
    let refusals = || -> Result<usize> {
        let start = mount.records().beginning();
        Ok(mount.records().since(start, 0, integration::Record::is_refusal)?.len())
    };
    let mut wrong = Vec::new();
    match refusals() {
        Ok(0) => {}
        Ok(count) => wrong.push(format!("{count} refusals by a policy that refuses nothing")),
        Err(e) => wrong.push(format!("cannot read the records: {e:#}")),
    }
    if let Err(e) = list_replays(mount, scratch.path()) {
        wrong.push(format!("the list does not replay: {e:#}"));
    }
    if mount.log().contains("panicked") {
        wrong.push("imafs panicked; its log is below".to_owned());
    }
    wrong
}

fn list_replays(mount: &Mount, dir: &Path) -> Result<()> {
    let list = dir.join("list");
    std::fs::write(&list, mount.control("integrity/ima/binary_runtime_measurements")?)?;
    let values = pcrs::parse(&String::from_utf8(mount.control("pcrs")?)?)?;
    let entries = mount.control_number("integrity/ima/runtime_measurements_count")?;
    pcrs::evmctl_accepts(&list, entries, &values, dir)
}
