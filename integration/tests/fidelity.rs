//! A whole Debian root filesystem looks the same through the mount as without it, and can be changed through it.

use anyhow::{Context, Result, ensure};
use integration::{Mount, Need, Scratch, compare, fixture, mount::MountBuilder, need, process::shell};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What Debian's own tree lacks, and a root filesystem may have. Run in a directory of its own inside the tree.
const ODDITIES: &str = r#"
printf 'hello' > plain
mkdir -p deep/a/b/c/d/e/f/g/h; printf deep > deep/a/b/c/d/e/f/g/h/leaf
ln plain hard-1; ln plain hard-2
ln -s plain link; ln -s /nowhere/at/all dangling; ln -s . loop
mkfifo pipe
mknod zero c 1 5; chmod 0666 zero
truncate -s 8M hole; printf middle | dd of=hole bs=1 seek=4000000 conv=notrunc status=none
printf setid > setid; chown 33:44 setid; chmod 6711 setid
mkdir sticky setgid; chmod 1777 sticky; chmod 2775 setgid; chown 5:60 setgid
printf secret > no-mode; chmod 0 no-mode
touch -d '1969-07-20 20:17:40.123456789 UTC' before-1970
touch -d '2106-02-07 06:28:17.987654321 UTC' after-2106
printf x > "$(printf 'not-utf8-\377\376')"
printf x > "$(printf 'new\nline and space')"
printf x > "$(head -c 255 /dev/zero | tr '\0' n)"
setfattr -n user.colour -v blue plain
setfattr -n trusted.inside -v yes plain
setfattr -n user.big -v "$(head -c 3000 /dev/zero | tr '\0' v)" plain
setfattr -n user.on-a-directory -v yes sticky
setfattr -n security.ima -v 0x0404aaaa plain
setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 setid
setfacl -m u:1234:rw,g:4321:r,m::rw plain
setfacl -d -m u:1234:rwx setgid; setfacl -m u:1234:x setgid
"#;

/// The root filesystem with the oddities in `/odd`; `None` when there is none to be had.
fn tree(scratch: &Scratch) -> Result<Option<PathBuf>> {
    let Some(tar) = fixture::debian_tar()? else { return Ok(None) };
    let tree = scratch.path().join("debian");
    fixture::unpack(&tar, &tree)?;
    std::fs::create_dir(tree.join("odd")).context("cannot make /odd")?;
    shell(&tree.join("odd"), ODDITIES)?;
    Ok(Some(tree))
}

#[test]
fn a_debian_root_filesystem_is_the_same_through_the_mount() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("mmdebstrap"), Need::Program("setfacl"));
    let scratch = Scratch::new()?;
    let Some(tree) = tree(&scratch)? else { return Ok(()) };
    let mount = MountBuilder::new(&scratch, &tree)?.start()?;
    let files = integration::process::succeed(Command::new("find").args([
        tree.as_path(),
        Path::new("-type"),
        Path::new("f"),
    ]))?;
    ensure!(
        files.lines().count() > 5_000,
        "only {} files: not a whole root filesystem",
        files.lines().count()
    );
    // Metadata first: reading moves access times, which must not matter, and nothing else.
    compare::same_metadata(&tree, mount.target())?;
    compare::same_attributes(&tree, mount.target())?;
    compare::same_acls(&tree, mount.target())?;
    compare_content(&tree, mount.target())?;
    compare::same_metadata(&tree, mount.target())
}

/// `diff` cannot hold one named pipe or device against another: these have been compared by their metadata.
fn compare_content(tree: &Path, mounted: &Path) -> Result<()> {
    for special in ["odd/pipe", "odd/zero"] {
        std::fs::remove_file(mounted.join(special)).with_context(|| format!("cannot remove {special}"))?;
        ensure!(!tree.join(special).exists(), "{special} is still in the source");
    }
    compare::same_content(tree, mounted)
}

#[test]
fn a_copy_made_through_the_mount_is_the_same() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("mmdebstrap"), Need::Program("setfacl"));
    let scratch = Scratch::new()?;
    let Some(tar) = fixture::debian_tar()? else { return Ok(()) };
    let (plain, source) = (scratch.dir("plain")?, scratch.dir("source")?);
    fixture::unpack(&tar, &plain)?;
    std::fs::create_dir(plain.join("odd")).context("cannot make /odd")?;
    shell(&plain.join("odd"), ODDITIES)?;
    let mount = MountBuilder::new(&scratch, &source)?.start()?;
    // A label that no key stands behind may be stored where no rule appraises.
    shell(&plain, format!("cp --archive --sparse=always . '{}'", mount.target().display()))?;
    drop(mount);
    let without_ctime = |dir: &Path| {
        let mut find = Command::new("find");
        find.args([".", "-mindepth", "1", "-printf", "%P %y %m %U %G %n %s %T@ %l\\n"]).current_dir(dir);
        integration::process::output(&mut find)
    };
    let (before, after) = (without_ctime(&plain)?, without_ctime(&source)?);
    let lines = |out: Vec<u8>| {
        // Sizes of directories are the backing filesystem's own affair.
        let mut lines: Vec<Vec<u8>> =
            out.split(|b| *b == b'\n').filter(|l| !is_directory(l)).map(<[u8]>::to_vec).collect();
        lines.sort();
        lines
    };
    let (before, after) = (lines(before.stdout), lines(after.stdout));
    let missing = before.iter().find(|line| after.binary_search(line).is_err());
    ensure!(
        missing.is_none(),
        "not copied as it was: {:?}",
        missing.map(|l| String::from_utf8_lossy(l).into_owned())
    );
    compare::same_attributes(&plain, &source)?;
    compare::same_acls(&plain, &source)
}

/// Whether a line of the listing above is about a directory: `PATH d MODE ...`.
fn is_directory(line: &[u8]) -> bool {
    line.windows(3).any(|w| w == b" d ")
}

/// Runs a program under chroot in the mount, as a container would.
fn in_mount(mount: &Mount, program: &[&str]) -> Result<String> {
    let mut command = Command::new("chroot");
    command.arg(mount.target()).args(program).env_clear();
    command
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C");
    integration::process::succeed(&mut command)
}

#[test]
fn apt_installs_a_package_inside_the_mount() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("mmdebstrap"), Need::Program("apt-get"));
    let scratch = Scratch::new()?;
    let Some(tar) = fixture::debian_tar()? else { return Ok(()) };
    let tree = scratch.path().join("debian");
    fixture::unpack(&tar, &tree)?;
    let package = fixture::package()?;
    let mount = MountBuilder::new(&scratch, &tree)?.start()?;
    std::fs::copy(&package, mount.path("tmp/package.deb")).context("cannot copy the package in")?;
    in_mount(&mount, &["apt-get", "install", "--yes", "--no-install-recommends", "/tmp/package.deb"])?;
    ensure!(in_mount(&mount, &["hello"])?.contains("Hello, world!"), "the installed program does not greet");
    let state = in_mount(&mount, &["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}", "hello"])?;
    ensure!(state.trim() == "ii", "dpkg says {state:?}");
    let listed = in_mount(&mount, &["dpkg", "--verify", "hello"])?;
    ensure!(listed.is_empty(), "dpkg --verify finds changes: {listed}");
    drop(mount);
    // In the source, with the owners and the very bytes that the package holds.
    let reference = scratch.dir("reference")?;
    integration::process::succeed(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&reference))?;
    for file in ["usr/bin/hello", "usr/share/info/hello.info.gz"] {
        compare::same_bytes(&reference.join(file), &tree.join(file))?;
    }
    same_listing(&reference, &tree, "usr/bin/hello")
}

/// Mode, owner, group, size and modification time of one file agree in both trees.
fn same_listing(left: &Path, right: &Path, file: &str) -> Result<()> {
    let listing = |root: &Path| {
        integration::process::succeed(
            Command::new("stat").args(["--format=%a %u %g %s %Y"]).arg(root.join(file)),
        )
    };
    let (left, right) = (listing(left)?, listing(right)?);
    ensure!(left == right, "{file}: {left} in the package, {right} in the source");
    Ok(())
}

/// Builds a package whose files have owners, modes and a script of their own.
const BUILD_PACKAGE: &str = r#"
mkdir -p p/DEBIAN p/usr/bin p/var/lib/proof p/etc
cat > p/DEBIAN/control <<END
Package: proof
Version: 1
Architecture: all
Maintainer: imafs <imafs@example.org>
Description: files with owners
END
echo /etc/proof.conf > p/DEBIAN/conffiles
printf '#!/bin/sh\nset -e\nchown games:games /var/lib/proof/later\nln -s /usr/bin/proof /usr/bin/proof-link\n' > p/DEBIAN/postinst
chmod 755 p/DEBIAN/postinst
printf '#!/bin/sh\nexit 0\n' > p/usr/bin/proof
printf 'a=b\n' > p/etc/proof.conf
printf 'now\n' > p/var/lib/proof/now
printf 'later\n' > p/var/lib/proof/later
chown 1:1 p/var/lib/proof/now; chown 0:8 p/var/lib/proof; chmod 2755 p/var/lib/proof
chmod 4755 p/usr/bin/proof; chmod 600 p/etc/proof.conf
dpkg-deb --build p proof.deb
"#;

#[test]
fn dpkg_unpacks_owners_modes_and_runs_scripts_inside_the_mount() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("mmdebstrap"), Need::Program("dpkg-deb"));
    let scratch = Scratch::new()?;
    let Some(tar) = fixture::debian_tar()? else { return Ok(()) };
    let tree = scratch.path().join("debian");
    fixture::unpack(&tar, &tree)?;
    let build = scratch.dir("build")?;
    shell(&build, BUILD_PACKAGE)?;
    let mount = MountBuilder::new(&scratch, &tree)?.start()?;
    std::fs::copy(build.join("proof.deb"), mount.path("tmp/proof.deb"))
        .context("cannot copy the package in")?;
    in_mount(&mount, &["dpkg", "--install", "/tmp/proof.deb"])?;
    drop(mount);
    let files = "usr/bin/proof usr/bin/proof-link etc/proof.conf var/lib/proof var/lib/proof/*";
    let said = shell(&tree, format!("stat '--format=%n %a %U %G %F' {files}"))?;
    let expected = "usr/bin/proof 4755 root root regular file
usr/bin/proof-link 777 root root symbolic link
etc/proof.conf 600 root root regular file
var/lib/proof 2755 root mail directory
var/lib/proof/later 644 games games regular file
var/lib/proof/now 644 daemon daemon regular file
";
    ensure!(said == expected, "in the source:\n{said}");
    Ok(())
}
