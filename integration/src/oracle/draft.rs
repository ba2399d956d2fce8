//! A scenario as the generator makes it and the shrinker takes it apart: policy, files and operations as data.

use std::fmt;

/// A whole scenario.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Draft {
    /// What it came from.
    pub seed: u64,
    /// Arguments of the kernel's command line.
    pub cmdline: Vec<String>,
    /// The rules of the policy, after those that exempt the guest's other file systems.
    pub rules: Vec<Rule>,
    /// What lies in the file system at the start, parents before what is in them.
    pub nodes: Vec<Node>,
    /// What is done.
    pub ops: Vec<Op>,
}

/// A rule of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `measure`, `dont_appraise` and so on.
    pub action: &'static str,
    /// Conditions and options, each a token.
    pub tokens: Vec<String>,
}

impl Rule {
    /// What stands behind `key=`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.tokens.iter().find_map(|token| token.strip_prefix(key)?.strip_prefix('='))
    }

    /// Whether the token is there.
    pub fn has(&self, token: &str) -> bool {
        self.tokens.iter().any(|own| own == token)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.action)?;
        self.tokens.iter().try_for_each(|token| write!(f, " {token}"))
    }
}

/// Something in the file system at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its path from the root of the file system, without a leading slash.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Its owner; the group is the same, or another.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permissions.
    pub mode: u32,
    /// Its label.
    pub label: Label,
}

/// Kinds of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// So many bytes of one letter.
    Text {
        /// The letter.
        letter: u8,
        /// How many.
        size: usize,
    },
    /// A static ELF program that ends with this status.
    Elf(u8),
    /// A script for this interpreter.
    Script(String),
    /// A symbolic link.
    Symlink(String),
    /// One more name of an earlier node.
    Hardlink(String),
    /// A named pipe.
    Fifo,
}

impl Kind {
    /// Whether it is a regular file of its own.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::Text { .. } | Self::Elf(_) | Self::Script(_))
    }
}

/// What is in `security.ima`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Label {
    /// Nothing.
    None,
    /// A hash.
    Hash {
        /// With this algorithm, as the kernel names it.
        algo: &'static str,
        /// In the old form without the algorithm's number (type 01).
        old: bool,
        /// Of this content; otherwise of another.
        good: bool,
    },
    /// A signature (type 03, version 2).
    Signature {
        /// Over a hash with this algorithm.
        algo: &'static str,
        /// By the key in the ring; otherwise by another.
        known: bool,
        /// Of this content; otherwise of another.
        good: bool,
    },
    /// These bytes.
    Raw(Vec<u8>),
}

/// One operation, as `golden/tools/op.c` reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Who does it: a user id, or `REAL/EFFECTIVE`.
    pub actor: &'static str,
    /// Verb and arguments.
    pub words: Vec<String>,
}

impl Op {
    /// This actor doing this; arguments separated by single spaces, `\x20` where one has a space.
    pub fn new(actor: &'static str, words: &[&str]) -> Self {
        Self { actor, words: words.iter().map(|word| (*word).to_owned()).collect() }
    }

    /// The verb.
    pub fn verb(&self) -> &str {
        self.arg(0)
    }

    /// An argument by its place behind the actor: the verb is 0. Empty when it is not there.
    pub fn arg(&self, place: usize) -> &str {
        self.words.get(place).map_or("", String::as_str)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.actor)?;
        self.words.iter().try_for_each(|word| write!(f, " {}", quoted(word)))
    }
}

/// A word as the player wants it: in quotes and with `\xHH` where that is needed.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    let escaped =
        |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("\\x{byte:02x}") };
    format!("\"{}\"", word.bytes().map(escaped).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_where_the_player_needs_it() {
        assert_eq!(Op::new("0", &["cat", "a"]).to_string(), "0 cat a");
        assert_eq!(Op::new("0/1000", &["cat", "a b"]).to_string(), "0/1000 cat \"a\\x20b\"");
        assert_eq!(Op::new("0", &["put", "f", "é\""]).to_string(), "0 put f \"\\xc3\\xa9\\x22\"");
    }

    #[test]
    fn a_rule_shows_its_values() {
        let rule =
            Rule { action: "measure", tokens: vec!["func=FILE_CHECK".into(), "permit_directio".into()] };
        assert_eq!(rule.to_string(), "measure func=FILE_CHECK permit_directio");
        assert_eq!(rule.value("func"), Some("FILE_CHECK"));
        assert_eq!(rule.value("fun"), None);
        assert!(rule.has("permit_directio") && !rule.has("func"));
    }
}
