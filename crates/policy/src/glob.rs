//! Globs over the path of a file in the mount, an addition of imafs: `path=/usr/{bin,sbin}/*`.
//!
//! `globset` knows the syntax and turns it into a regular expression. Compiling that is left to `regex-automata`, with
//! limits: globset's own matcher ends the process when an expression is too large or nested too deep, and a glob may come
//! from a container. Nor is it left to `regex`, which keeps a cache of states for each thread that ever matched: a
//! thousand rules fill a thousand of them in each thread. Here each glob has one, which whoever matches takes along.

use std::fmt;
use std::sync::{Arc, Mutex};

use globset::GlobBuilder;
use regex_automata::Input;
use regex_automata::meta::{Cache, Regex};
use regex_automata::util::syntax;

use crate::error::Reason;

/// The longest glob in bytes: the kernel takes no longer path (`PATH_MAX`).
const MAX_LEN: usize = 4096;
/// The most opening braces: globset goes one call deeper for each that is nested.
const MAX_BRACES: usize = 64;
/// The most memory, in bytes, that the compiled form takes.
const MAX_COMPILED: usize = 1 << 20;
/// The most memory, in bytes, for states found while matching. Where they are more they are found again, or an engine that
/// keeps none is asked.
const MAX_STATES: usize = 64 << 10;

/// A glob, compiled once.
///
/// `*` and `?` stay within a directory, `**` as a whole component crosses them, `{a,b}` and `[a-z]`
/// are alternatives. A space cannot stand in a rule; `?` matches one. `?` and `[...]` match one byte.
#[derive(Debug, Clone)]
pub(crate) struct PathGlob {
    text: Box<str>,
    compiled: Arc<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    regex: Regex,
    /// What matching has found so far.
    cache: Mutex<Cache>,
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
        // Without the automata that are built whole beforehand, which have limits of their own.
        let limits = Regex::config()
            .nfa_size_limit(Some(MAX_COMPILED))
            .hybrid_cache_capacity(MAX_STATES)
            .onepass(false)
            .dfa(false)
            .utf8_empty(false);
        let regex = Regex::builder()
            .configure(limits)
            .syntax(syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true))
            .build(glob.regex())
            .map_err(|_| bad("it is too complex".to_owned()))?;
        let cache = Mutex::new(regex.create_cache());
        Ok(Self { text: text.into(), compiled: Arc::new(Compiled { regex, cache }) })
    }

    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        let Compiled { regex, cache } = self.compiled.as_ref();
        let input = Input::new(path).earliest(true);
        // Whoever comes while another matches does without what that one knows.
        match cache.try_lock() {
            Ok(mut cache) => regex.search_half_with(&mut cache, &input),
            Err(_) => regex.search_half_with(&mut regex.create_cache(), &input),
        }
        .is_some()
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

    /// What matching takes must not grow with what it is asked, nor with the threads that ask.
    #[test]
    fn matching_keeps_no_more_than_is_allowed() {
        let glob = PathGlob::parse("/*a??????????????").unwrap();
        let copy = glob.clone();
        assert!(Arc::ptr_eq(&glob.compiled, &copy.compiled));
        let kept = || glob.compiled.cache.lock().unwrap().memory_usage();
        let (mut path, mut matched, mut seed) = (vec![b'/'], 0, 1_u32);
        for _ in 0..20_000 {
            path.truncate(1);
            for _ in 0..40 {
                // The generator of POSIX's rand().
                seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                path.push(if (seed >> 16) & 1 == 0 { b'a' } else { b'b' });
            }
            let expected = path[path.len() - 15] == b'a';
            assert_eq!(glob.matches(&path), expected, "{}", path.escape_ascii());
            matched += usize::from(expected);
        }
        assert!(matched > 1000 && matched < 19_000);
        assert!(kept() < 2 * MAX_STATES, "{} bytes", kept());
        // While somebody else matches.
        let held = glob.compiled.cache.lock().unwrap();
        assert!(copy.matches(b"/xa12345678901234") && !copy.matches(b"/xb12345678901234"));
        drop(held);
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
