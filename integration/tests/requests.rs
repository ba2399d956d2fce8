//! How many requests the kernel sends for what programs do, warm and checked. Counts do not vary with the machine, and
//! each costs two switches between processes, so they stand for speed.

use anyhow::{Result, ensure};
use integration::requests::{Counts, Requests};
use integration::{Mount, MountBuilder, Scratch, need, process};
use std::path::Path;
use std::process::Command;

/// Small files in the tree that is read.
const FILES: u64 = 200;

/// Everything that is opened is measured, programs and what they map too.
const MEASURED: &str =
    "measure func=FILE_CHECK mask=MAY_READ\nmeasure func=BPRM_CHECK\nmeasure func=MMAP_CHECK\n";

/// Runs `work` once to warm up, then again and counts.
fn warm(mount: &Mount, work: impl Fn(&Path) -> Result<()>) -> Result<Counts> {
    let requests = Requests::of(mount)?;
    work(mount.target())?;
    work(mount.target())?;
    requests.during(|| work(mount.target()))
}

/// A mount over a tree of small files in a few directories.
fn small_files(scratch: &Scratch) -> Result<Mount> {
    let source = scratch.dir("source")?;
    for number in 0..FILES {
        let directory = source.join(format!("directory {}", number % 8));
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(format!("file {number}")), vec![b'x'; 3000])?;
    }
    std::os::unix::fs::symlink("file 0", source.join("directory 0/link"))?;
    // Nothing is remembered of what has only just changed.
    std::thread::sleep(std::time::Duration::from_millis(50));
    MountBuilder::new(scratch, &source)?.policy(MEASURED)?.start()
}

/// A mount over the machine's own root filesystem.
fn whole_system(scratch: &Scratch) -> Result<Mount> {
    MountBuilder::new(scratch, "/")?.policy(MEASURED)?.start()
}

/// Runs a program. What it loads and opens must not depend on the tester's language.
fn run(command: &mut Command) -> Result<()> {
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    process::succeed(command.env_clear().env("PATH", path).env("LC_ALL", "C")).map(drop)
}

fn at_most(counts: &Counts, synchronous: u64, asynchronous: u64) -> Result<()> {
    eprintln!("{counts}");
    let within = counts.synchronous() <= synchronous && counts.asynchronous() <= asynchronous;
    ensure!(within, "more than {synchronous} synchronous and {asynchronous} asynchronous requests: {counts}");
    Ok(())
}

#[test]
fn looking_at_a_tree_takes_no_request() -> Result<()> {
    need!();
    let scratch = Scratch::new()?;
    let mount = small_files(&scratch)?;
    let counts = warm(&mount, |at| run(Command::new("find").arg(at).arg("-ls")))?;
    // find(1) itself asks for the filesystem's figures, which are not kept.
    at_most(&counts, counts.of("FUSE_STATFS").min(1), 0)
}

#[test]
fn opening_and_reading_a_file_takes_one_request_and_closing_it_another() -> Result<()> {
    need!();
    let scratch = Scratch::new()?;
    let mount = small_files(&scratch)?;
    let counts = warm(&mount, |at| Ok(std::fs::read(at.join("directory 1/file 1")).map(drop)?))?;
    at_most(&counts, 1, 1)
}

#[test]
fn tar_takes_one_request_for_each_small_file_and_another_in_the_background() -> Result<()> {
    need!();
    let scratch = Scratch::new()?;
    let mount = small_files(&scratch)?;
    let archive = scratch.path().join("tar");
    let counts =
        warm(&mount, |at| run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(at).arg(".")))?;
    at_most(&counts, FILES, FILES)
}

#[test]
fn starting_a_program_takes_fifteen_requests() -> Result<()> {
    need!();
    let scratch = Scratch::new()?;
    let mount = whole_system(&scratch)?;
    let counts = warm(&mount, |at| run(Command::new("chroot").arg(at).arg("/usr/bin/env")))?;
    at_most(&counts, 15, 15)
}

#[test]
fn python_with_fifteen_imports_takes_about_a_hundred_and_fifty_requests() -> Result<()> {
    need!();
    let scratch = Scratch::new()?;
    let mount = whole_system(&scratch)?;
    let script = "import json, re, os, sys, subprocess, argparse, collections, hashlib, logging, pathlib, shutil, \
                  socket, tempfile, threading, urllib.parse";
    let counts =
        warm(&mount, |at| run(Command::new("chroot").arg(at).args(["/usr/bin/python3", "-c", script])))?;
    // A few more or less by what the Python of the day looks for.
    at_most(&counts, 160, 160)
}
