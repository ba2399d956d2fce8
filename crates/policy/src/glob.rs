//! Globs over the path of a file in the mount, an addition of imafs: `path=/usr/{bin,sbin}/*`.
//!
//! `globset` knows the syntax and turns it into a regular expression. Compiling that is left to `regex`, with limits:
//! globset's own matcher ends the process when an expression is too large or nested too deep, and a glob may come
//! from a container.

use std::fmt;

use globset::GlobBuilder;
use regex::bytes::{Regex, RegexBuilder};

use crate::error::Reason;

/// The longest glob in bytes: the kernel takes no longer path (`PATH_MAX`).
const MAX_LEN: usize = 4096;
/// The most opening braces: globset goes one call deeper for each that is nested.
const MAX_BRACES: usize = 64;
/// The most memory, in bytes, that the compiled form takes, and again that its cache of states grows to.
const MAX_COMPILED: usize = 1 << 20;

/// A glob, compiled once.
///
/// `*` and `?` stay within a directory, `**` as a whole component crosses them, `{a,b}` and `[a-z]`
/// are alternatives. A space cannot stand in a rule; `?` matches one. `?` and `[...]` match one byte.
#[derive(Debug, Clone)]
pub(crate) struct PathGlob {
    text: Box<str>,
    compiled: Regex,
}

impl PathGlob {
    pub(crate) fn parse(text: &str) -> Result<Self, Reason> {
        let unusable = |problem: &str| Err(Reason::BadGlob { problem: problem.to_owned() });
        if !["/", "**", "{"].iter().any(|start| text.starts_with(start)) {
            return unusable("paths begin with /");
        }
        if text.len() > MAX_LEN {
            return unusable("it is longer than 4096 bytes");
        }
        if text.bytes().filter(|byte| *byte == b'{').count() > MAX_BRACES {
            return unusable("it has more than 64 lists of alternatives");
        }
        if has_wide_class(text) {
            return unusable("[...] takes ASCII characters only, write {a,b}");
        }
        let bad = |problem: String| Reason::BadGlob { problem };
        let glob = GlobBuilder::new(text)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|err| bad(err.kind().to_string()))?;
        let compiled = RegexBuilder::new(glob.regex())
            .unicode(false)
            .dot_matches_new_line(true)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .build()
            .map_err(|_| bad("it is too complex".to_owned()))?;
        Ok(Self { text: text.into(), compiled })
    }

    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        self.compiled.is_match(path)
    }
}

/// Whether a class holds a character of several bytes, of which it would match each one by itself.
fn has_wide_class(glob: &str) -> bool {
    #[derive(PartialEq)]
    enum At {
        Outside,
        Escaped,
        /// Where `!`, `^` and a `]` that does not close can stand.
        Opening,
        Inside,
    }
    let mut at = At::Outside;
    for c in glob.chars() {
        at = match (at, c) {
            (At::Opening | At::Inside, _) if !c.is_ascii() => return true,
            (At::Outside, '\\') => At::Escaped,
            (At::Outside, '[') => At::Opening,
            (At::Opening, '!' | '^') => At::Opening,
            (At::Outside | At::Escaped, _) | (At::Inside, ']') => At::Outside,
            (At::Opening | At::Inside, _) => At::Inside,
        };
    }
    false
}

impl PartialEq for PathGlob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PathGlob {}

impl fmt::Display for PathGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
    fn a_class_of_characters_beyond_ascii_is_refused() {
        for text in ["/[é]", "/a[b-é]/*", "/[!x]/[é]", "/[]é]", "/[!]é]"] {
            assert!(matches!(PathGlob::parse(text), Err(Reason::BadGlob { .. })), "{text}");
        }
        for (text, path) in [("/é/[ab]", "/é/a"), ("/\\[é", "/[é"), ("/{é,ü}", "/ü"), ("/[a]é", "/aé")]
        {
            assert!(PathGlob::parse(text).unwrap().matches(path.as_bytes()), "{text}");
        }
    }

    /// Each of these ended the process before the limits were there.
    #[test]
    fn globs_too_large_to_compile_are_refused() {
        let nested = |depth| format!("/{}a{}", "{".repeat(depth), "}".repeat(depth));
        for text in [nested(260), nested(65), "/?".repeat(400_000), format!("/{}", "[!a-y]".repeat(700))] {
            assert!(matches!(PathGlob::parse(&text), Err(Reason::BadGlob { .. })), "{}", text.len());
        }
        for text in [nested(64), "/?".repeat(2048), format!("/{}", "[!a-y]".repeat(600)), "/*".repeat(2048)] {
            let glob = PathGlob::parse(&text).unwrap();
            assert!(!glob.matches("/x".repeat(2047).as_bytes()), "{text}");
        }
    }
}
