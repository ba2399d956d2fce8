//! Known answers, worked out by hand; each that says yes has a sibling that says no.

use std::fs;
use std::path::Path;

use clap::Parser as _;
use serde_json::{Value, json};

use super::*;

/// `imafs policy explain` as it is typed.
#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    args: ExplainArgs,
}

struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    /// A directory with a policy in it.
    fn with(policy: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("policy"), policy).unwrap();
        Self { directory }
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn ask(&self, words: &str) -> Result<(Policy, Access, policy::Explanation), Failure> {
        let mut line = vec!["explain".to_owned(), self.root().join("policy").display().to_string()];
        line.extend(["--root".to_owned(), self.root().display().to_string()]);
        line.extend(words.split_whitespace().map(str::to_owned));
        let args = Line::try_parse_from(line).unwrap().args;
        let policy = super::super::policy::load(&args.file, &ParseOptions::default())?;
        let access = Access::of(&args)?;
        let explanation = answer(&policy, &access)?;
        Ok((policy, access, explanation))
    }

    fn text(&self, words: &str) -> String {
        let (policy, access, explanation) = self.ask(words).unwrap();
        text::Explained { policy: &policy, access: &access, explanation: &explanation }.text()
    }

    fn json(&self, words: &str) -> Value {
        let (policy, access, explanation) = self.ask(words).unwrap();
        text::Explained { policy: &policy, access: &access, explanation: &explanation }.json()
    }
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|found| found.trim() == line), "no line {line:?} in\n{text}");
}

const POLICY: &str = "# a policy\n\
    dont_measure fsmagic=0x9fa0\n\
    measure func=BPRM_CHECK pcr=11 template=ima-sig\n\
    measure mask=^MAY_READ euid=0\n\
    appraise fowner=0 appraise_type=imasig\n\
    dont_audit fowner>999\n\
    audit\n";

#[test]
fn each_class_names_its_rule_and_what_kept_the_ones_before_from_matching() {
    let text = Desk::with(POLICY).text("--path /no/such/file --uid 1000");
    has(&text, "FILE_CHECK of /no/such/file, MAY_READ");
    has(&text, "file: fowner=0 (assumed) fgroup=0 (assumed)");
    has(&text, "measure: no, no rule matches");
    has(&text, "line 2 does not match, fsmagic=0x9fa0 is not met: fsmagic=0xef53");
    has(&text, "line 3 does not match, func=BPRM_CHECK is not met: func=FILE_CHECK");
    has(&text, "line 4 does not match, euid=0 is not met: euid=1000");
    has(&text, "appraise: yes, by signature, by line 5: appraise fowner=0 appraise_type=imasig");
    has(&text, "audit: yes, by line 7: audit");
    has(&text, "line 6 does not match, fowner>999 is not met: fowner=0");
    has(&text, "hash: no, the policy has no hash rule");
}

#[test]
fn the_siblings_are_decided_the_other_way() {
    let desk = Desk::with(POLICY);
    let text = desk.text("--path /f --uid 0 --fowner 1000");
    has(&text, "measure: yes, by line 4: measure mask=^MAY_READ euid=0");
    has(&text, "appraise: no, no rule matches");
    has(&text, "audit: no, by line 6: dont_audit fowner>999");
    let text = desk.text("--path /f --fsmagic 0x9fa0");
    has(&text, "measure: no, by line 2: dont_measure fsmagic=0x9fa0");
    let text = desk.text("--path /f --func BPRM_CHECK --uid 1000");
    has(
        &text,
        "measure: yes, into PCR 11 as ima-sig, by line 3: measure func=BPRM_CHECK pcr=11 template=ima-sig",
    );
    has(
        &desk.text("--path /f --mask MAY_WRITE"),
        "line 4 does not match, mask=^MAY_READ is not met: mask=MAY_WRITE",
    );
    has(
        &desk.text("--path /f --mask MAY_READ|MAY_WRITE"),
        "measure: yes, by line 4: measure mask=^MAY_READ euid=0",
    );
}

#[test]
fn capabilities_let_real_and_saved_ids_match() {
    let desk = Desk::with("measure euid=5\n");
    has(&desk.text("--path /f --uid 5 --euid 0"), "measure: yes, by line 1: measure euid=5");
    let text = desk.text("--path /f --uid 5 --euid 0 --setid false");
    has(&text, "line 1 does not match, euid=5 is not met: euid=0");
    let text = desk.text("--path /f --uid 1 --euid 0");
    has(&text, "line 1 does not match, euid=5 is not met: euid=0 suid=0 uid=1");
}

#[test]
fn a_real_file_gives_its_owner_its_filesystem_and_its_digest() {
    let digest = ima::hash(ima::HashAlgo::Sha256, b"content").unwrap();
    let desk = Desk::with(&format!("appraise digest={digest} appraise_type=deny\nmeasure fowner=1234\n"));
    fs::write(desk.root().join("file"), "content").unwrap();
    std::os::unix::fs::symlink("/file", desk.root().join("link")).unwrap();
    let owner = rustix::process::geteuid().as_raw();
    for path in ["/file", "/link"] {
        let answer = desk.json(&format!("--path {path}"));
        assert_eq!(answer["facts"]["fowner"], json!({ "value": owner, "from": "file" }));
        assert_ne!(answer["facts"]["fsmagic"]["from"], "assumed");
        assert_eq!(answer["classes"][1]["rule"]["line"], 1, "{answer}");
    }
    assert_eq!(desk.json("--path /file --fowner 1234")["classes"][0]["does"], true);
    fs::write(desk.root().join("file"), "other").unwrap();
    let answer = desk.json("--path /file");
    assert_eq!(answer["classes"][1]["verdict"], "none-matches");
    assert_eq!(answer["classes"][1]["missed"][0]["found"], "the content's digest is another");
}

#[test]
fn what_cannot_be_found_out_is_a_failure_that_says_what_to_add() {
    let desk = Desk::with(&format!("appraise digest=sha256:{} appraise_type=deny\n", "0".repeat(64)));
    let failure = desk.ask("--path /none").unwrap_err().to_string();
    assert_eq!(
        failure,
        "imafs: cannot decide about /none: a rule asks for the content's sha256 digest\n  \
         add --digest sha256:HEX, or name a file that is there"
    );
    let given = format!("--path /none --digest sha256:{}", "0".repeat(64));
    has(
        &desk.text(&given),
        &format!(
            "appraise: yes, which refuses it, by line 1: appraise appraise_type=deny digest=sha256:{}",
            "0".repeat(64)
        ),
    );
    let failure = desk.ask("--path relative").unwrap_err().to_string();
    assert!(
        failure.starts_with("imafs: cannot explain relative: paths in a mount begin with /\n"),
        "{failure}"
    );
    for words in ["--path /f --func KEY_CHECK", "--path /f --keyring .ima", "--func KEY_CHECK --label x"] {
        let failure = desk.ask(words).unwrap_err().to_string();
        assert!(failure.contains("--keyring goes with --func KEY_CHECK"), "{failure}");
    }
}

#[test]
fn keys_and_labels_written_have_their_own_answers() {
    let desk = Desk::with(
        "measure func=KEY_CHECK keyrings=.ima\nappraise\nappraise func=SETXATTR_CHECK appraise_algos=sha256\n",
    );
    let text = desk.text("--func KEY_CHECK --keyring .ima");
    has(&text, "measure: yes, by line 1: measure func=KEY_CHECK keyrings=.ima");
    has(&text, "appraise: no, keys and data are measured only");
    let text = desk.text("--func KEY_CHECK --keyring .evm");
    has(&text, "line 1 does not match, keyrings=.ima is not met: keyring .evm");
    let text = desk.text("--path /f --func SETXATTR_CHECK");
    let by = "by line 3: appraise func=SETXATTR_CHECK appraise_algos=sha256";
    has(&text, &format!("security.ima may be written with sha256, {by}"));
    assert_eq!(desk.json("--path /f --func SETXATTR_CHECK")["setxattr"]["algos"], "sha256");
    let text = Desk::with("appraise\n").text("--path /f --func SETXATTR_CHECK");
    has(&text, "security.ima may be written with any algorithm: no rule says otherwise");
}

#[test]
fn a_hash_rule_gives_way_to_an_appraise_rule_further_down() {
    let text = Desk::with("hash\nappraise\n").text("--path /f");
    has(&text, "hash: no, dropped for an appraise rule further down, by line 1: hash");
    has(&Desk::with("appraise\nhash\n").text("--path /f"), "hash: yes, by line 2: hash");
}

#[test]
fn bad_values_are_refused_with_what_is_expected() {
    for (words, expected) in [
        ("--func NONE", "expected one of FILE_CHECK"),
        ("--mask MAY_ACCESS", "expected MAY_EXEC"),
        ("--fsmagic ext4", "expected a hexadecimal number"),
        ("--fsuuid 0123", "expected a UUID"),
        ("--uid root", "invalid digit"),
        ("--digest sha256:00", "--digest"),
    ] {
        let line = ["explain", "policy", "--path", "/f"].into_iter().chain(words.split(' '));
        let error = Line::try_parse_from(line).unwrap_err().to_string();
        assert!(error.contains(expected), "{words}: {error}");
    }
    assert!(Line::try_parse_from(["explain", "policy"]).unwrap_err().to_string().contains("--path"));
}
