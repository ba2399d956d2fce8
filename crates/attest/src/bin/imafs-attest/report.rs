//! `imafs-attest report`

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use attest::cli::ReportArgs;
use attest::report::{About, Denials, page};
use attest::verdict::EntrySelection;
use time::OffsetDateTime;

use crate::{Ending, inputs, verify};

pub(crate) fn run(args: &ReportArgs) -> Result<Ending> {
    let denials = args.audit.as_deref().map(inputs::read).transpose()?;
    let verdict = verify::judge(&args.question, EntrySelection::All)?;
    let evidence = &args.question.evidence;
    let about = About {
        evidence: evidence.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        time: now(),
        denials: denials.map(|text| Denials::parse(&text)),
    };
    let output = args.output.clone().unwrap_or_else(|| beside(evidence));
    write(&output, page(&verdict, &about).as_bytes())
        .with_context(|| format!("cannot write {}", output.display()))?;
    let word = if verdict.is_trusted() { "trusted" } else { "refused" };
    writeln!(io::stdout(), "{word}: see {}", output.display())?;
    Ok(if verdict.is_trusted() { Ending::Done } else { Ending::No })
}

/// The evidence's name with `.html` added.
fn beside(evidence: &Path) -> PathBuf {
    let mut name = evidence.file_name().unwrap_or_default().to_owned();
    name.push(".html");
    evidence.with_file_name(name)
}

/// Writes a file whole: a report that ends in the middle could look better than it is. What is there and no file of its
/// own, such as `/dev/stdout` or a pipe, is written to and not replaced.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    if std::fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
        return File::options().write(true).truncate(true).open(path)?.write_all(text);
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let written = File::create(&unfinished)
        .and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&unfinished, path));
    if written.is_err() {
        // What is left of it helps nobody; that it cannot be removed is no second error.
        std::fs::remove_file(&unfinished).ok();
    }
    written
}

/// `2026-11-22 03:04:05 UTC`.
fn now() -> String {
    let t = OffsetDateTime::now_utc();
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileTypeExt as _;

    #[test]
    fn a_file_is_replaced_whole_and_a_device_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let page = dir.path().join("page.html");
        for text in [&b"longer than the next"[..], b"short"] {
            write(&page, text).unwrap();
            assert_eq!(std::fs::read(&page).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        write(Path::new("/dev/null"), b"page").unwrap();
        assert!(std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        assert_eq!(write(Path::new("/dev/full"), b"page").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
