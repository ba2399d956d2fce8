//! Each explanation, and beside it something that looks like it and is not explained.

use super::*;
use crate::oracle::draft::{Kind, Label, Node, Rule};
use crate::oracle::steps::Step;

const SIGNED_WRITE: &str = "type=1800 op=appraise_data cause=signed-file-immutable comm=\"op\" name=\"/t/a\"";
const BAD_HASH: &str = "type=1800 op=appraise_data cause=invalid-hash comm=\"op\" name=\"/t/a\"";
const NO_SIGNATURE: &str =
    "type=1800 op=appraise_data cause=IMA-signature-required comm=\"op\" name=\"/t/a\"";
const NO_LABEL: &str = "type=1800 op=appraise_data cause=missing-hash comm=\"op\" name=\"/t/new\"";
const ALGORITHM: &str = "type=1800 op=collect_data cause=denied-hash-algorithm comm=\"op\" name=\"/t/a\"";

/// A play in which both sides agree until told otherwise.
struct Play {
    draft: Draft,
    kernel: Run,
    imafs: Run,
}

/// A text file `a` with another name `link`, a program `p`, and these rules.
fn play(rules: &[&str]) -> Play {
    let node = |path: &str, kind| Node {
        path: path.to_owned(),
        kind,
        uid: 0,
        gid: 0,
        mode: 0o644,
        label: Label::None,
    };
    let rule = |text: &&str| {
        let mut words = text.split(' ').map(str::to_owned);
        let actions = ["measure", "appraise", "audit", "hash"];
        let action = words.next().and_then(|word| actions.into_iter().find(|action| *action == word));
        Rule { action: action.unwrap(), tokens: words.collect() }
    };
    let nodes = vec![
        node("a", Kind::Text { letter: b'a', size: 3 }),
        node("link", Kind::Hardlink("a".to_owned())),
        node("p", Kind::Elf(7)),
    ];
    let draft = Draft { nodes, rules: rules.iter().map(rule).collect(), ..Draft::default() };
    Play { draft, kernel: Run::default(), imafs: Run::default() }
}

fn step(result: &str, entries: &[&str], records: &[&str]) -> Step {
    let entry =
        |text: &&str| crate::golden::list::Entry { ascii: text.as_bytes().to_vec(), binary: vec![1; 40] };
    Step {
        result: result.to_owned(),
        entries: entries.iter().map(entry).collect(),
        violations: 0,
        records: records.iter().map(|record| (*record).to_owned()).collect(),
    }
}

impl Play {
    fn both(self, op: &[&str], result: &str) -> Self {
        self.apart(op, step(result, &[], &[]), step(result, &[], &[]))
    }

    fn apart(mut self, op: &[&str], kernel: Step, imafs: Step) -> Self {
        self.draft.ops.push(Op::new("0", op));
        self.kernel.steps.push(kernel);
        self.imafs.steps.push(imafs);
        self
    }

    fn at_the_end(mut self, path: &str, kernel: &str, imafs: &str) -> Self {
        self.kernel.tree.insert(path.to_owned(), kernel.to_owned());
        self.imafs.tree.insert(path.to_owned(), imafs.to_owned());
        self
    }

    fn verdict(&self) -> Verdict {
        judge(&self.draft, &self.kernel, &self.imafs).unwrap()
    }

    /// Asserts that everything is explained, by these.
    fn explained(&self, by: &[&str]) {
        let verdict = self.verdict();
        assert!(verdict.unexplained.is_empty(), "{:?}", verdict.unexplained);
        let names: BTreeSet<&str> = verdict.explained.keys().copied().collect();
        assert_eq!(names, by.iter().copied().collect());
    }

    /// Asserts that something is left.
    fn unexplained(&self) {
        let verdict = self.verdict();
        assert!(!verdict.unexplained.is_empty(), "explained by {:?}", verdict.explained);
    }
}

#[test]
fn runs_that_agree_need_no_explanation() {
    play(&["measure"]).both(&["cat", "a"], "ok 3").explained(&[]);
    play(&["measure"]).apart(&["cat", "a"], step("ok 3", &[], &[]), step("EACCES", &[], &[])).unexplained();
}

#[test]
fn a_refused_write_may_leave_a_record_and_a_refused_read_may_not() {
    let (bare, told) = (step("EACCES", &[], &[]), step("EACCES", &[], &[SIGNED_WRITE]));
    let name = ["refused write of a signed file leaves a record"];
    play(&["appraise"]).apart(&["append", "a", "x"], bare.clone(), told.clone()).explained(&name);
    play(&["appraise"]).apart(&["cat", "a"], bare.clone(), told.clone()).unexplained();
    play(&["appraise"]).apart(&["append", "a", "x"], told, bare).unexplained();
    let passed = step("ok 1", &[], &[]);
    let passed_told = step("ok 1", &[], &[SIGNED_WRITE]);
    let mut logged = play(&["appraise"]).apart(&["append", "a", "x"], passed, passed_told);
    logged.unexplained();
    logged.draft.cmdline.push("ima_appraise=log".to_owned());
    logged.explained(&name);
}

#[test]
fn a_truncation_by_path_is_seen_by_imafs_alone() {
    let (kernel, imafs) = (step("ok 1", &[], &[]), step("EACCES", &[], &[BAD_HASH]));
    let truncated = |result| play(&["appraise"]).both(&["truncate", "a", "1"], result);
    truncated("ok").apart(&["cat", "a"], kernel.clone(), imafs.clone()).explained(&["truncated by path"]);
    truncated("EACCES").apart(&["cat", "a"], kernel.clone(), imafs.clone()).unexplained();
    truncated("ok").apart(&["cat", "p"], kernel.clone(), step("EACCES", &[], &[])).unexplained();
    truncated("ok").apart(&["cat", "a"], kernel.clone(), step("EACCES", &[], &[])).unexplained();
    truncated("ok").apart(&["cat", "a"], imafs, kernel).unexplained();
}

#[test]
fn algorithms_are_denied_again_only_where_they_were_denied_before() {
    let denied = step("EACCES", &[], &[ALGORITHM]);
    let rule = ["appraise appraise_algos=sha512"];
    let again = |play: Play| play.apart(&["cat", "a"], step("ok 3", &[], &[]), denied.clone());
    let first = play(&rule).apart(&["cat", "a"], denied.clone(), denied.clone());
    again(first).explained(&["appraise_algos denies each time"]);
    again(play(&rule)).unexplained();
    let other = play(&rule).apart(&["cat", "a"], denied.clone(), denied.clone());
    other.apart(&["cat", "a"], step("ok 3", &[], &[]), step("EACCES", &[], &[BAD_HASH])).unexplained();
}

#[test]
fn under_a_writer_imafs_looks_again_and_without_one_it_has_no_reason_to() {
    let (kernel, imafs) = (step("ok 3", &[], &[]), step("EACCES", &["10 x /t/a"], &[BAD_HASH]));
    let name = ["not vouched for under a writer"];
    let opened = |flags: &str| play(&["appraise"]).both(&["open", "w", flags, "a"], "ok");
    opened("rw").apart(&["cat", "a"], kernel.clone(), imafs.clone()).explained(&name);
    opened("r").apart(&["cat", "a"], kernel.clone(), imafs.clone()).unexplained();
    opened("rw")
        .both(&["close", "w"], "ok")
        .apart(&["cat", "a"], kernel.clone(), imafs.clone())
        .unexplained();
    opened("rw").apart(&["cat", "a"], imafs, kernel).unexplained();
    let measured = play(&["measure"]).both(&["open", "w", "rw", "a"], "ok");
    measured.apart(&["cat", "a"], step("ok 3", &[], &[]), step("ok 3", &["10 x /t/a"], &[])).unexplained();
}

#[test]
fn a_program_is_checked_as_a_mapping_when_it_is_opened() {
    let entry = "10 x /t/p";
    let (bare, listed) = (step("ok 3", &[], &[]), step("ok 3", &[entry], &[]));
    let early = |rule: &str| play(&[rule]).apart(&["cat", "p"], bare.clone(), listed.clone());
    early("measure func=MMAP_CHECK").explained(&["checked as a mapping when opened"]);
    early("measure").explained(&["checked as a mapping when opened"]);
    early("measure func=FILE_CHECK").unexplained();
    play(&["measure"]).apart(&["cat", "a"], bare.clone(), step("ok 3", &["10 x /t/a"], &[])).unexplained();
    // The kernel has the same entry when the program is run, and no other.
    let run = |entries: &[&str]| {
        early("measure func=MMAP_CHECK").apart(
            &["exec", "/t/p"],
            step("exit 7", entries, &[]),
            step("exit 7", &[], &[]),
        )
    };
    run(&[entry]).explained(&["checked as a mapping when opened", "same entry, at another operation"]);
    run(&["10 y /t/p"]).unexplained();
    let (old, new) = ("size=9 security.ima=0x0404aa", "size=9 security.ima=0x0404bb");
    play(&["hash"]).at_the_end("p", old, new).explained(&["checked as a mapping when opened"]);
    play(&["hash func=FILE_CHECK"]).at_the_end("p", old, new).unexplained();
    play(&["hash"]).at_the_end("a", old, new).unexplained();
}

#[test]
fn what_follows_a_refused_open_is_that_it_is_not_open() {
    let opened = |imafs: Step| {
        let play = play(&["appraise"]).both(&["truncate", "a", "1"], "ok");
        play.apart(&["open", "r", "r", "a"], step("ok", &[], &[]), imafs)
    };
    let refused = || opened(step("EACCES", &[], &[BAD_HASH]));
    let (read, not_open) = (step("ok 1", &[], &[]), step("not open", &[], &[]));
    let names = ["truncated by path", "follows from an open that one side refused"];
    refused().apart(&["read", "r"], read.clone(), not_open.clone()).explained(&names);
    play(&["appraise"])
        .both(&["open", "r", "r", "a"], "ok")
        .apart(&["read", "r"], read, not_open)
        .unexplained();
}

#[test]
fn an_attribute_of_evm_is_refused_and_no_other() {
    let (kernel, imafs) = (step("ENODATA", &[], &[]), step("EPERM", &[], &[]));
    let remove =
        |name: &str| play(&["measure"]).apart(&["removexattr", "a", name], kernel.clone(), imafs.clone());
    remove("security.evm").explained(&["security.evm is not written"]);
    remove("security.ima").unexplained();
    let set = play(&["measure"]).apart(
        &["setxattr", "a", "security.evm", "0x05"],
        step("ok", &[], &[]),
        step("EPERM", &[], &[]),
    );
    let line = "mode=100644 size=3 security.evm=0x05";
    set.at_the_end("a", line, "mode=100644 size=3").explained(&["security.evm is not written"]);
    play(&["measure"]).at_the_end("a", "mode=100644 security.ima=0x05", "mode=100644").unexplained();
}

#[test]
fn a_file_may_be_recorded_by_another_of_its_own_names() {
    let record = |name: &str| format!("type=1805 file=\"{name}\" hash=\"sha256:00\"");
    let named = |name: &str| step("ok 3", &[], &[&record(name)]);
    let played = |kernel: Step, imafs: Step| play(&["audit"]).apart(&["cat", "a"], kernel, imafs);
    played(named("/t/a"), named("/t/link")).explained(&["recorded by another of its names"]);
    played(named("/t/a"), named("/t/p")).unexplained();
    played(named("/t/a"), step("ok 3", &[], &[])).unexplained();
    let other = step("ok 3", &[], &["type=1805 file=\"/t/link\" hash=\"sha256:11\""]);
    played(named("/t/a"), other).unexplained();
}

#[test]
fn a_new_file_stays_new_when_its_attributes_change() {
    let (kernel, imafs) = (step("EACCES", &[], &[NO_LABEL]), step("ok 0", &[], &[]));
    let made = |change: &[&str]| play(&["appraise"]).both(&["mknod", "new"], "ok").both(change, "ok");
    let read = |play: Play| play.apart(&["cat", "new"], kernel.clone(), imafs.clone());
    read(made(&["chmod", "600", "new"])).explained(&["new until it is closed"]);
    read(made(&["stat", "new"])).unexplained();
    made(&["chmod", "600", "new"]).apart(&["cat", "new"], imafs.clone(), kernel.clone()).unexplained();
    let old = play(&["appraise"]).both(&["chmod", "600", "a"], "ok");
    old.apart(&["cat", "a"], kernel.clone(), imafs.clone()).unexplained();
}

#[test]
fn attributes_make_the_kernel_audit_again_after_a_writer() {
    let again = step("ok 3", &[], &["type=1805 file=\"/t/a\" hash=\"sha256:00\""]);
    let written = |change: &[&str]| {
        let play = play(&["audit"]).both(change, "ok").both(&["open", "w", "rw", "a"], "ok");
        play.both(&["close", "w"], "ok")
    };
    let read = |play: Play| play.apart(&["cat", "a"], again.clone(), step("ok 3", &[], &[]));
    read(written(&["chmod", "600", "a"])).explained(&["attributes are not content"]);
    read(written(&["stat", "a"])).unexplained();
    read(play(&["audit"]).both(&["chmod", "600", "a"], "ok")).unexplained();
    written(&["chmod", "600", "a"]).apart(&["cat", "a"], step("ok 3", &[], &[]), again.clone()).unexplained();
}

#[test]
fn flags_of_another_rule_need_another_rule() {
    let (kernel, imafs) = (step("EACCES", &[], &[NO_SIGNATURE]), step("ok 3", &[], &[]));
    let read = |rules: &[&str]| play(rules).apart(&["cat", "a"], kernel.clone(), imafs.clone());
    read(&["appraise func=BPRM_CHECK appraise_type=imasig", "appraise"])
        .explained(&["flags of another rule"]);
    read(&["appraise appraise_type=imasig"]).unexplained();
    read(&["appraise"]).unexplained();
    let direct = |rules: &[&str]| {
        play(rules).apart(&["open", "d", "r+direct", "a"], step("ok", &[], &[]), step("EACCES", &[], &[]))
    };
    direct(&["measure permit_directio", "appraise"]).explained(&["flags of another rule"]);
    direct(&["appraise permit_directio"]).unexplained();
}

#[test]
fn what_passed_under_another_rule_passes_in_the_kernel() {
    let (kernel, imafs) = (step("ok 3", &[], &[]), step("EACCES", &[], &[NO_SIGNATURE]));
    let read = |rules: &[&str]| play(rules).apart(&["cat", "a"], kernel.clone(), imafs.clone());
    read(&["appraise mask=MAY_EXEC", "appraise appraise_type=imasig"]).explained(&["flags of another rule"]);
    read(&["appraise appraise_type=imasig"]).unexplained();
    let mixed = play(&["appraise mask=MAY_EXEC", "appraise appraise_type=imasig"]);
    mixed.apart(&["cat", "a"], kernel.clone(), step("EACCES", &[], &[BAD_HASH])).unexplained();
}

#[test]
fn a_refused_writer_has_the_file_labelled_under_a_hash_rule() {
    let (old, new) = ("size=3 security.ima=0x0406aa", "size=3 security.ima=0x0404aa");
    let ended = |rules: &[&str], answer: &str| {
        play(rules).both(&["append", "a", "x"], answer).at_the_end("a", new, old)
    };
    ended(&["hash", "appraise"], "EACCES").explained(&["labelled though the writer was refused"]);
    ended(&["appraise"], "EACCES").unexplained();
    ended(&["hash", "appraise"], "ENOENT").unexplained();
    let resized = play(&["hash"]).both(&["append", "a", "x"], "EACCES");
    resized.at_the_end("a", "size=4 security.ima=0x0404aa", old).unexplained();
}

#[test]
fn a_hash_rule_labels_and_never_with_another_content() {
    let ended = |rules: &[&str], kernel: &str, imafs: &str| {
        let play = play(rules).both(&["open", "w", "rw", "a"], "ok").both(&["close", "w"], "ok");
        play.at_the_end("a", kernel, imafs)
    };
    let (bare, labelled) = ("mode=100644 size=3", "mode=100644 size=3 security.ima=0x0404aa");
    ended(&["hash"], bare, labelled).explained(&["labelled by a hash rule"]);
    ended(&["measure"], bare, labelled).unexplained();
    ended(&["hash"], labelled, bare).unexplained();
    ended(&["hash"], "mode=100644 size=3 security.ima=0x0404bb", labelled).unexplained();
    play(&["hash"]).at_the_end("a", bare, labelled).unexplained();
}

#[test]
fn zeros_are_audited_under_direct_io_and_content_after_it() {
    let zeros = "type=1805 file=\"/t/a\" hash=\"sha256:0000\"";
    let content = "type=1805 file=\"/t/a\" hash=\"sha256:ab00\"";
    let (bare, audited) = (step("ok", &[], &[]), step("ok", &[], &[content]));
    let opened = |flags: &str, record: &str| {
        play(&["audit"]).apart(&["open", "d", flags, "a"], step("ok", &[], &[record]), bare.clone())
    };
    let name = ["audited without its content"];
    opened("r+direct", zeros).explained(&name);
    opened("r+direct", content).unexplained();
    opened("r", zeros).unexplained();
    opened("r+direct", zeros).apart(&["cat", "a"], bare.clone(), audited.clone()).explained(&name);
    play(&["audit"]).apart(&["cat", "a"], bare, audited).unexplained();
}

#[test]
fn what_has_parted_stays_apart_and_nothing_else_does() {
    let parted = || {
        let play = play(&["appraise"]).both(&["truncate", "a", "1"], "ok");
        play.apart(&["append", "a", "x"], step("ok 1", &[], &[]), step("EACCES", &[], &[BAD_HASH]))
    };
    let names = ["truncated by path", "content or label parted before"];
    parted().at_the_end("a", "size=2", "size=1").explained(&names);
    parted().at_the_end("p", "size=2", "size=1").unexplained();
}

#[test]
fn every_explanation_is_documented_and_has_a_name_of_its_own() {
    let document = std::fs::read_to_string(crate::golden::document::path()).unwrap();
    let mut names = BTreeSet::new();
    for explanation in all() {
        assert!(
            document.contains(explanation.documented),
            "{}: {}",
            explanation.name,
            explanation.documented
        );
        assert!(names.insert(explanation.name), "{} twice", explanation.name);
    }
}
