//! The main job, end to end, on a whole Debian root filesystem: sign offline, mount, run, tamper, be refused.

use anyhow::{Result, ensure};
use integration::keys::Kind;
use integration::process::output;
use integration::stand::flip;
use integration::{Door, Keys, Mount, MountBuilder, Need, Scratch, fixture, need};
use std::path::PathBuf;
use std::process::Command;

/// A Debian tree with every file signed, and a mount of it about to be made.
struct Image {
    scratch: Scratch,
    tree: PathBuf,
    keys: Keys,
}

impl Image {
    /// `None` when no root filesystem can be had here and skipping is allowed.
    fn new() -> Result<Option<Self>> {
        let Some(tar) = fixture::debian_tar()? else { return Ok(None) };
        let scratch = Scratch::new()?;
        let tree = scratch.path().join("debian");
        fixture::unpack(&tar, &tree)?;
        let keys = Keys::make(&scratch.dir("keys")?, "image", Kind::P256)?;
        keys.sign(&tree)?;
        Ok(Some(Self { scratch, tree, keys }))
    }

    fn mount(&self, policy: &str) -> Result<Mount> {
        MountBuilder::new(&self.scratch, &self.tree)?
            .named_policy(policy)
            .trust(&self.keys.certificate)
            .start()
    }
}

/// Runs a program as root or as somebody else in the mount: its status and both outputs.
fn run(mount: &Mount, user: &str, program: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new("chroot");
    command.arg(format!("--userspec={user}")).arg(mount.target()).args(program);
    let out = output(command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C"))?;
    let words = [out.stdout, out.stderr].concat();
    Ok((out.status.code(), String::from_utf8_lossy(&words).into_owned()))
}

/// Shell and Python run for root and for somebody else, and nothing is refused on the way.
fn shell_and_python_run(mount: &Mount) -> Result<()> {
    let mark = mount.mark()?;
    for user in ["0:0", "1000:1000"] {
        let (status, words) = run(mount, user, &["/bin/sh", "-c", "ls -R /usr/bin | wc -l; id -u"])?;
        ensure!(status == Some(0), "sh ended with {status:?} for {user}: {words}");
        let sum = "import hashlib; print(hashlib.sha256(b'imafs').hexdigest())";
        let (status, words) = run(mount, user, &["/usr/bin/python3", "-c", sum])?;
        ensure!(
            status == Some(0) && words.trim().len() == 64,
            "python ended with {status:?} for {user}: {words}"
        );
    }
    mount.records().no_refusal(mark)
}

#[test]
fn a_signed_debian_runs_under_the_exec_policy_and_a_tampered_program_does_not() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("mmdebstrap"));
    let Some(image) = Image::new()? else { return Ok(()) };
    let victim = "usr/bin/sha256sum";
    let size = image.tree.join(victim).metadata()?.len();
    flip(&image.tree.join(victim), size - 1)?;
    let mount = image.mount("exec")?;
    shell_and_python_run(&mount)?;
    let mark = mount.mark()?;
    let (status, words) = run(&mount, "0:0", &["/usr/bin/sha256sum", "/etc/hostname"])?;
    ensure!(status == Some(126) && words.contains("Permission denied"), "ended with {status:?}: {words}");
    mount.records().one_refusal(mark, "invalid-signature", "/usr/bin/sha256sum")?;
    let list = mount.measurements()?;
    ensure!(list.contains(" /usr/bin/dash "), "what ran is not in the list:\n{list}");
    shell_and_python_run(&mount)
}

#[test]
fn a_signed_debian_runs_under_the_immutable_policy_and_a_changed_setting_does_not_open() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("mmdebstrap"));
    let Some(image) = Image::new()? else { return Ok(()) };
    flip(&image.tree.join("etc/passwd"), 0)?;
    let mount = image.mount("immutable")?;
    mount.allowed(Door::Open, "etc/group")?;
    mount.refused(Door::Open, "etc/passwd", "invalid-signature")?;
    let (status, words) =
        run(&mount, "1000:1000", &["/usr/bin/python3", "-c", "print(open('/etc/group').read())"])?;
    ensure!(status == Some(0) && words.contains("root:"), "python ended with {status:?}: {words}");
    let (status, words) = run(&mount, "1000:1000", &["/usr/bin/python3", "-c", "open('/etc/passwd')"])?;
    ensure!(status == Some(1) && words.contains("PermissionError"), "python ended with {status:?}: {words}");
    Ok(())
}
