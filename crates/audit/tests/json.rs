//! The JSON form: field names and order, and bytes that are not text.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use audit::{FileRule, Integrity, Lost, PolicyRule, Process, Record, RecordType, Stamped};

fn json(record: impl Into<Record>) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_790_000_000, 42);
    Stamped::new(7, time, "web".into(), record.into()).json().to_string()
}

fn task() -> Process {
    let mut process = Process::unknown(812);
    process.pid = 800;
    process.ppid = 1;
    for id in [&mut process.uid, &mut process.euid, &mut process.suid, &mut process.fsuid] {
        *id = 1000;
    }
    for id in [&mut process.gid, &mut process.egid, &mut process.sgid, &mut process.fsgid] {
        *id = 100;
    }
    process.comm = Some(b"sh".to_vec());
    process.exe = Some(b"/bin/sh".to_vec());
    process
}

#[test]
fn a_denial_names_task_cause_file_rule_and_digest() {
    let mut record = Integrity::new(RecordType::IntegrityData, task(), "appraise_data", "invalid-hash").file(
        "/usr/bin/x",
        "overlay",
        12,
    );
    record.rule = Some("appraise func=BPRM_CHECK ".into());
    record.digest = Some("sha1:f572d396fae9206628714fb2ce00f72e94f2258f".parse().unwrap());
    assert_eq!(
        json(record),
        concat!(
            r#"{"type":1800,"time":"2026-09-21T14:13:20.000000042Z","serial":7,"ns":"web","pid":812,"uid":1000,"#,
            r#""auid":4294967295,"ses":4294967295,"op":"appraise_data","cause":"invalid-hash","comm":"sh","#,
            r#""exe":"/bin/sh","name":"/usr/bin/x","dev":"overlay","ino":12,"res":0,"errno":0,"#,
            r#""rule":"appraise func=BPRM_CHECK ","digest":"sha1:f572d396fae9206628714fb2ce00f72e94f2258f"}"#
        )
    );
}

#[test]
fn bytes_that_are_not_text_stand_beside_it_in_hex() {
    let mut process = task();
    process.comm = Some(b"a\xff".to_vec());
    let record =
        Integrity::new(RecordType::IntegrityData, process, "o", "c").file(&b"/\xfe\n\"x"[..], "vda", 1);
    let line = json(record);
    assert!(line.contains("\"comm\":\"a\u{fffd}\",\"comm_hex\":\"61ff\""), "{line}");
    assert!(line.contains("\"name\":\"/\u{fffd}\\n\\\"x\",\"name_hex\":\"2ffe0a2278\""), "{line}");
    assert!(!line.contains('\n') && !line.contains("exe_hex"), "{line}");
}

#[test]
fn an_audit_rules_hit_has_all_ids() {
    let digest = "sha1:f572d396fae9206628714fb2ce00f72e94f2258f".parse().unwrap();
    let line = json(FileRule { process: task(), file: b"/a".to_vec(), digest, rule: None });
    let expected = concat!(
        r#""ppid":1,"pid":800,"uid":1000,"auid":4294967295,"ses":4294967295,"gid":100,"euid":1000,"suid":1000,"#,
        r#""fsuid":1000,"egid":100,"sgid":100,"fsgid":100,"tty":null,"comm":"sh","exe":"/bin/sh","name":"/a","#,
        r#""digest":"sha1:f572d396fae9206628714fb2ce00f72e94f2258f"}"#
    );
    assert!(line.ends_with(expected), "{line}");
}

#[test]
fn rules_and_losses_have_their_own_fields() {
    let line = json(PolicyRule { text: b"action=measure".to_vec(), res: true });
    assert!(line.ends_with(r#""ns":"web","res":1,"rule":"action=measure"}"#), "{line}");
    let lost = Lost { sink: "stdout".into(), cause: "queue full".into(), count: 3, first: 5, last: 7 };
    let line = json(Record::Lost(lost));
    let expected =
        r#""op":"audit_lost","cause":"queue full","res":0,"sink":"stdout","lost":3,"first":5,"last":7}"#;
    assert!(line.ends_with(expected), "{line}");
}

#[test]
fn the_kernel_line_carries_time_and_serial_as_auditd_writes_them() {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_790_000_000, 42_999_999);
    let record = Record::from(PolicyRule { text: b"action=measure".to_vec(), res: true });
    let stamped = Stamped::new(7, time, Arc::from("web"), record);
    assert_eq!(stamped.kernel_line(), b"type=1807 msg=audit(1790000000.042:7): action=measure res=1");
}
