//! `imafs umount`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::daemon::run_dir::{RunDir, State};
use crate::daemon::{holders, mounts, socket};
use crate::failure::chain;
use crate::fs::Errno;
use crate::fuse::{self, MountError, Unmount};

use super::{Failure, NO, Outcome};

/// How long the process may take to write its last records after the mount is gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Unmount, and wait until the process has written its last records
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imafs umount /mnt/web
  imafs umount --lazy /mnt/web
      take it away now; it ends when its last user does")]
pub struct UmountArgs {
    /// Where it is mounted, or its id
    target: PathBuf,

    /// Detach a mount that is in use
    #[arg(long, short)]
    lazy: bool,
}

pub(super) fn run(args: &UmountArgs) -> Outcome {
    let run_dir = RunDir::from_environment();
    let when = if args.lazy { Unmount::WhenUnused } else { Unmount::Now };
    if !rustix::process::geteuid().is_root() {
        let failure = Failure::cannot(format!("unmount {}", args.target.display()), "unmounting needs root");
        return Err(failure.advise("try again with sudo"));
    }
    match run_dir.find(&args.target) {
        Some(state) if state.is_running() => {
            ask(&run_dir, &state, when)?;
            if args.lazy { Ok(ExitCode::SUCCESS) } else { wait(&state) }
        }
        Some(state) => {
            // A dead mount may be left, or may have been taken away already.
            if let Some(target) = mounted(Path::new(&state.target)) {
                unmount(&target, when)?;
            }
            run_dir.clear(&state.ns_id);
            Ok(ExitCode::SUCCESS)
        }
        None => {
            let target = mounted(&args.target).ok_or_else(|| absent(&args.target))?;
            unmount(&target, when).map(|()| ExitCode::SUCCESS)
        }
    }
}

/// Asks the process to unmount. Where it does not answer, we do it: it may hang, its mount need not.
fn ask(run_dir: &RunDir, state: &State, when: Unmount) -> Result<(), Failure> {
    let target = Path::new(&state.target);
    let request = match when {
        Unmount::Now => "stop",
        Unmount::WhenUnused => "stop-lazily",
    };
    let slow = || eprintln!("process {} does not answer; waiting a minute for it", state.pid);
    match socket::ask(&run_dir.socket(&state.ns_id), request, slow) {
        Ok(Ok(_)) => Ok(()),
        // It ended meanwhile, for whatever reason.
        Ok(Err(_)) | Err(_) if !state.is_running() => Ok(()),
        Ok(Err(reason)) if reason == socket::BUSY => Err(busy(target)),
        Ok(Err(reason)) => Err(Failure::cannot(format!("unmount {}", target.display()), reason)
            .advise(format!("'findmnt {}' shows what is there", target.display()))),
        Err(_) => unmount(&mounted(target).ok_or_else(|| absent(target))?, when),
    }
}

/// The target, when the topmost mount on it is one of ours.
fn mounted(target: &Path) -> Option<PathBuf> {
    let target = mounts::resolve(target).ok()?;
    mounts::at(&target).is_some_and(|mount| mount.kind == "fuse.imafs").then_some(target)
}

fn absent(target: &Path) -> Failure {
    Failure::cannot(format!("unmount {}", target.display()), "imafs is not mounted there")
        .advise("'imafs ps' lists what is running")
        .with_code(NO)
}

fn unmount(target: &Path, when: Unmount) -> Result<(), Failure> {
    match fuse::unmount(target, when) {
        Ok(()) => Ok(()),
        Err(MountError::Unmount { source: Errno::BUSY, .. }) => Err(busy(target)),
        Err(error) => {
            let advice = "unmounting needs root, in the mount namespace where it was mounted";
            Err(Failure::new(chain(&error)).advise(advice))
        }
    }
}

fn busy(target: &Path) -> Failure {
    let failure = Failure::cannot(format!("unmount {}", target.display()), "it is in use").with_code(NO);
    let holders = holders::of(target, 5).unwrap_or_default();
    let failure = holders.iter().fold(failure, |failure, holder| failure.advise(holder.to_string()));
    let beneath = mounts::beneath(target);
    let failure = beneath.iter().take(5).fold(failure, |failure, mount| {
        failure.advise(format!(
            "{} ({}) is mounted beneath it: umount it first",
            mount.point.display(),
            mount.kind
        ))
    });
    let end = if holders.is_empty() { "" } else { "end them and try again, or " };
    failure.advise(format!("{end}detach it: imafs umount --lazy {}", target.display()))
}

/// Waits for the process to end: only then have all records been written.
fn wait(state: &State) -> Outcome {
    let until = Instant::now() + PATIENCE;
    while state.is_running() {
        if Instant::now() > until {
            let reason = format!("it is unmounted, but process {} still writes its records", state.pid);
            return Err(Failure::cannot(format!("wait for {}", state.target), reason));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(ExitCode::SUCCESS)
}
