//! What the guest boots from: busybox, the modules of the kernel it needs, and the program that plays operations.
//!
//! The archive is made once; each scenario is an archive of its own behind it, for the kernel unpacks one after
//! the other.

use crate::golden::scenario::player_source;
use crate::process::succeed;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What to do when a program or package is missing.
pub const ADVICE: &str = "run scripts/install-deps.sh oracle";

/// The guest's first process.
const INIT: &str = include_str!("init.sh");

/// Programs of busybox that `init.sh` and the kernel call.
const APPLETS: [&str; 8] = ["sh", "mount", "modprobe", "cat", "dmesg", "tar", "sync", "poweroff"];

/// Modules that must be there, with what they depend on: the disks, the file system, and the hash
/// algorithms which the kernel loads when a label, a rule or a register bank first asks for one.
const MODULES: [&str; 9] = [
    "virtio_pci",
    "virtio_blk",
    "ext4",
    "crc32c_generic",
    "sha512_generic",
    "rmd160",
    "wp512",
    "sha3_generic",
    "streebog_generic",
];

/// A Debian kernel on this machine.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Its release, `6.1.0-56-amd64`.
    pub release: String,
    /// Its image.
    pub image: PathBuf,
}

impl Kernel {
    /// The newest installed kernel of Debian's 6.1.
    ///
    /// # Errors
    /// Fails when none is installed, saying what to do.
    pub fn find() -> Result<Self> {
        let mut found: Vec<(Vec<u64>, Self)> = Vec::new();
        for entry in std::fs::read_dir("/boot").context("cannot list /boot")? {
            let image = entry.context("cannot list /boot")?.path();
            let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(release) = name.strip_prefix("vmlinuz-").filter(|release| release.starts_with("6.1."))
                && Path::new("/lib/modules").join(release).is_dir()
            {
                let numbers = release.split(['.', '-']).filter_map(|part| part.parse().ok()).collect();
                found.push((numbers, Self { release: release.to_owned(), image }));
            }
        }
        found.sort_by(|left, right| left.0.cmp(&right.0));
        let newest = found.pop().map(|(_, kernel)| kernel);
        newest.with_context(|| format!("no Debian kernel 6.1 in /boot: {ADVICE}"))
    }

    fn modules(&self) -> PathBuf {
        Path::new("/lib/modules").join(&self.release)
    }
}

/// Makes the archive that all guests share, in `dir`.
///
/// # Errors
/// Fails when a program, a module or the compiler is missing.
pub fn make(dir: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let root = dir.join("root");
    for name in ["bin", "sbin", "dev", "proc", "sys", "s/keys", "t", "out"] {
        std::fs::create_dir_all(root.join(name)).with_context(|| format!("cannot make {name}"))?;
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox"))
        .with_context(|| format!("there is no /bin/busybox: {ADVICE}"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).context("cannot make a link")?;
    }
    symlink("../bin/busybox", root.join("sbin/modprobe")).context("cannot make a link")?;
    std::fs::write(root.join("init"), INIT).context("cannot write init")?;
    std::fs::set_permissions(root.join("init"), Permissions::from_mode(0o755)).context("cannot chmod")?;
    let mut compile = Command::new("cc");
    compile.args(["-O2", "-Wall", "-static", "-o"]).arg(root.join("bin/op")).arg(player_source()?);
    succeed(&mut compile)?;
    copy_modules(&root, kernel)?;
    let archive = dir.join("base.cpio");
    pack(&root, &archive)?;
    std::fs::remove_dir_all(&root).context("cannot remove what is packed")?;
    Ok(archive)
}

/// Copies the modules with all they depend on, and the tables modprobe finds them by.
fn copy_modules(root: &Path, kernel: &Kernel) -> Result<()> {
    let from = kernel.modules();
    let to = root.join(from.strip_prefix("/").unwrap_or(&from));
    for name in MODULES {
        let mut show = Command::new("modprobe");
        let shown = succeed(show.args(["--show-depends", "-S", &kernel.release, name]))
            .with_context(|| format!("{} has no module {name}", kernel.release))?;
        // Lines are `insmod PATH [PARAMETERS]`, or `builtin NAME`.
        for path in shown.lines().filter_map(|line| line.strip_prefix("insmod ")) {
            let path = Path::new(path.split_whitespace().next().unwrap_or_default());
            let inside = path.strip_prefix(&from).context("a module lies elsewhere")?;
            let copy = to.join(inside);
            std::fs::create_dir_all(copy.parent().unwrap_or(&to)).context("cannot make a directory")?;
            std::fs::copy(path, copy).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    for table in ["modules.builtin", "modules.order", "modules.builtin.modinfo"] {
        std::fs::copy(from.join(table), to.join(table)).with_context(|| format!("cannot copy {table}"))?;
    }
    succeed(Command::new("depmod").arg("-b").arg(root).arg(&kernel.release)).map(drop)
}

/// Packs a directory as the kernel wants it, with everything owned by root.
fn pack(root: &Path, archive: &Path) -> Result<()> {
    let listed = succeed(Command::new("find").arg(".").current_dir(root))?;
    let out = File::create(archive).context("cannot make the archive")?;
    let mut cpio = Command::new("cpio");
    cpio.args(["--create", "--format=newc", "--quiet", "--owner=0:0"]).current_dir(root);
    let mut cpio = cpio.stdin(Stdio::piped()).stdout(out).spawn().context(format!("no cpio: {ADVICE}"))?;
    cpio.stdin
        .take()
        .context("cpio hears nothing")?
        .write_all(listed.as_bytes())
        .context("cpio has ended")?;
    let status = cpio.wait().context("cannot wait for cpio")?;
    ensure!(status.success(), "cpio ended with {status}");
    Ok(())
}

/// The archive of all guests with a scenario behind it, made at `archive`.
///
/// # Errors
/// Fails when the scenario cannot be read or packed.
pub fn with_scenario(base: &Path, scenario: &Path, work: &Path, archive: &Path) -> Result<()> {
    let s = work.join("scenario/s");
    std::fs::create_dir_all(s.join("keys")).context("cannot make a directory")?;
    for entry in std::fs::read_dir(scenario).with_context(|| format!("no scenario {}", scenario.display()))? {
        let path = entry.context("cannot list the scenario")?.path();
        let Some(name) = path.file_name().filter(|_| path.is_file()) else { continue };
        std::fs::copy(&path, s.join(name)).context("cannot copy the scenario")?;
    }
    let keys = scenario.join("keys");
    if keys.is_dir() {
        for entry in std::fs::read_dir(keys).context("cannot list keys")? {
            let entry = entry.context("cannot list keys")?;
            std::fs::copy(entry.path(), s.join("keys").join(entry.file_name()))
                .context("cannot copy a key")?;
        }
    }
    let own = work.join("scenario.cpio");
    pack(&work.join("scenario"), &own)?;
    let mut out = File::create(archive).context("cannot make the archive")?;
    for part in [base, own.as_path()] {
        let mut part = File::open(part).context("cannot open an archive")?;
        let copied = std::io::copy(&mut part, &mut out).context("cannot join the archives")?;
        if copied == 0 {
            bail!("an archive is empty");
        }
    }
    Ok(())
}
