//! Appraising: what passes, what is refused, and how long either stands.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails loudly")]

mod common;

use common::{
    Bench, READ, READ_WRITE, Setting, WRITE, access, granted, hello_hash, hello_signature, label_of, rewrite,
    settle,
};
use monitor::{Begun, Change, FMODE_EXEC, MmapCheck, Mode, Object};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const SIGNED: &str = "appraise func=FILE_CHECK appraise_type=imasig\n";
const LABELLED: &str = "appraise func=FILE_CHECK\n";

#[test]
fn a_signed_file_passes_and_is_then_answered_from_memory() {
    let bench = Bench::new(SIGNED);
    bench.trust("ec");
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_signature());
    bench.pass(&file, READ);
    assert!(matches!(bench.begin(&file, READ), Begun::Done(Ok(_))));
    assert!(bench.records().is_empty());
}

#[test]
fn the_same_file_is_refused_once_one_byte_differs() {
    let bench = Bench::new(SIGNED);
    bench.trust("ec");
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_signature());
    bench.pass(&file, READ);
    rewrite(&file, b"jello\n");
    bench.refuse(&file, READ, "invalid-signature");
    bench.refuse(&file, READ, "invalid-signature");
    rewrite(&file, b"hello\n");
    bench.pass(&file, READ);
}

#[test]
fn an_unsigned_a_hash_labelled_and_a_wrongly_keyed_file_are_refused_by_their_names() {
    let bench = Bench::new(SIGNED);
    let file = bench.file("a", b"hello\n");
    bench.refuse(&file, READ, "IMA-signature-required");
    bench.label(&file, &hello_hash());
    bench.refuse(&file, READ, "IMA-signature-required");
    bench.label(&file, &hello_signature());
    bench.refuse(&file, READ, "invalid-signature");
    bench.trust("ec");
    bench.pass(&file, READ);
}

#[test]
fn removing_the_key_ends_the_verdict() {
    let bench = Bench::new(SIGNED);
    bench.trust("ec");
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_signature());
    bench.pass(&file, READ);
    assert!(bench.ring.revoke(ima::parse_signature(&hello_signature()).unwrap().keyid));
    bench.refuse(&file, READ, "invalid-signature");
}

#[test]
fn removing_the_label_ends_the_verdict() {
    let bench = Bench::new(LABELLED);
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_hash());
    bench.pass(&file, READ);
    rustix::fs::removexattr(&file.disk, "security.ima").unwrap();
    settle();
    bench.refuse(&file, READ, "missing-hash");
}

#[test]
fn a_denied_open_does_not_count() {
    let bench = Bench::new("appraise func=FILE_CHECK mask=MAY_WRITE\nmeasure func=FILE_CHECK\n");
    let file = bench.file("a", b"hello\n");
    bench.refuse(&file, WRITE, "missing-hash");
    assert_eq!(file.state().opens(), (0, 0));
    bench.pass(&file, READ);
    assert_eq!(bench.list.violations(), 0);
}

#[test]
fn a_signed_file_cannot_be_opened_for_writing_and_an_unsigned_one_can() {
    let bench = Bench::new(LABELLED);
    bench.trust("ec");
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_signature());
    bench.refuse(&file, WRITE, "signed-file-immutable");
    bench.refuse(&file, READ_WRITE, "signed-file-immutable");
    bench.pass(&file, READ);
    let plain = bench.file("b", b"hello\n");
    bench.label(&plain, &hello_hash());
    bench.pass(&plain, WRITE);
}

#[test]
fn the_last_writer_renews_a_hash_label_and_never_a_signature() {
    let bench = Bench::new(LABELLED);
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_hash());
    bench.hold(&file, WRITE);
    bench.hold(&file, WRITE);
    rewrite(&file, b"other\n");
    bench.close(&file, WRITE);
    assert_eq!(label_of(&file), hello_hash(), "a writer is left");
    bench.close(&file, WRITE);
    let expected = ima::encode_digest(&ima::hash(ima::HashAlgo::Sha256, b"other\n").unwrap());
    assert_eq!(label_of(&file), expected);
    bench.pass(&file, READ);
}

#[test]
fn a_new_file_passes_until_its_last_writer_closes_and_is_labelled_then() {
    let bench = Bench::new(LABELLED);
    let file = bench.file("a", b"");
    let object: Arc<dyn Object> = Arc::<common::TestFile>::clone(&file);
    let created = monitor::Access { created: true, ..access(WRITE) };
    granted(bench.monitor.begin_open(object, created));
    rewrite(&file, b"hello\n");
    bench.pass(&file, READ);
    bench.close(&file, WRITE);
    assert_eq!(label_of(&file), hello_hash());
    bench.pass(&file, READ);
}

#[test]
fn a_file_made_without_a_name_opens_unchecked_and_is_labelled_when_its_last_writer_closes() {
    let bench = Bench::new("measure func=FILE_CHECK\nappraise func=FILE_CHECK\n");
    let file = bench.file("a", b"");
    let object: Arc<dyn Object> = Arc::<common::TestFile>::clone(&file);
    let before = bench.list.count();
    granted(bench.monitor.begin_nameless(object, access(READ_WRITE)));
    assert_eq!(bench.list.count(), before);
    rewrite(&file, b"hello\n");
    bench.close(&file, READ_WRITE);
    assert_eq!(label_of(&file), hello_hash());
    bench.pass(&file, READ);
    assert_eq!(bench.list.count(), before + 1);
}

#[test]
fn what_a_file_made_without_a_name_holds_is_checked_at_every_later_open() {
    let bench = Bench::new(SIGNED);
    let file = bench.file("a", b"");
    let object: Arc<dyn Object> = Arc::<common::TestFile>::clone(&file);
    granted(bench.monitor.begin_nameless(object, access(READ_WRITE)));
    rewrite(&file, b"hello\n");
    bench.refuse(&file, READ, "IMA-signature-required");
    bench.close(&file, READ_WRITE);
    bench.refuse(&file, READ, "IMA-signature-required");
}

#[test]
fn a_rule_that_denies_denies_files_without_names_too() {
    let bench = Bench::new("appraise func=FILE_CHECK appraise_type=deny\n");
    let file = bench.file("a", b"");
    let object: Arc<dyn Object> = Arc::<common::TestFile>::clone(&file);
    assert!(common::finish(bench.monitor.begin_nameless(object, access(WRITE))).is_err());
    assert!(bench.records()[0].contains("denied-by-policy"), "{:?}", bench.records());
}

#[test]
fn an_unlabelled_file_that_is_not_new_is_refused_for_writing() {
    let bench = Bench::new(LABELLED);
    let file = bench.file("a", b"hello\n");
    bench.refuse(&file, WRITE, "missing-hash");
}

#[test]
fn a_writer_that_stays_cannot_hide_a_change_of_signed_content() {
    let bench = Bench::new("appraise func=FILE_CHECK mask=MAY_READ appraise_type=imasig\n");
    bench.trust("ec");
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_signature());
    bench.hold(&file, WRITE);
    bench.refuse(&file, READ, "open_writers");
    rewrite(&file, b"jello\n");
    bench.refuse(&file, READ, "invalid-signature");
    bench.close(&file, WRITE);
    bench.refuse(&file, READ, "invalid-signature");
    rewrite(&file, b"hello\n");
    bench.pass(&file, READ);
}

#[test]
fn signed_content_in_use_is_not_written_and_may_be_afterwards() {
    let bench = Bench::new("appraise func=FILE_CHECK mask=MAY_READ appraise_type=imasig\n");
    bench.trust("ec");
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_signature());
    bench.hold(&file, READ);
    bench.refuse(&file, WRITE, "signed-file-immutable");
    bench.pass(&file, READ);
    bench.refuse(&file, WRITE, "signed-file-immutable");
    bench.close(&file, READ);
    file.used_elsewhere.store(true, Ordering::Relaxed);
    bench.refuse(&file, WRITE, "signed-file-immutable");
    file.used_elsewhere.store(false, Ordering::Relaxed);
    bench.pass(&file, WRITE);
}

#[test]
fn unsigned_content_in_use_may_be_written() {
    let bench = Bench::new("appraise func=FILE_CHECK mask=MAY_READ\n");
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_hash());
    bench.hold(&file, READ);
    bench.pass(&file, WRITE);
}

#[test]
fn log_mode_records_and_serves_and_off_mode_does_neither() {
    for (mode, records) in [(Mode::Log, 1), (Mode::Off, 0)] {
        let bench = Bench::with(SIGNED, Setting { mode, ..Setting::default() });
        let file = bench.file("a", b"hello\n");
        bench.pass(&file, READ);
        assert_eq!(bench.records().len(), records, "{mode:?}");
    }
}

#[test]
fn fix_mode_writes_the_missing_label_and_leaves_a_bad_signature_alone() {
    let bench = Bench::with(LABELLED, Setting { mode: Mode::Fix, ..Setting::default() });
    let file = bench.file("a", b"hello\n");
    bench.pass(&file, READ);
    assert_eq!(label_of(&file), hello_hash());
    let signed = bench.file("b", b"jello\n");
    bench.label(&signed, &hello_signature());
    bench.pass(&signed, READ);
    assert_eq!(label_of(&signed), hello_signature());
}

#[test]
fn a_label_that_fix_mode_wrote_at_one_hook_holds_at_the_next() {
    let setting = Setting { mode: Mode::Fix, ..Setting::default() };
    let bench = Bench::with("appraise func=FILE_CHECK\nappraise func=BPRM_CHECK\n", setting);
    let file = bench.file("run", b"#!/bin/sh\n");
    bench.pass(&file, FMODE_EXEC);
    assert_eq!(bench.records().len(), 1, "the program is labelled before it is judged");
}

#[test]
fn programs_are_checked_when_executed_and_not_when_read() {
    let bench = Bench::new("appraise func=BPRM_CHECK appraise_type=imasig\n");
    let script = bench.file("run", b"#!/bin/sh\n");
    bench.pass(&script, READ);
    bench.refuse(&script, FMODE_EXEC, "IMA-signature-required");
}

#[test]
fn an_elf_file_is_checked_as_a_mapping_when_read_and_a_text_is_not() {
    let bench = Bench::new("appraise func=MMAP_CHECK appraise_type=imasig\n");
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let elf = bench.file("elf", &program);
    bench.refuse(&elf, READ, "IMA-signature-required");
    bench.pass(&elf, WRITE);
    bench.pass(&bench.file("text", b"hello\n"), READ);
}

#[test]
fn the_interpreter_the_kernel_opens_is_a_mapping_and_a_second_exec_of_it_a_program() {
    let bench = Bench::new("appraise func=BPRM_CHECK appraise_type=imasig\nmeasure func=MMAP_CHECK\n");
    let setting = Setting { mode: Mode::Log, ..Setting::default() };
    let bench =
        Bench { dir: bench.dir, ..Bench::with("audit func=BPRM_CHECK\nmeasure func=MMAP_CHECK\n", setting) };
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let elf = bench.file("elf", &program);
    std::fs::create_dir(bench.dir.path().join("lib64")).unwrap();
    let loader = bench.file("lib64/ld-linux-x86-64.so.2", &program);
    bench.pass(&elf, FMODE_EXEC);
    bench.pass(&loader, FMODE_EXEC);
    assert_eq!(bench.records().len(), 1, "the program alone was executed");
    assert_eq!(bench.list.count(), 3, "both were mapped");
    bench.pass(&loader, FMODE_EXEC);
    assert_eq!(bench.records().len(), 2, "executed by itself it is a program");
}

#[test]
fn direct_io_is_refused_unless_permitted() {
    const O_DIRECT: i32 = 0o40000;
    let bench = Bench::new(LABELLED);
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_hash());
    bench.refuse(&file, O_DIRECT, "failed(directio)");
    bench.pass(&file, READ);
    let bench = Bench::new("appraise func=FILE_CHECK permit_directio\n");
    let file = bench.file("a", b"hello\n");
    bench.pass(&file, O_DIRECT);
}

/// One denial is one record, and it names the rule that denies.
#[test]
fn direct_io_leaves_one_record_however_many_layers_and_hooks_it_passes() {
    const O_DIRECT: i32 = 0o40000;
    let setting = Setting { mmap_check: MmapCheck::All, ..Setting::default() };
    let appraised = "appraise func=MMAP_CHECK";
    for (host, container) in [
        ("measure func=FILE_CHECK\nmeasure func=MMAP_CHECK\n".to_owned(), format!("{appraised}\n")),
        (format!("{appraised}\n"), "measure\nappraise func=FILE_CHECK permit_directio\n".to_owned()),
    ] {
        let bench = Bench::layered(&host, &container, setting);
        let file = bench.file("a", b"hello\n");
        bench.label(&file, &hello_hash());
        bench.refuse(&file, O_DIRECT, "failed(directio)");
        let rule = format!("\"rule\":\"{appraised}\"");
        assert!(bench.records()[0].contains(&rule), "{:?}", bench.records());
    }
    let bench = Bench::new("appraise func=FILE_CHECK appraise_type=deny\n");
    let file = bench.file("a", b"hello\n");
    bench.refuse(&file, O_DIRECT, "denied-by-policy");
}

#[test]
fn records_have_the_prefix_while_the_whole_fits_and_else_the_last_component() {
    let setting = Setting { prefix: "/container", ..Setting::default() };
    let bench = Bench::with("appraise func=FILE_CHECK\n", setting);
    let deep = |length: usize| [b"/d".repeat((length - 5) / 2), b"/file".to_vec()].concat();
    let long = vec![b'x'; 255];
    let cases = [
        (b"/a/file".to_vec(), b"/container/a/file".to_vec()),
        (deep(4085), [b"/container".to_vec(), deep(4085)].concat()),
        (deep(4087), b"file".to_vec()),
        (b"file".to_vec(), b"file".to_vec()),
        ([b"/d".repeat(2000), b"/".to_vec(), long.clone()].concat(), long[..254].to_vec()),
    ];
    for (number, (path, name)) in cases.into_iter().enumerate() {
        let file = bench.file(&number.to_string(), b"hello\n");
        *file.path.lock().unwrap() = Some(path);
        bench.refuse(&file, READ, "missing-hash");
        let name = format!("\"name\":\"{}\"", String::from_utf8(name).unwrap());
        assert!(bench.records()[number].contains(&name), "{name} {}", bench.records()[number]);
    }
}

#[test]
fn labels_no_label_can_be_are_not_stored() {
    use rustix::io::Errno;
    use std::ffi::OsStr;
    let bench = Bench::new("appraise func=SETXATTR_CHECK appraise_algos=sha256\n");
    let file = bench.file("a", b"hello\n");
    let ask = |name: &str, value: Option<&[u8]>| {
        bench
            .monitor
            .check_label(file.as_ref(), &access(READ), OsStr::new(name), value)
            .map_err(|d| d.errno())
    };
    assert_eq!(ask("security.ima", Some(&hello_hash())), Ok(()));
    assert_eq!(ask("security.ima", Some(&hello_signature())), Ok(()));
    assert_eq!(ask("security.ima", None), Ok(()));
    assert_eq!(ask("user.x", Some(b"")), Ok(()));
    assert_eq!(ask("security.ima", Some(b"")), Err(Errno::INVAL));
    assert_eq!(ask("security.ima", Some(&[7, 1])), Err(Errno::INVAL));
    assert_eq!(ask("security.evm", Some(&[3, 2])), Err(Errno::PERM));
    let sha512 = [&[4, 6][..], &[0; 64]].concat();
    assert_eq!(ask("security.ima", Some(&sha512)), Err(Errno::ACCESS));
    assert!(bench.records().last().unwrap().contains("denied-hash-algorithm"));
}

#[test]
fn a_truncation_by_path_ends_the_verdict() {
    let bench = Bench::new(LABELLED);
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_hash());
    bench.pass(&file, READ);
    rewrite(&file, b"");
    bench.monitor.changed(file.as_ref(), Change::Content);
    bench.refuse(&file, READ, "invalid-hash");
}

#[test]
fn appraise_algos_denies_each_time() {
    let bench = Bench::new("appraise func=FILE_CHECK appraise_algos=sha512\n");
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_hash());
    bench.refuse(&file, READ, "denied-hash-algorithm");
    bench.refuse(&file, READ, "denied-hash-algorithm");
}

#[test]
fn content_that_cannot_be_read_is_refused() {
    let bench = Bench::new(LABELLED);
    let file = bench.file("a", b"hello\n");
    std::fs::remove_file(&file.disk).unwrap();
    bench.refuse(&file, READ, "failed");
}

#[test]
fn a_rule_that_denies_outright_does_so_each_time_and_only_where_it_matches() {
    let bench = Bench::new("appraise path=/secret appraise_type=deny\nappraise func=FILE_CHECK\n");
    let file = bench.file("secret", b"hello\n");
    bench.label(&file, &hello_hash());
    bench.refuse(&file, READ, "denied-by-policy");
    bench.refuse(&file, READ, "denied-by-policy");
    let other = bench.file("open", b"hello\n");
    bench.label(&other, &hello_hash());
    bench.pass(&other, READ);
}

#[test]
fn signed_content_is_not_served_while_a_writable_mapping_is_left() {
    let bench = Bench::new("appraise func=FILE_CHECK mask=MAY_READ appraise_type=imasig\n");
    bench.trust("ec");
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_signature());
    bench.pass(&file, WRITE);
    file.written_elsewhere.store(true, Ordering::Relaxed);
    bench.refuse(&file, READ, "mmapped_writers");
    bench.refuse(&file, READ, "mmapped_writers");
    file.written_elsewhere.store(false, Ordering::Relaxed);
    bench.pass(&file, READ);
    assert!(matches!(bench.begin(&file, READ), Begun::Done(Ok(_))));
}

/// SHA-256 of `hello\n`, as in `common::hello_hash`.
const HELLO_REVOKED: &str = "bin:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03\n";

#[test]
fn revoked_content_is_refused_whoever_signed_it_and_other_content_is_not() {
    let bench = Bench::revoking(SIGNED, HELLO_REVOKED, Setting::default());
    bench.trust("ec");
    let file = bench.file("f", b"hello\n");
    bench.label(&file, &hello_signature());
    bench.refuse(&file, READ, "blacklisted-hash");
    // Nothing of it is remembered.
    bench.refuse(&file, READ, "blacklisted-hash");
    assert_eq!(bench.list.count(), 1, "what no rule measures is not in the list");

    let bench = Bench::revoking(SIGNED, &HELLO_REVOKED.replace("bin:58", "bin:59"), Setting::default());
    bench.trust("ec");
    let file = bench.file("f", b"hello\n");
    bench.label(&file, &hello_signature());
    bench.pass(&file, READ);
}

#[test]
fn only_rules_that_ask_for_signatures_look_at_the_blacklist() {
    let bench = Bench::revoking("appraise\n", HELLO_REVOKED, Setting::default());
    let file = bench.file("f", b"hello\n");
    bench.label(&file, &hello_hash());
    bench.pass(&file, READ);
}

#[test]
fn log_mode_records_revoked_content_and_serves_it() {
    let setting = Setting { mode: Mode::Log, ..Setting::default() };
    let bench = Bench::revoking(SIGNED, HELLO_REVOKED, setting);
    bench.trust("ec");
    let file = bench.file("f", b"hello\n");
    bench.label(&file, &hello_signature());
    bench.pass(&file, READ);
    let records = bench.records();
    assert_eq!(records.len(), 1, "{records:?}");
    assert!(records[0].contains(r#""cause":"blacklisted-hash""#), "{records:?}");
}

#[test]
fn what_is_revoked_and_measured_has_an_entry_that_says_so() {
    let policy = "measure pcr=11\nappraise appraise_type=imasig\n";
    let bench = Bench::revoking(policy, HELLO_REVOKED, Setting::default());
    bench.trust("ec");
    let file = bench.file("f", b"hello\n");
    bench.label(&file, &hello_signature());
    bench.refuse(&file, READ, "blacklisted-hash");
    bench.refuse(&file, READ, "blacklisted-hash");
    let list = bench.list.snapshot();
    assert_eq!(list.len(), 3, "boot_aggregate, the file, the refusal; once each");
    let mut line = Vec::new();
    list.entry(2).unwrap().unwrap().write_ascii(&mut line, ima::HashAlgo::Sha1).unwrap();
    let line = String::from_utf8(line).unwrap();
    // sha256sum of the 32 bytes of the revoked digest.
    let end = " ima-buf sha256:ecb65bb98f9d905b70458986c39fcbad7715e5f2fcc3b1f07767d7c83e2438cc blacklisted-hash \
               5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03\n";
    assert!(line.starts_with("11 ") && line.ends_with(end), "{line}");
}

/// RIPEMD-128 of `hello\n` by PHP, as in crates/ima.
const HELLO_RMD128: &str = "0ebeb2b8bcd69da162b60816ca120f26";

#[test]
fn a_label_of_an_algorithm_no_kernel_computes_counts_only_where_the_mount_names_it() {
    let label = hex::decode(format!("0408{HELLO_RMD128}")).unwrap();
    let bench = Bench::new(LABELLED);
    let file = bench.file("f", b"hello\n");
    bench.label(&file, &label);
    bench.refuse(&file, READ, "failed");

    let setting = Setting { hash: ima::HashAlgo::Rmd128, ..Setting::default() };
    let bench = Bench::with(LABELLED, setting);
    let file = bench.file("f", b"hello\n");
    bench.label(&file, &label);
    bench.pass(&file, READ);
    let other = bench.file("g", b"jello\n");
    bench.label(&other, &label);
    bench.refuse(&other, READ, "invalid-hash");
}
