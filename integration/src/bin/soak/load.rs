//! The load: four kinds of worker, each a command run over and over until time is up.
//!
//! Nothing a worker does may fail: its first failure is kept and ends that worker.

use integration::Keys;
use integration::process::ours;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

/// One worker: a shell script, and how often it has run.
#[derive(Debug)]
struct Worker {
    name: &'static str,
    script: String,
    rounds: AtomicU64,
}

/// All workers.
#[derive(Debug)]
pub struct Load {
    workers: Vec<Worker>,
    stop: AtomicBool,
}

/// Four jobs on files of their own, mixed reading and writing, with what was written verified. A minute at most at
/// a time, so that the files are opened and closed too.
const FIO: &str = "fio --name=soak --directory=MOUNT/fio --numjobs=4 --rw=randrw --size=24M --bsrange=4k-128k \
    --ioengine=psync --fsync=128 --time_based --runtime=RUNTIME --fallocate=none --group_reporting --output-format=terse \
    && fio --name=verify --directory=MOUNT/fio --numjobs=4 --rw=randwrite --size=8M --bs=64k --ioengine=psync \
    --verify=crc32c --do_verify=1 --verify_fatal=1 --fallocate=none --group_reporting --output-format=terse";

/// The same number of files each time, and no complaint.
const FIND: &str = "count=$(find MOUNT/usr MOUNT/etc MOUNT/var -xdev | wc -l); sleep 1
    again=$(find MOUNT/usr MOUNT/etc MOUNT/var -xdev -printf '%m %s\\n' | wc -l)
    [ $count = $again ] || { echo \"find saw $count, then $again\" >&2; exit 1; }";

/// Two hundred programs, half of them through a shell script, all inside.
const EXEC: &str = "chroot MOUNT /bin/sh -ec 'i=0; while [ $i -lt 100 ]; do /bin/true; /bin/ls / > /dev/null; i=$((i + 1)); done'";

/// Signs a tree inside and verifies it again.
const SIGN: &str = "SIGN sign --force --key KEY --cert CERT MOUNT/usr/bin > /dev/null && SIGN verify --cert CERT MOUNT/usr/bin > /dev/null";

impl Load {
    /// On the root filesystem mounted at `target`.
    pub fn new(target: &Path, keys: &Keys, length: Duration) -> Self {
        let sign = ours("imafs-sign").unwrap_or_default();
        let fill = |script: &str| {
            script
                .replace("MOUNT", &target.to_string_lossy())
                .replace("RUNTIME", &length.as_secs().min(60).to_string())
                .replace("SIGN", &sign.to_string_lossy())
                .replace("KEY", &keys.key.to_string_lossy())
                .replace("CERT", &keys.certificate.to_string_lossy())
        };
        let worker = |(name, script)| Worker { name, script: fill(script), rounds: AtomicU64::new(0) };
        let workers = [("fio", FIO), ("find", FIND), ("exec", EXEC), ("sign", SIGN)].map(worker).into();
        Self { workers, stop: AtomicBool::new(false) }
    }

    /// Starts every worker; each handle gives what failed, if anything did.
    pub fn start<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
    ) -> Vec<ScopedJoinHandle<'scope, Option<String>>> {
        self.workers.iter().map(|worker| scope.spawn(|| worker.run(&self.stop))).collect()
    }

    /// Asks every worker to end after its present round.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Says how often each worker ran.
    pub fn report(&self) {
        for worker in &self.workers {
            println!("soak: {} ran {} times", worker.name, worker.rounds.load(Ordering::Relaxed));
        }
    }
}

impl Worker {
    fn run(&self, stop: &AtomicBool) -> Option<String> {
        while !stop.load(Ordering::Relaxed) {
            match Command::new("sh").args(["-ec", &self.script]).output() {
                Ok(Output { status, stderr, .. }) if status.success() && stderr.is_empty() => {
                    self.rounds.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Output { status, stderr, .. }) => {
                    return Some(format!("{}: {status}: {}", self.name, String::from_utf8_lossy(&stderr)));
                }
                Err(e) => return Some(format!("{}: cannot run: {e}", self.name)),
            }
        }
        None
    }
}
