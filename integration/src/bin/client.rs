//! A process that uses a mount, for tests that need several of them at once.
//!
//! Each verb loops over plain system calls and ends with status 0, or 1 with the error on standard error. It prints
//! nothing else, and starts when its standard input is closed, so that a test can start several and let them go
//! together.

use anyhow::{Context, Result, bail};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let [verb, dir, count] = words.as_slice() else {
        bail!("usage: imafs-proof-client rewrite|readers-meet-writers|writers-meet-readers DIR COUNT");
    };
    let count: u32 = count.parse().context("COUNT is not a number")?;
    let dir = PathBuf::from(dir);
    std::io::stdin().read_to_end(&mut Vec::new()).context("cannot wait for the start")?;
    match *verb {
        "rewrite" => rewrite(&dir, count),
        "readers-meet-writers" => meet(&dir, count, Order::WriterFirst),
        "writers-meet-readers" => meet(&dir, count, Order::ReaderFirst),
        other => bail!("no such verb: {other}"),
    }
}

/// Writes a file of its own, closes it, opens it to read, closes it, over and over: never two at once.
fn rewrite(dir: &Path, count: u32) -> Result<()> {
    let path = dir.join(format!("own-{}", std::process::id()));
    for round in 0..count {
        let text = format!("round {round}\n");
        std::fs::write(&path, &text).with_context(|| format!("cannot write, round {round}"))?;
        let read = std::fs::read_to_string(&path).with_context(|| format!("cannot read, round {round}"))?;
        anyhow::ensure!(read == text, "round {round}: wrote {text:?}, read {read:?}");
    }
    Ok(())
}

/// Who opens first in [`meet`].
#[derive(Clone, Copy)]
enum Order {
    WriterFirst,
    ReaderFirst,
}

/// Opens a new file for reading and for writing at the same time, `count` times.
fn meet(dir: &Path, count: u32, order: Order) -> Result<()> {
    for round in 0..count {
        let path = dir.join(format!("met-{}-{round}", std::process::id()));
        std::fs::write(&path, "before\n").context("cannot make the file")?;
        let write = || OpenOptions::new().write(true).open(&path).context("cannot open to write");
        let read = || File::open(&path).context("cannot open to read");
        let (mut writer, reader) = match order {
            Order::WriterFirst => {
                let writer = write()?;
                (writer, read()?)
            }
            Order::ReaderFirst => {
                let reader = read()?;
                (write()?, reader)
            }
        };
        writer.write_all(b"after").context("cannot write")?;
        drop((writer, reader));
    }
    Ok(())
}
