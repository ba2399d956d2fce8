//! 200,000 rules made from the grammar: each parses, is written, and parses again to the same rule; and what is done to
//! their bytes never ends in a panic. The seed is fixed, so that each run tries the same.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test helper that fails fails its test"
)]

use policy::{ParseOptions, Rule, parse_rule, parse_rule_recorded};

const IMAFS: ParseOptions = ParseOptions { kernel_only: false };
const RULES: usize = 200_000;

/// SplitMix64 (Steele, Lea, Flood 2014): enough chance for a test, the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }

    fn word(&mut self, letters: &[u8], most: usize) -> String {
        let length = 1 + self.below(most);
        (0..length).map(|_| char::from(*self.pick(letters))).collect()
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from(*self.pick(b"0123456789abcdefABCDEF"))).collect()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}

const FILE_FUNCS: [&str; 9] = [
    "FILE_CHECK",
    "PATH_CHECK",
    "MMAP_CHECK",
    "FILE_MMAP",
    "MMAP_CHECK_REQPROT",
    "BPRM_CHECK",
    "CREDS_CHECK",
    "FIRMWARE_CHECK",
    "POLICY_CHECK",
];
const MODULE_FUNCS: [&str; 3] = ["MODULE_CHECK", "KEXEC_KERNEL_CHECK", "KEXEC_INITRAMFS_CHECK"];
const ACTIONS: [&str; 8] =
    ["measure", "dont_measure", "appraise", "dont_appraise", "audit", "dont_audit", "hash", "dont_hash"];

fn id(chance: &mut Chance) -> String {
    let operator = *chance.pick(&["=", "<", ">"]);
    let sign = if chance.one_in(9) { "+00" } else { "" };
    let value = match chance.below(4) {
        0 => 0,
        1 => chance.next() % 70_000,
        2 => chance.next() % 4_294_967_295,
        _ => 4_294_967_294,
    };
    format!("{operator}{sign}{value}")
}

fn list(chance: &mut Chance) -> String {
    let names: Vec<_> = (0..=chance.below(3)).map(|_| chance.word(b".abcxyz_-=#", 9)).collect();
    names.join("|")
}

/// Conditions on ids: at most one of each slot.
fn ids(chance: &mut Chance, effective: bool, items: &mut Vec<String>) {
    for keys in [["uid", "euid"], ["gid", "egid"]] {
        if chance.one_in(3) {
            let key = if effective { *chance.pick(&keys) } else { keys[0] };
            items.push(format!("{key}{}", id(chance)));
        }
    }
}

fn file_system(chance: &mut Chance, items: &mut Vec<String>) {
    if chance.one_in(4) {
        let prefix = *chance.pick(&["", "0x", "0X", "+", "+0x"]);
        let digits = 1 + chance.below(16);
        items.push(format!("fsmagic={prefix}{}", chance.hex(digits)));
    }
    if chance.one_in(4) {
        items.push(format!("fsname={}", chance.word(b"abz0.#=<>|*?[{~-", 70)));
    }
    if chance.one_in(6) {
        items.push(format!("fs_subtype={}", chance.word(b"abz0.=", 70)));
    }
    if chance.one_in(6) {
        let uuid = [8, 4, 4, 4, 12].map(|digits| chance.hex(digits)).join("-");
        let tail = if chance.one_in(4) { "tail" } else { "" };
        items.push(format!("fsuuid={uuid}{tail}"));
    }
    for key in ["fowner", "fgroup"] {
        if chance.one_in(4) {
            items.push(format!("{key}{}", id(chance)));
        }
    }
    ids(chance, true, items);
}

fn additions(chance: &mut Chance, items: &mut Vec<String>) {
    if chance.one_in(8) {
        let parts: Vec<_> = (0..=chance.below(3))
            .map(|_| (*chance.pick(&["usr", "*", "**", "b?n", "{a,b}", "[a-z]*", "[!x]", "\\*"])).to_owned())
            .collect();
        items.push(format!("path=/{}", parts.join("/")));
    }
    if chance.one_in(12) {
        let digests: Vec<_> = (0..=chance.below(2)).map(|_| format!("sha256:{}", chance.hex(64))).collect();
        items.push(format!("digest={}", digests.join(",").to_lowercase()));
    }
}

fn appraisal(chance: &mut Chance, modules: bool, items: &mut Vec<String>) {
    let denies = match chance.below(5) {
        0 => {
            items.push("appraise_type=imasig".to_owned());
            false
        }
        1 if modules => {
            items.push("appraise_type=imasig|modsig".to_owned());
            false
        }
        1 => {
            items.push("digest_type=verity appraise_type=sigv3".to_owned());
            false
        }
        2 => {
            items.push("appraise_type=deny".to_owned());
            true
        }
        _ => false,
    };
    if chance.one_in(4) {
        let mut names = ["sha1", "sha256", "sha384", "sha512", "md5", "sha3-256", "rmd160"];
        chance.shuffle(&mut names);
        let count = 1 + chance.below(names.len());
        items.push(format!("appraise_algos={}", names[..count].join(",")));
    }
    if !denies && chance.one_in(5) {
        items.push("permit_directio".to_owned());
    }
    if chance.one_in(8) {
        items.push("appraise_flag=check_blacklist".to_owned());
    }
}

fn measurement(chance: &mut Chance, items: &mut Vec<String>) {
    if chance.one_in(3) {
        items.push(format!("pcr={}", chance.below(64)));
    }
    if chance.one_in(4) {
        let templates = ["ima", "ima-ng", "ima-sig", "ima-buf", "d-ng|n-ng", "ima-ngv2", "evm-sig", "d|n"];
        // Behind the action, whatever the order of the rest.
        items.push(format!("template={}", chance.pick(&templates)));
    }
}

/// A valid line.
fn line(chance: &mut Chance) -> String {
    let mut items = Vec::new();
    let kind = chance.below(20);
    let mut action = *chance.pick(&ACTIONS);
    match kind {
        0 => {
            action = "appraise";
            items.push("func=SETXATTR_CHECK".to_owned());
            items.push("appraise_algos=sha512,sha256".to_owned());
        }
        1..=3 => {
            action = *chance.pick(&["measure", "dont_measure"]);
            let (func, names) =
                *chance.pick(&[("KEY_CHECK", "keyrings"), ("CRITICAL_DATA", "label"), ("KEXEC_CMDLINE", "")]);
            items.push(format!("func={func}"));
            if names.is_empty() {
                file_system(chance, &mut items);
            } else {
                ids(chance, false, &mut items);
                if chance.one_in(2) {
                    items.push(format!("{names}={}", list(chance)));
                }
            }
        }
        _ => {
            let modules = kind < 6;
            if modules {
                items.push(format!("func={}", chance.pick(&MODULE_FUNCS)));
            } else if !chance.one_in(4) {
                items.push(format!("func={}", chance.pick(&FILE_FUNCS)));
            }
            if chance.one_in(3) {
                let caret = if chance.one_in(2) { "^" } else { "" };
                let bit = *chance.pick(&["EXEC", "WRITE", "READ", "APPEND"]);
                items.push(format!("mask={caret}MAY_{bit}"));
            }
            file_system(chance, &mut items);
            additions(chance, &mut items);
            if action == "appraise" {
                appraisal(chance, modules, &mut items);
            } else {
                for option in ["permit_directio", "digest_type=verity"] {
                    if chance.one_in(8) && !(modules && option.starts_with("digest")) {
                        items.push(option.to_owned());
                    }
                }
            }
        }
    }
    if action == "measure" {
        measurement(chance, &mut items);
    }
    items.push(action.to_owned());
    chance.shuffle(&mut items);
    written(chance, &items, action)
}

/// The items with blanks between them, `template=` behind the action, perhaps a comment at the end.
fn written(chance: &mut Chance, items: &[String], action: &str) -> String {
    let mut line = String::new();
    let (templates, others): (Vec<_>, Vec<_>) = items.iter().partition(|item| item.starts_with("template="));
    for item in others {
        let blank = *chance.pick(&["", "", " ", "\t"]);
        line.push_str(blank);
        line.push_str(item);
        line.push(' ');
        if item == action {
            templates.iter().for_each(|template| line.push_str(&format!("{template}\t")));
        }
    }
    if chance.one_in(10) {
        line.push_str("# measure uid=");
    }
    line
}

fn rule(line: &str) -> Rule {
    match parse_rule(line.as_bytes(), &IMAFS) {
        Ok(Some(rule)) => rule,
        other => panic!("{line:?}: {other:?}"),
    }
}

/// Whether the kernel's own read-back says all of the rule; it does not for what these parts hold.
fn shown_in_full(line: &str, rule: &Rule) -> bool {
    let source = rule.to_source();
    let long = |word: &str| {
        word.strip_prefix("fsname=")
            .or_else(|| word.strip_prefix("fs_subtype="))
            .is_some_and(|it| it.len() > 63)
    };
    let large = |word: &str| {
        let digits = word.split(['=', '<', '>']).nth(1).unwrap_or_default();
        let keys = ["uid", "euid", "gid", "egid", "fowner", "fgroup"];
        keys.iter().any(|key| word.split(['=', '<', '>']).next() == Some(key))
            && digits.parse::<u32>().is_ok_and(|id| id > i32::MAX.cast_unsigned())
    };
    !line.contains("sigv3")
        && !line.contains("appraise_flag")
        && !source.split(' ').any(|it| long(it) || large(it))
}

#[test]
fn rules_parse_print_and_parse_again_to_the_same_rule() {
    let mut chance = Chance(1);
    let mut by_the_kernels_words = 0;
    for _ in 0..RULES {
        let line = line(&mut chance);
        let rule_of_line = rule(&line);
        assert_eq!(rule(&rule_of_line.to_source()), rule_of_line, "{line:?}");
        if shown_in_full(&line, &rule_of_line) {
            by_the_kernels_words += 1;
            assert_eq!(rule(&rule_of_line.to_string()), rule_of_line, "{line:?}");
        }
    }
    assert!(by_the_kernels_words > RULES / 3, "only {by_the_kernels_words}");
}

#[test]
fn mutated_lines_never_panic_and_refusals_point_into_the_line() {
    let mut chance = Chance(2);
    let mut refused = 0;
    for _ in 0..RULES {
        let mut bytes = line(&mut chance).into_bytes();
        for _ in 0..=chance.below(3) {
            let at = chance.below(bytes.len() + 1);
            match chance.below(5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, u8::try_from(chance.next() & 0xff).unwrap()),
                2 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
                3 => bytes.splice(at..at, line(&mut chance).into_bytes()).for_each(drop),
                _ => bytes.drain(at..(at + chance.below(9)).min(bytes.len())).for_each(drop),
            }
        }
        let read = parse_rule_recorded(&bytes, &IMAFS);
        assert_eq!(read.record.is_some(), !matches!(read.outcome, Ok(None)));
        match read.outcome {
            Ok(Some(rule_of_line)) => assert_eq!(rule(&rule_of_line.to_source()), rule_of_line),
            Ok(None) => {}
            Err(refusal) => {
                refused += 1;
                let at = bytes.get(refusal.column - 1..).unwrap();
                assert!(String::from_utf8_lossy(at).starts_with(&refusal.token), "{refusal:?}");
            }
        }
    }
    assert!(refused > RULES / 4, "only {refused} refused");
}
