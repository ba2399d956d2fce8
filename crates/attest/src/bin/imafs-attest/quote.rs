//! `imafs-attest quote`

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use attest::cli::{QuoteArgs, SocketPlace};
use attest::evidence::Evidence;
use attest::tpm::{Attest, Public};

use crate::output::mistake;
use crate::{Ending, inputs};

/// How long a mount may keep us waiting: for its turn at the TPM, and for each piece of the list.
const PATIENCE: Duration = Duration::from_secs(120);

/// The most evidence that is taken: far more than a list has.
const MOST: u64 = 16 << 30;

/// The longest reason for a refusal.
const LONGEST_REASON: u64 = 4096;

pub(crate) fn run(args: &QuoteArgs) -> Result<Ending> {
    let place = match (&args.from.mount, &args.from.socket) {
        (Some(mount), _) => SocketPlace::Unix(socket_of(mount)?),
        (None, Some(place)) => place.clone(),
        (None, None) => return Err(mistake("no mount is named", "name one with --mount or --socket")),
    };
    let draft = Draft::beside(&args.output)?;
    fetch(&place, &hex::encode(&args.nonce.0), &draft.path)
        .with_context(|| format!("cannot get evidence from {place}"))?;
    let file = inputs::read(&draft.path)?;
    let words = describe(&file).context("cannot read the evidence that came")?;
    draft.keep(&args.output)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}: {} bytes\n{words}", args.output.display(), file.len())?;
    Ok(Ending::Done)
}

/// What whoever trusts this TPM has to know of it.
fn describe(file: &[u8]) -> Result<String> {
    let evidence = Evidence::parse(file)?;
    let public = Public::parse(evidence.public)?;
    let attest = Attest::parse(evidence.attest)?;
    let hierarchy = public.hierarchy(attest.qualified_signer).unwrap_or("unknown");
    Ok(format!(
        "key {} ({})\n  qualified name {}, in the {hierarchy} hierarchy",
        hex::encode(public.name()),
        public.kind(),
        hex::encode(attest.qualified_signer)
    ))
}

/// The socket of the mount at this path.
fn socket_of(mount: &Path) -> Result<PathBuf> {
    let base = std::env::var_os("IMAFS_RUN_DIR").filter(|base| !base.is_empty());
    let directory = base.map_or_else(|| PathBuf::from("/run/imafs"), PathBuf::from).join("mounts");
    let target = fs::canonicalize(mount).with_context(|| format!("cannot find {}", mount.display()))?;
    let target = target.to_string_lossy();
    let mut newest = None;
    let unreadable = || format!("cannot read {}", directory.display());
    for entry in fs::read_dir(&directory).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        // One that is gone meanwhile, or being written, is not the one that is meant.
        let Ok(state) = serde_json::from_slice::<serde_json::Value>(&fs::read(&path).unwrap_or_default())
        else {
            continue;
        };
        let since = state.get("since").and_then(serde_json::Value::as_u64).unwrap_or_default();
        let is_it = state.get("target").and_then(serde_json::Value::as_str) == Some(&*target);
        if is_it && newest.as_ref().is_none_or(|(than, _)| since >= *than) {
            newest = Some((since, path.with_extension("sock")));
        }
    }
    newest.map(|(_, socket)| socket).ok_or_else(|| {
        mistake(
            format!("no imafs is mounted at {}", mount.display()),
            "see what is mounted: imafs ps (as root, with the same IMAFS_RUN_DIR)",
        )
    })
}

fn fetch(place: &SocketPlace, nonce: &str, to: &Path) -> Result<()> {
    match place {
        SocketPlace::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            converse(stream, nonce, to)
        }
        SocketPlace::Tcp(address) => {
            let stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            converse(stream, nonce, to)
        }
    }
}

fn converse(mut stream: impl Read + Write, nonce: &str, to: &Path) -> Result<()> {
    stream.write_all(format!("quote {nonce}\n").as_bytes())?;
    let mut answer = BufReader::new(stream);
    let mut first = Vec::new();
    answer.by_ref().take(LONGEST_REASON).read_until(b'\n', &mut first)?;
    let first = String::from_utf8_lossy(&first);
    match first.trim_end().split_once(' ').unwrap_or((first.trim_end(), "")) {
        ("ok", "") => {}
        ("error", reason) => {
            return Err(mistake(
                reason.escape_debug().to_string(),
                "without evidence nothing can be said of the list",
            ));
        }
        _ => {
            return Err(mistake(
                "the connection ended without an answer",
                "is it an imafs that listens there? Its log may say more",
            ));
        }
    }
    let mut file =
        BufWriter::new(File::create(to).with_context(|| format!("cannot write {}", to.display()))?);
    io::copy(&mut answer.take(MOST), &mut file)?;
    file.flush()?;
    Ok(())
}

/// A file that becomes the output once it is whole. Dropping it removes it.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn beside(output: &Path) -> Result<Self> {
        // The draft takes the place of what is there, which for /dev/null is the whole machine's.
        if fs::metadata(output).is_ok_and(|there| !there.is_file()) {
            return Err(mistake(format!("{} is no file", output.display()), "name a file with --output"));
        }
        let name = output.file_name().ok_or_else(|| {
            mistake(format!("{} is no name for a file", output.display()), "name a file with --output")
        })?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        Ok(Self { path: output.with_file_name(hidden) })
    }

    fn keep(self, output: &Path) -> Result<()> {
        fs::rename(&self.path, output).with_context(|| format!("cannot write {}", output.display()))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Already renamed, or never made.
        let _gone = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_takes_the_place_of_files_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("evidence");
        fs::write(&file, "old").unwrap();
        for output in [file.as_path(), &dir.path().join("new")] {
            let draft = Draft::beside(output).unwrap();
            fs::write(&draft.path, "new").unwrap();
            draft.keep(output).unwrap();
            assert_eq!(fs::read(output).unwrap(), b"new");
        }
        for output in [Path::new("/dev/null"), dir.path()] {
            assert!(Draft::beside(output).is_err(), "{}", output.display());
        }
    }
}
