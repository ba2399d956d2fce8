//! What a test needs of the machine, and skipping with a reason when it is not there.
//!
//! With `IMAFS_CI=1` or `CI=true` in the environment nothing may be skipped: a missing need fails the test, for a
//! green run that proved nothing is worse than a red one.

use std::path::Path;

/// One thing a test cannot do without.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// Root: mounting, chroot, device nodes, `security.*` attributes.
    Root,
    /// `/dev/fuse`, openable.
    Fuse,
    /// A program on `PATH`, named as the shell would find it.
    Program(&'static str),
    /// A TPM emulator, and what judges its registers: tpm2-tools and evmctl.
    Tpm,
    /// Keylime, where `make test` puts it.
    Keylime,
    /// pjdfstest and fsx, where `make test` puts them.
    Suites,
}

impl Need {
    /// Why this need is not met here, or `None` when it is.
    pub fn missing(self) -> Option<String> {
        match self {
            Need::Root => (!rustix::process::geteuid().is_root()).then(|| "not root".to_owned()),
            Need::Fuse => std::fs::File::open("/dev/fuse").err().map(|e| format!("/dev/fuse: {e}")),
            Need::Program(name) => not_installed(name),
            Need::Tpm => ["swtpm", "tpm2_pcrread", "evmctl"].into_iter().find_map(not_installed),
            Need::Suites => crate::suites::missing(),
            Need::Keylime => (!crate::keylime::python().is_file())
                .then(|| "Keylime is not installed: run scripts/install-keylime.sh".to_owned()),
        }
    }
}

fn not_installed(program: &str) -> Option<String> {
    find(program).is_none().then(|| format!("{program} is not installed"))
}

/// Whether `name` is a file in one of the directories of `PATH`.
fn find(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir: std::path::PathBuf| dir.join(name)).find(|p: &_| Path::is_file(p))
}

/// Whether this run may skip tests at all.
pub fn skipping_is_forbidden() -> bool {
    let set = |name: &str, value: &str| std::env::var_os(name).is_some_and(|v| v == value);
    set("IMAFS_CI", "1") || set("CI", "true")
}

/// The reason to skip, if any of `needs` is missing and skipping is allowed.
///
/// # Errors
/// Fails with the reason when a need is missing and skipping is forbidden.
pub fn unmet(needs: &[Need]) -> anyhow::Result<Option<String>> {
    let reasons: Vec<String> = needs.iter().filter_map(|need| need.missing()).collect();
    if reasons.is_empty() {
        return Ok(None);
    }
    let reason = reasons.join("; ");
    anyhow::ensure!(!skipping_is_forbidden(), "this run may not skip, yet: {reason}");
    Ok(Some(reason))
}

/// Returns from a test early, saying why, when the machine lacks something the test needs.
///
/// `need!(Need::Root, Need::Program("evmctl"))`; with no arguments: root and `/dev/fuse`, what every mount needs.
#[macro_export]
macro_rules! need {
    () => { $crate::need!($crate::Need::Root, $crate::Need::Fuse) };
    ($($need:expr),+ $(,)?) => {
        if let Some(reason) = $crate::need::unmet(&[$($need),+])? {
            eprintln!("skipped: {reason}");
            return Ok(());
        }
    };
}
