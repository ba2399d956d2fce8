//! Runs one operation over every file the user named, and stops cleanly when asked to.

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
};

use ::sign::{
    cli::PathArgs,
    file::{FileError, OpenFile},
    walk::{self, Found, HardLinks, Selection, Skip},
    workers,
};
use anyhow::Context;
use indicatif::ProgressBar;

/// What became of one find.
pub(crate) enum Outcome<R> {
    Done(R),
    Skipped(Skip),
    Failed(anyhow::Error),
}

/// Which names of a file with several are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// The first that is found.
    First,
    /// All.
    Every,
}

/// Set by ctrl-C or SIGTERM; a second signal ends the program at once.
pub(crate) fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the first signal finds the flag unset and only sets it.
        signal_hook::flag::register_conditional_shutdown(signal, 2, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("cannot handle signals")?;
    }
    Ok(stop)
}

/// Hands every selected file to `work` in parallel and each outcome, in order, to `take`.
///
/// Returns whether it was interrupted; what was not begun by then is not reported.
pub(crate) fn for_each_file<R: Send>(
    args: &PathArgs,
    names: Names,
    stop: &AtomicBool,
    progress: &ProgressBar,
    work: impl Fn(&OpenFile) -> Result<R, FileError> + Sync,
    mut take: impl FnMut(&Path, Outcome<R>) -> anyhow::Result<()>,
) -> anyhow::Result<bool> {
    let paths = all_paths(args)?;
    let selection = Selection {
        executables_only: args.exec_only,
        cross_filesystems: args.cross_filesystems,
        attribute: args.labels.attribute(),
    };
    let links = (names == Names::First).then(HardLinks::default);
    let mut failed = None;
    workers::run(
        args.jobs.unwrap_or_else(workers::default_jobs),
        |give| {
            for path in &paths {
                let go_on = walk::walk(path, selection, &mut |found| {
                    progress.inc_length(1);
                    !stop.load(Ordering::Relaxed) && give(found)
                });
                if !go_on {
                    return;
                }
            }
        },
        |found| {
            let outcome = examine(found, selection, links.as_ref(), stop, &work);
            progress.inc(1);
            outcome
        },
        |(path, outcome)| {
            if matches!(&outcome, Outcome::Failed(error) if is_interruption(error)) {
                return true;
            }
            failed = take(&path, outcome).err();
            failed.is_none()
        },
    );
    progress.finish_and_clear();
    match failed {
        Some(error) => Err(error),
        None => Ok(stop.load(Ordering::Relaxed)),
    }
}

fn examine<R>(
    found: Found,
    selection: Selection,
    links: Option<&HardLinks>,
    stop: &AtomicBool,
    work: &impl Fn(&OpenFile) -> Result<R, FileError>,
) -> (PathBuf, Outcome<R>) {
    let target = match found {
        Found::File(target) => target,
        Found::Skipped(path, reason) => return (path, Outcome::Skipped(reason)),
        Found::Failed(path, error) => return (path, Outcome::Failed(error.into())),
    };
    let outcome = || {
        if stop.load(Ordering::Relaxed) {
            return Err(FileError::Interrupted);
        }
        let Some(file) = target.open()? else {
            return Ok(Outcome::Skipped(Skip::Special));
        };
        if selection.executables_only && !file.is_executable()? {
            return Ok(Outcome::Skipped(Skip::NotExecutable));
        }
        if links.is_some_and(|links| links.seen(&file)) {
            return Ok(Outcome::Skipped(Skip::HardLink));
        }
        work(&file).map(Outcome::Done)
    };
    let outcome = outcome().unwrap_or_else(|error| Outcome::Failed(error.into()));
    (target.path().to_owned(), outcome)
}

pub(crate) fn is_interruption(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(FileError::Interrupted))
}

fn all_paths(args: &PathArgs) -> anyhow::Result<Vec<PathBuf>> {
    let mut list = Vec::new();
    if args.null {
        std::io::stdin().read_to_end(&mut list).context("cannot read standard input")?;
    }
    if let Some(file) = &args.files0_from {
        list = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    Ok(args.paths.iter().cloned().chain(walk::split_nul(&list)).collect())
}
