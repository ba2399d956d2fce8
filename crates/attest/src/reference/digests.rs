//! Lists of digests: a line each, as `imafs-sign hash`, `sha256sum` and their kin print them.

use std::collections::HashMap;

use ima::{Digest, HashAlgo};

use super::{Subject, recorded_name};
use crate::verdict::EntryCause;

/// Digests by the name under which a list records the file.
#[derive(Debug, Default)]
pub struct Digests {
    by_name: HashMap<Box<[u8]>, Vec<Digest>>,
}

/// Why a list of digests cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: not a digest, two spaces and a path")]
pub struct DigestsError {
    /// The line, counted from 1.
    pub line: usize,
}

impl Digests {
    /// Reads lines of digest, two spaces (or a space and `*`) and path. A digest is `algorithm:hex`, or hex alone whose
    /// length tells sha1, sha256, sha384 or sha512. Paths are relative to the mount's root, however they begin;
    /// `root` is taken off the beginning of absolute ones. Empty lines and lines that begin with `#` say nothing.
    ///
    /// # Errors
    /// [`DigestsError`] for the first line of another shape.
    pub fn parse(text: &[u8], root: &[u8]) -> Result<Self, DigestsError> {
        let mut digests = Self::default();
        for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let (digest, path) = parse_line(line).ok_or(DigestsError { line: number + 1 })?;
            digests.add(&inside(&path, root), digest);
        }
        Ok(digests)
    }

    /// Adds what a file at this path of the mount may hold.
    pub fn add(&mut self, path: &[u8], digest: Digest) {
        self.by_name.entry(recorded_name(path).into()).or_default().push(digest);
    }

    /// How many paths there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn judge(&self, subject: &Subject<'_>) -> EntryCause {
        match self.by_name.get(subject.name) {
            None => EntryCause::NotInReference,
            Some(digests) if digests.contains(&subject.digest) => EntryCause::Listed,
            Some(_) => EntryCause::WrongDigest,
        }
    }
}

fn parse_line(line: &[u8]) -> Option<(Digest, Vec<u8>)> {
    // sha256sum marks a line whose path it has escaped.
    let (escaped, line) = line.strip_prefix(b"\\").map_or((false, line), |line| (true, line));
    let space = line.iter().position(|byte| *byte == b' ')?;
    let (digest, rest) = line.split_at_checked(space)?;
    let path = rest.strip_prefix(b"  ").or_else(|| rest.strip_prefix(b" *"))?;
    let digest = parse_digest(std::str::from_utf8(digest).ok()?)?;
    Some((digest, if escaped { unescape(path)? } else { path.to_vec() }))
}

fn parse_digest(text: &str) -> Option<Digest> {
    if text.contains(':') {
        return text.parse().ok();
    }
    let algo = match text.len() {
        40 => HashAlgo::Sha1,
        64 => HashAlgo::Sha256,
        96 => HashAlgo::Sha384,
        128 => HashAlgo::Sha512,
        _ => return None,
    };
    Digest::new(algo, &hex::decode(text).ok()?).ok()
}

fn unescape(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b'\\' => b'\\',
                _ => return None,
            },
            other => *other,
        });
    }
    Some(out)
}

/// The path as seen from the mount's root.
fn inside(path: &[u8], root: &[u8]) -> Vec<u8> {
    let root = root.strip_suffix(b"/").unwrap_or(root);
    let below = path.strip_prefix(root).filter(|below| below.starts_with(b"/")).unwrap_or(path);
    let below = below.strip_prefix(b"./").unwrap_or(below);
    if below.starts_with(b"/") || below == b"boot_aggregate" {
        below.to_vec()
    } else {
        [b"/", below].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn paths_are_seen_from_the_root_of_the_mount() {
        for (path, root, wanted) in [
            ("./a b", "", "/a_b"),
            ("a", "", "/a"),
            ("/a", "", "/a"),
            ("/srv/root/a", "/srv/root", "/a"),
            ("/srv/root/a", "/srv/root/", "/a"),
            ("/srv/roots/a", "/srv/root", "/srv/roots/a"),
            ("boot_aggregate", "", "boot_aggregate"),
        ] {
            let digests = Digests::parse(format!("{ZERO}  {path}\n").as_bytes(), root.as_bytes()).unwrap();
            assert!(digests.by_name.contains_key(wanted.as_bytes()), "{path}: {digests:?}");
        }
    }

    #[test]
    fn what_sha256sum_and_imafs_sign_print_is_read() {
        let text = format!("# kept\n\n{ZERO} *b\nsha256:{ZERO}  c\n\\{ZERO}  d\\ne\\\\f\n");
        let digests = Digests::parse(text.as_bytes(), b"").unwrap();
        let mut names: Vec<_> = digests.by_name.keys().map(|name| String::from_utf8_lossy(name)).collect();
        names.sort();
        assert_eq!(names, ["/b", "/c", "/d_e\\f"]);
    }

    #[test]
    fn a_line_of_another_shape_is_refused_by_its_number() {
        for line in
            ["x", "00  a", &format!("{ZERO} a"), &format!("sha1:{ZERO}  a"), &format!("\\{ZERO}  a\\q")]
        {
            let text = format!("{ZERO}  good\n{line}\n");
            assert_eq!(Digests::parse(text.as_bytes(), b"").unwrap_err(), DigestsError { line: 2 }, "{line}");
        }
    }
}
