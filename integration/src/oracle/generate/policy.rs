//! Policies: every action, hook, mask, condition and option that can be played.

use crate::golden::stage::UUID;
use crate::oracle::draft::Rule;
use crate::oracle::generate::Theme;
use crate::oracle::rng::Rng;

/// Registers that rules name: none that the firmware extends, and none that need a locality of their own.
const REGISTERS: [u32; 6] = [8, 9, 11, 12, 15, 23];

/// Templates by name and by format.
const TEMPLATES: [&str; 8] =
    ["ima-ng", "ima-sig", "ima-ngv2", "ima-sigv2", "ima-buf", "evm-sig", "ima-modsig", "d-ng|n-ng"];

/// Draws a policy: rules with narrow conditions first, for the first that matches decides, then wide ones, so that
/// most of what is done is decided about.
pub fn draw(rng: &mut Rng, theme: Theme) -> Vec<Rule> {
    let mut rules = Vec::new();
    for _ in 0..1 + rng.below(5) {
        rules.push(match rng.below(100) {
            0..15 => audit(rng, theme),
            15..25 => hash(rng, theme),
            25..60 if theme.appraise => appraise(rng, theme),
            _ => measure(rng, theme),
        });
    }
    if rng.chance(75) || !theme.appraise {
        rules.push(wide_measure(rng, theme));
    }
    if theme.appraise {
        rules.push(wide_appraise(rng, theme));
    }
    if rng.chance(15) {
        rules.push(confined("audit", wide(rng, theme)));
    }
    if rng.chance(10) {
        rules.push(Rule { action: "hash", tokens: wide(rng, theme) });
    }
    if theme.algorithms && rng.chance(50) {
        let algos = algorithms(rng);
        let place = rng.below(rules.len() + 1);
        rules.insert(place, Rule { action: "appraise", tokens: vec!["func=SETXATTR_CHECK".into(), algos] });
    }
    rules
}

fn wide_measure(rng: &mut Rng, theme: Theme) -> Rule {
    let tokens = wide(rng, theme);
    measure_by(rng, "measure", tokens, theme)
}

fn wide_appraise(rng: &mut Rng, theme: Theme) -> Rule {
    let tokens = wide(rng, theme);
    appraise_by(rng, "appraise", tokens, theme)
}

/// A hook that most operations meet, and at most one condition.
fn wide(rng: &mut Rng, theme: Theme) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    match rng.below(10) {
        0 if theme.exec => tokens.push("func=BPRM_CHECK".to_owned()),
        1..3 if theme.mmap || theme.exec => {}
        3..6 => tokens
            .extend(["func=FILE_CHECK".to_owned(), rng.one(&["mask=MAY_READ", "mask=^MAY_READ"]).to_owned()]),
        _ => tokens.push("func=FILE_CHECK".to_owned()),
    }
    if rng.chance(25) {
        tokens.push(rng.one(&["fowner<1001", "fowner=0", "uid=0", "euid>999", "fsname=ext4"]).to_owned());
    }
    tokens
}

/// Draws the kernel's arguments.
pub fn cmdline(rng: &mut Rng, theme: Theme) -> Vec<String> {
    let mut words = Vec::new();
    if theme.appraise && rng.chance(30) {
        words.push(format!("ima_appraise={}", rng.one(&["fix", "log", "enforce", "off"])));
    }
    if rng.chance(25) {
        words.push(format!("ima_template={}", rng.one(&["ima-ng", "ima-ngv2", "ima-sigv2", "ima-sig"])));
    } else if rng.chance(10) {
        words
            .push(format!("ima_template_fmt={}", rng.one(&["d-ng|n-ng|sig|iuid", "n-ng|d-ngv2|imode|igid"])));
    }
    if rng.chance(15) {
        words.push(format!("ima_hash={}", rng.one(&["sha1", "sha512", "sha384"])));
    }
    if rng.chance(10) {
        words.push("oracle.notpm".to_owned());
    }
    words
}

fn measure(rng: &mut Rng, theme: Theme) -> Rule {
    let action = if rng.chance(15) { "dont_measure" } else { "measure" };
    let tokens = scope(rng, theme);
    measure_by(rng, action, tokens, theme)
}

fn measure_by(rng: &mut Rng, action: &'static str, mut tokens: Vec<String>, theme: Theme) -> Rule {
    if action == "measure" {
        if rng.chance(20) {
            tokens.push(format!("pcr={}", rng.one(&REGISTERS)));
        }
        if rng.chance(20) {
            tokens.push(format!("template={}", rng.one(&TEMPLATES)));
        }
    }
    if theme.direct && rng.chance(20) {
        tokens.push("permit_directio".to_owned());
    }
    Rule { action, tokens }
}

fn appraise(rng: &mut Rng, theme: Theme) -> Rule {
    let action = if rng.chance(15) { "dont_appraise" } else { "appraise" };
    let tokens = scope(rng, theme);
    appraise_by(rng, action, tokens, theme)
}

fn appraise_by(rng: &mut Rng, action: &'static str, mut tokens: Vec<String>, theme: Theme) -> Rule {
    if action == "appraise" {
        // Without a mixture every rule that appraises asks for signatures.
        if theme.signatures && (!theme.mixed || rng.chance(50)) {
            tokens.push("appraise_type=imasig".to_owned());
        }
        if theme.algorithms && rng.chance(40) {
            tokens.push(algorithms(rng));
        }
        if theme.direct && rng.chance(30) {
            tokens.push("permit_directio".to_owned());
        }
    }
    Rule { action, tokens }
}

fn audit(rng: &mut Rng, theme: Theme) -> Rule {
    let mut tokens = scope(rng, theme);
    if rng.chance(70) && !tokens.iter().any(|token| token.starts_with("fs")) {
        tokens.push(file_system(rng));
    }
    confined("audit", tokens)
}

/// A rule about the scenario's file system alone: there is no dont_audit in 6.1 to exempt the guest's own with.
fn confined(action: &'static str, mut tokens: Vec<String>) -> Rule {
    if !tokens.iter().any(|token| token.starts_with("fs")) {
        tokens.push("fsname=ext4".to_owned());
    }
    Rule { action, tokens }
}

fn hash(rng: &mut Rng, theme: Theme) -> Rule {
    let action = if rng.chance(20) { "dont_hash" } else { "hash" };
    Rule { action, tokens: scope(rng, theme) }
}

/// A hook, a mask and conditions, or none of them.
fn scope(rng: &mut Rng, theme: Theme) -> Vec<String> {
    let mut tokens = Vec::new();
    let hook = match rng.below(100) {
        0..60 => rng.one(&["FILE_CHECK", "FILE_CHECK", "FILE_CHECK", "PATH_CHECK"]),
        60..85 if theme.exec => rng.one(&["BPRM_CHECK", "BPRM_CHECK", "CREDS_CHECK"]),
        85..95 if theme.mmap => rng.one(&["MMAP_CHECK", "FILE_MMAP"]),
        // A rule without a hook is about mappings as well.
        _ if theme.mmap && rng.chance(50) => "",
        _ => "FILE_CHECK",
    };
    if !hook.is_empty() {
        tokens.push(format!("func={hook}"));
    }
    if rng.chance(50) {
        let mask = match hook {
            "FILE_CHECK" | "PATH_CHECK" => {
                rng.one(&["MAY_READ", "MAY_READ", "MAY_WRITE", "MAY_APPEND", "MAY_EXEC"])
            }
            _ => "MAY_EXEC",
        };
        let any = if rng.chance(50) { "^" } else { "" };
        tokens.push(format!("mask={any}{mask}"));
    }
    if rng.chance(15) {
        tokens.push(file_system(rng));
    }
    if rng.chance(25) {
        tokens.push(number(rng, &["uid", "euid"]));
    }
    if rng.chance(10) {
        tokens.push(number(rng, &["gid", "egid"]));
    }
    if rng.chance(30) {
        tokens.push(number(rng, &["fowner"]));
    }
    if rng.chance(10) {
        tokens.push(number(rng, &["fgroup"]));
    }
    tokens
}

fn number(rng: &mut Rng, keys: &[&str]) -> String {
    let (operator, value) = if rng.chance(60) {
        ("=", rng.one(&[0, 1000, 1001]))
    } else {
        (rng.one(&["<", ">"]), rng.one(&[0, 1, 1000]))
    };
    format!("{}{operator}{value}", rng.one(keys))
}

fn file_system(rng: &mut Rng) -> String {
    match rng.below(4) {
        0 => "fsmagic=0xef53".to_owned(),
        1 => format!("fsuuid={UUID}"),
        2 if rng.chance(20) => "fsname=xfs".to_owned(),
        _ => "fsname=ext4".to_owned(),
    }
}

fn algorithms(rng: &mut Rng) -> String {
    format!(
        "appraise_algos={}",
        rng.one(&["sha256", "sha256,sha512", "sha512", "sha1,md5,sha256", "sha384,sha256,sha224"])
    )
}
