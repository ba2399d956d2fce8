//! Running programs: ours, found beside the test binary, and other people's, found on `PATH`.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::time::{Duration, Instant};

/// The repository's root directory.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Path of one of our own programs (`imafs`, `imafs-sign`).
///
/// Taken from `$IMAFS_BIN_DIR`, else from the profile directory this very test was built into.
///
/// # Errors
/// Fails, saying what to build, when the program is not there.
pub fn ours(name: &str) -> Result<PathBuf> {
    let dir = match std::env::var_os("IMAFS_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let me = std::env::current_exe().context("cannot find the test binary")?;
            let dir = me.parent().context("test binary without a directory")?;
            if dir.ends_with("deps") { dir.parent().unwrap_or(dir).to_owned() } else { dir.to_owned() }
        }
    };
    let path = dir.join(name);
    if !path.is_file() {
        bail!("{} is not built: run `cargo build --workspace --bins` first", path.display());
    }
    Ok(path)
}

/// Runs a command to its end and returns its output, whatever its status.
///
/// # Errors
/// Fails when the program cannot be started.
pub fn output(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("cannot run {command:?}"))
}

/// Runs a command that has to succeed and returns its standard output as text.
///
/// # Errors
/// Fails when it cannot be started or ends with anything but 0; the message holds both of its outputs.
pub fn succeed(command: &mut Command) -> Result<String> {
    let out = output(command)?;
    if !out.status.success() {
        bail!(
            "{command:?} ended with {}\nstdout: {}\nstderr: {}",
            out.status,
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs a shell script with `dir` as the working directory; it has to succeed. Returns its standard output.
///
/// # Errors
/// As [`succeed`].
pub fn shell(dir: &Path, script: impl AsRef<OsStr>) -> Result<String> {
    succeed(Command::new("sh").arg("-ec").arg(script).current_dir(dir))
}

/// Waits for a child for at most `limit`; `None` when it is still running then.
///
/// # Errors
/// Fails when the child cannot be waited for.
pub fn wait_for(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a child")? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Polls `done` every 10 ms until it is true, for at most `limit`. Returns whether it became true.
///
/// # Errors
/// Passes on what `done` fails with.
pub fn until(limit: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<bool> {
    let end = Instant::now() + limit;
    loop {
        if done()? {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
