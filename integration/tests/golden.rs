//! imafs against a recorded kernel: every scenario of `integration/golden` is played and must come out as it did
//! there, but for the differences listed in `integration/src/golden/differences.rs` and `docs/differences.md`.

use anyhow::{Result, ensure};
use integration::golden::explain::disagreement;
use integration::golden::{Scenario, Stage, compare, document, play};
use integration::{Need, need};
use std::fmt::Write as _;
use std::sync::{PoisonError, RwLock};

/// Some scenarios make the kernel forget everybody's inodes; those are played alone.
static CACHES: RwLock<()> = RwLock::new(());

fn replay(name: &str) -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Program("cc"), Need::Program("mkfs.ext4"), Need::Program("setfattr"));
    let scenario = Scenario::named(name);
    if scenario.drops_caches()? {
        let _alone = CACHES.write().unwrap_or_else(PoisonError::into_inner);
        agree(&scenario)
    } else {
        let _together = CACHES.read().unwrap_or_else(PoisonError::into_inner);
        agree(&scenario)
    }
}

/// Plays a scenario and asserts that it differs from the recording as listed, and no otherwise.
fn agree(scenario: &Scenario) -> Result<()> {
    let recording = scenario.recording()?;
    let mut stage = Stage::set_up(scenario)?;
    let before = play::before(scenario, &stage)?;
    stage.raise(scenario)?;
    let outcome = play::on_mount(scenario, &stage, before)?;
    let log = stage.log();
    stage.strike()?;
    let mismatches = compare::mismatches(&recording, &outcome)?;
    let found = disagreement(&scenario.name, &mismatches);
    let mut report = String::new();
    for mismatch in &found.unknown {
        write!(report, "not listed: {mismatch}")?;
    }
    for place in &found.gone {
        writeln!(report, "listed, but not so: {place:?}")?;
    }
    ensure!(report.is_empty(), "{}:\n{report}imafs said:\n{log}", scenario.name);
    Ok(())
}

macro_rules! scenarios {
    ($($test:ident: $name:literal),+ $(,)?) => {
        $(#[test] fn $test() -> Result<()> { replay($name) })+

        #[test]
        fn no_scenario_is_left_out() -> Result<()> {
            let mut played = vec![$($name),+];
            played.sort_unstable();
            assert_eq!(Scenario::names()?, played);
            Ok(())
        }
    };
}

scenarios! {
    appraise_enforce_read_is_as_recorded: "appraise-enforce-read",
    appraise_enforce_write_is_as_recorded: "appraise-enforce-write",
    appraise_fix_read_is_as_recorded: "appraise-fix-read",
    appraise_malformed_labels_is_as_recorded: "appraise-malformed-labels",
    appraise_signature_is_as_recorded: "appraise-signature",
    audit_rules_is_as_recorded: "audit-rules",
    boot_no_tpm_is_as_recorded: "boot-no-tpm",
    builtin_tcb_is_as_recorded: "builtin-tcb",
    direct_io_and_labels_is_as_recorded: "direct-io-and-labels",
    hash_rules_and_labels_is_as_recorded: "hash-rules-and-labels",
    hooks_exec_mmap_is_as_recorded: "hooks-exec-mmap",
    measure_basics_is_as_recorded: "measure-basics",
    paths_chroot_bind_is_as_recorded: "paths-chroot-bind",
    policy_load_errors_is_as_recorded: "policy-load-errors",
    policy_syntax_is_as_recorded: "policy-syntax",
    remeasure_after_change_is_as_recorded: "remeasure-after-change",
    rules_uid_fowner_is_as_recorded: "rules-uid-fowner",
    setxattr_security_ima_is_as_recorded: "setxattr-security-ima",
    template_and_pcr_per_rule_is_as_recorded: "template-and-pcr-per-rule",
    template_fmt_inode_fields_is_as_recorded: "template-fmt-inode-fields",
    template_ima_ng_sha1_is_as_recorded: "template-ima-ng-sha1",
    verity_appraise_is_as_recorded: "verity-appraise",
    verity_appraise_fix_is_as_recorded: "verity-appraise-fix",
    verity_measure_is_as_recorded: "verity-measure",
    violations_open_writers_tomtou_is_as_recorded: "violations-open-writers-tomtou",
}

/// With `IMAFS_BLESS=1` in the environment the document is written anew instead.
#[test]
fn the_document_tells_what_the_list_tells() -> Result<()> {
    let expected = document::expected()?;
    if std::env::var_os("IMAFS_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(document::path(), &expected)?;
    }
    let text = std::fs::read_to_string(document::path())?;
    ensure!(text == expected, "docs/differences.md is behind: run this test with IMAFS_BLESS=1");
    Ok(())
}
