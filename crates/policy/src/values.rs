//! The two values that are imafs's own: globs over paths and lists of digests.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};
use ima::{Digest, HashAlgo};

use crate::error::Reason;

/// A glob over the path of a file in the mount, compiled once.
///
/// `*` and `?` stay within a directory, `**` as a whole component crosses them, `{a,b}` and `[a-z]`
/// are alternatives. A space cannot stand in a rule; `?` matches one.
#[derive(Debug, Clone)]
pub(crate) struct PathGlob {
    text: Box<str>,
    matcher: GlobMatcher,
}

impl PathGlob {
    pub(crate) fn parse(text: &str) -> Result<Self, Reason> {
        if !["/", "**", "{"].iter().any(|start| text.starts_with(start)) {
            return Err(Reason::BadGlob { problem: "paths begin with /".to_owned() });
        }
        let glob = GlobBuilder::new(text)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|err| Reason::BadGlob { problem: err.kind().to_string() })?;
        Ok(Self { text: text.into(), matcher: glob.compile_matcher() })
    }

    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        self.matcher.is_match(Path::new(OsStr::from_bytes(path)))
    }
}

impl fmt::Display for PathGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The digests of `digest=`: all of one algorithm, sorted, at least one.
#[derive(Debug, Clone)]
pub(crate) struct DigestList {
    algo: HashAlgo,
    digests: Box<[Digest]>,
}

impl DigestList {
    pub(crate) fn parse(text: &str) -> Result<Self, Reason> {
        let mut digests = Vec::new();
        for item in text.split(',') {
            if item.is_empty() {
                return Err(Reason::EmptyItem);
            }
            let digest: Digest = item.parse().map_err(|_| Reason::BadDigest { item: item.to_owned() })?;
            digests.push(digest);
        }
        let algo = digests.first().ok_or(Reason::EmptyItem)?.algo();
        if digests.iter().any(|digest| digest.algo() != algo) {
            return Err(Reason::MixedDigestAlgos);
        }
        if !algo.is_available() {
            return Err(Reason::UnavailableAlgo { name: algo.name().to_owned() });
        }
        digests.sort_unstable_by(|a, b| a.bytes().cmp(b.bytes()));
        digests.dedup();
        Ok(Self { algo, digests: digests.into_boxed_slice() })
    }

    pub(crate) const fn algo(&self) -> HashAlgo {
        self.algo
    }

    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.algo == digest.algo()
            && self.digests.binary_search_by(|known| known.bytes().cmp(digest.bytes())).is_ok()
    }
}

impl fmt::Display for DigestList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, digest) in self.digests.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star_stays_in_a_directory_and_two_cross() {
        let table = [
            ("/usr/bin/*", "/usr/bin/ls", true),
            ("/usr/bin/*", "/usr/bin/x/ls", false),
            ("/usr/**", "/usr/bin/x/ls", true),
            ("/usr/**", "/usr", false),
            ("/usr/**", "/usrlocal/x", false),
            ("/**/*.so", "/lib/x86/libc.so", true),
            ("/**/*.so", "/libc.so", true),
            ("**/*.so", "/lib/libc.so", true),
            ("{/bin,/sbin}/*", "/sbin/init", true),
            ("/a?b", "/a b", true),
            ("/a?b", "/a/b", false),
            ("/tmp/[!a]*", "/tmp/a1", false),
        ];
        for (glob, path, expected) in table {
            assert_eq!(PathGlob::parse(glob).unwrap().matches(path.as_bytes()), expected, "{glob} {path}");
        }
    }

    #[test]
    fn paths_need_not_be_utf8() {
        let glob = PathGlob::parse("/data/*").unwrap();
        assert!(glob.matches(b"/data/\xff\xfe"));
        assert!(!glob.matches(b"/other/\xff"));
    }

    #[test]
    fn a_glob_that_could_match_no_absolute_path_is_refused() {
        for text in ["usr/bin/*", "*", "/a[", "/a{b"] {
            assert!(matches!(PathGlob::parse(text), Err(Reason::BadGlob { .. })), "{text}");
        }
    }

    #[test]
    fn digests_of_two_algorithms_in_one_list_are_refused() {
        let sha1 = format!("sha1:{}", "0".repeat(40));
        let sha256 = format!("sha256:{}", "0".repeat(64));
        assert_eq!(DigestList::parse(&format!("{sha1},{sha256}")).unwrap_err(), Reason::MixedDigestAlgos);
        assert_eq!(DigestList::parse(&format!("{sha1},")).unwrap_err(), Reason::EmptyItem);
        assert!(matches!(DigestList::parse("sha256:00"), Err(Reason::BadDigest { .. })));
        let list = DigestList::parse(&sha256).unwrap();
        assert!(list.contains(&Digest::zero(HashAlgo::Sha256)));
        assert!(!list.contains(&Digest::ones(HashAlgo::Sha256)));
        assert!(!list.contains(&Digest::zero(HashAlgo::Sha1)));
    }
}
