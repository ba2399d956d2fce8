//! Filesystems that keep no labels, and one that has lost one.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Fixed, IMASIG, Row, VERITY, row};
use appraise::Status;

/// A mount that goes with the test.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(options: &[&str], source: &Path) -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        run(Command::new("mount").args(options).arg(source).arg(dir.path()));
        Self(dir)
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("f")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(Command::new("umount").arg(self.0.path()));
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_filesystem_without_attributes() {
    let ramfs = Mounted::new(&["-t", "ramfs"], Path::new("ramfs"));
    std::fs::write(ramfs.file(), b"hello\n").unwrap();
    let nothing = |rule, cause| {
        let row = row(format!("no attributes, {rule}"), None).at(ramfs.file()).under(rule);
        row.fails(Status::NoLabel, cause).res_1().unfixed()
    };
    nothing("", "missing-hash").play();
    nothing(IMASIG, "IMA-signature-required").play();
    nothing(VERITY, "verity-signature-required").play();
    row("no attributes, new", None).at(ramfs.file()).new_file().play();
}

/// An ext4 file whose label is in a block of its own, which has been overwritten.
fn corrupted(dir: &Path) -> PathBuf {
    let image = dir.join("image");
    std::fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    // Inodes of 128 bytes have no room for attributes; without checksums there is nothing to notice but the block.
    let options = ["-q", "-b", "4096", "-I", "128", "-O", "^metadata_csum"];
    run(Command::new("mkfs.ext4").args(options).arg(&image));
    let mounted = Mounted::new(&["-o", "loop"], &image);
    std::fs::write(mounted.file(), b"hello\n").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(mounted.file(), "security.ima", &crate::common::hello_hash(), flags).unwrap();
    drop(mounted);
    let stat = run(Command::new("debugfs").args(["-R", "stat /f"]).arg(&image));
    let block = stat.split("File ACL: ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let block: u64 = block.parse().unwrap();
    assert_ne!(block, 0, "{stat}");
    let disk = OpenOptions::new().write(true).open(&image).unwrap();
    disk.write_all_at(&[0xff; 4096], 4096 * block).unwrap();
    image
}

#[test]
fn a_label_that_cannot_be_read() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let image = corrupted(dir.path());
    let mounted = Mounted::new(&["-o", "loop,errors=continue"], &image);
    for rule in ["", IMASIG, VERITY] {
        let row = row(format!("unreadable, {rule}"), None).at(mounted.file()).under(rule);
        // Fix mode would replace it, and cannot.
        Row { fixed: Fixed::No, ..row.fails(Status::Unknown, "unknown") }.play();
    }
    let new = row("unreadable, new", None).at(mounted.file()).new_file();
    new.fails(Status::Unknown, "unknown").unfixed().play();
}
