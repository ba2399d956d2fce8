//! Attempts to have content served, mapped or run that never passed, or served unmeasured, by somebody who is root
//! in the container; and the good files that a defence must not refuse.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails loudly")]

mod common;

use common::{
    Bench, READ, READ_WRITE, Setting, TestFile, WRITE, access, finish, granted, hello_hash, hello_signature,
    label_of, rewrite, settle, to_end,
};
use monitor::{
    Access, Begun, Change, Closed, Closing, Denial, FMODE_EXEC, FileState, Grant, MmapCheck, Monitor, Names,
    Object, Step, Ticket, Work,
};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};

const LABELLED: &str = "appraise func=FILE_CHECK\n";
const READ_SIGNED: &str = "appraise func=FILE_CHECK mask=MAY_READ appraise_type=imasig\n";

/// Each read-open counts as a mapping, so that six bytes can stand for a library.
fn all_mapped() -> Setting {
    Setting { mmap_check: MmapCheck::All, ..Setting::default() }
}

fn signed_hello(bench: &Bench) -> Arc<TestFile> {
    bench.trust("ec");
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_signature());
    file
}

fn labelled_hello(bench: &Bench) -> Arc<TestFile> {
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_hash());
    file
}

/// Opens for writing as the request that created the file.
fn create(bench: &Bench, file: &Arc<TestFile>) {
    let object: Arc<dyn Object> = Arc::<TestFile>::clone(file);
    granted(bench.monitor.begin_open(object, Access { created: true, ..access(WRITE) }));
}

/// Opens, expects a denial with this error and exactly one record, of this cause.
fn refuse_as(bench: &Bench, file: &Arc<TestFile>, flags: i32, errno: Errno, cause: &str) {
    let before = bench.records().len();
    assert_eq!(bench.open(file, flags).unwrap_err().errno(), errno);
    let records = bench.records();
    assert_eq!(records.len(), before + 1, "{records:?}");
    assert!(records.last().unwrap().contains(&format!("\"cause\":\"{cause}\"")), "{records:?}");
}

// Writers that stay.

#[test]
fn a_digest_remembered_for_measuring_does_not_vouch_for_signed_content_under_a_writer() {
    let policy = "measure func=FILE_CHECK\nappraise func=MMAP_CHECK appraise_type=imasig\n";
    let bench = Bench::with(policy, all_mapped());
    let file = signed_hello(&bench);
    bench.pass(&file, READ);
    bench.hold(&file, WRITE);
    rewrite(&file, b"jello\n");
    bench.violation(&file, READ, "invalid-signature");
}

#[test]
fn a_signature_never_evaluated_before_is_held_against_what_the_writer_left_there() {
    let policy = "measure func=FILE_CHECK mask=MAY_WRITE\nappraise func=MMAP_CHECK\n";
    let bench = Bench::with(policy, all_mapped());
    let file = signed_hello(&bench);
    bench.hold(&file, WRITE);
    rewrite(&file, b"jello\n");
    bench.refuse(&file, READ, "invalid-signature");
}

#[test]
fn a_writer_whose_label_nobody_keeps_up_cannot_hide_what_it_wrote() {
    let bench = Bench::with("appraise func=MMAP_CHECK\n", all_mapped());
    let file = labelled_hello(&bench);
    bench.pass(&file, READ);
    bench.hold(&file, WRITE);
    bench.pass(&file, READ);
    rewrite(&file, b"jello\n");
    bench.refuse(&file, READ, "invalid-hash");
    rewrite(&file, b"hello\n");
    bench.pass(&file, READ);
}

#[test]
fn a_writer_whose_label_is_kept_up_disturbs_no_reader() {
    let bench = Bench::new(LABELLED);
    let file = labelled_hello(&bench);
    bench.hold(&file, WRITE);
    rewrite(&file, b"jello\n");
    bench.pass(&file, READ);
    bench.close(&file, WRITE);
    bench.pass(&file, READ);
    assert!(bench.records().is_empty());
}

#[test]
fn truncating_on_opening_neither_stops_readers_nor_the_renewal_of_the_label() {
    let bench = Bench::new(LABELLED);
    let file = labelled_hello(&bench);
    bench.hold(&file, WRITE);
    rewrite(&file, b"");
    bench.monitor.changed(file.as_ref(), Change::Content);
    bench.pass(&file, READ);
    rewrite(&file, b"jello\n");
    bench.close(&file, WRITE);
    bench.pass(&file, READ);
}

#[test]
fn a_key_that_comes_while_a_file_is_written_does_not_stop_the_renewal_of_its_label() {
    let bench = Bench::new(LABELLED);
    let file = labelled_hello(&bench);
    bench.hold(&file, WRITE);
    rewrite(&file, b"jello\n");
    bench.trust("ec");
    bench.hold(&file, WRITE);
    bench.close(&file, WRITE);
    bench.close(&file, WRITE);
    bench.pass(&file, READ);
}

#[test]
fn a_failed_appraisal_in_between_leaves_the_label_alone() {
    let policy = "appraise func=FILE_CHECK mask=MAY_EXEC appraise_type=imasig\nappraise func=FILE_CHECK\n";
    let bench = Bench::new(policy);
    let file = labelled_hello(&bench);
    bench.hold(&file, WRITE);
    rewrite(&file, b"jello\n");
    bench.refuse(&file, FMODE_EXEC, "IMA-signature-required");
    bench.close(&file, WRITE);
    assert_eq!(label_of(&file), hello_hash());
    bench.refuse(&file, READ, "invalid-hash");
}

// Writes through a mapping, most of which no timestamp shows.

/// A process that has the file mapped shared and writable, and no descriptor of ours.
struct Mapping {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Mapping {
    const SCRIPT: &str = "import mmap, os, sys\n\
        fd = os.open(sys.argv[1], os.O_RDWR)\n\
        memory = mmap.mmap(fd, 0)\n\
        for line in sys.stdin:\n    memory[:] = bytes.fromhex(line)\n    print('done', flush=True)\n";

    /// `None`, with a word about it, where there is no python3.
    fn of(file: &TestFile) -> Option<Self> {
        let mut python = Command::new("python3");
        python.args(["-c", Self::SCRIPT]).arg(&file.disk).stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut child) = python.spawn() else {
            assert!(std::env::var_os("CI").is_none(), "nothing is skipped in CI");
            eprintln!("skipped: python3 is needed to write through a mapping");
            return None;
        };
        let answers = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, answers })
    }

    fn write(&mut self, content: &[u8]) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{}", hex::encode(content)).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n");
        settle();
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

#[test]
fn signed_content_changed_through_a_dirty_page_is_not_served_after_the_close() {
    let bench = Bench::new(READ_SIGNED);
    let file = signed_hello(&bench);
    bench.hold(&file, WRITE);
    let Some(mut mapping) = Mapping::of(&file) else { return };
    mapping.write(b"hello\n");
    bench.refuse(&file, READ, "open_writers");
    mapping.write(b"jello\n");
    drop(mapping);
    bench.close(&file, WRITE);
    bench.refuse(&file, READ, "invalid-signature");
}

#[test]
fn content_changed_through_a_dirty_page_is_measured_after_the_close() {
    let bench = Bench::new("measure func=FILE_CHECK mask=MAY_READ\n");
    let file = bench.file("a", b"hello\n");
    bench.hold(&file, WRITE);
    let Some(mut mapping) = Mapping::of(&file) else { return };
    mapping.write(b"jello\n");
    bench.pass(&file, READ);
    let entries = bench.list.count();
    mapping.write(b"fellow");
    drop(mapping);
    bench.close(&file, WRITE);
    bench.pass(&file, READ);
    assert_eq!(bench.list.count(), entries + 1);
}

#[test]
fn a_text_made_a_library_through_a_dirty_page_is_checked_as_a_mapping() {
    let bench = Bench::new("appraise func=MMAP_CHECK appraise_type=imasig\n");
    let mut library = [0_u8; 64];
    library[..18].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0");
    let file = bench.file("a", &[b'x'; 64]);
    bench.hold(&file, WRITE);
    let Some(mut mapping) = Mapping::of(&file) else { return };
    mapping.write(&[b'y'; 64]);
    bench.pass(&file, READ);
    mapping.write(&library);
    bench.refuse(&file, READ, "IMA-signature-required");
    drop(mapping);
    bench.close(&file, WRITE);
    bench.refuse(&file, READ, "IMA-signature-required");
}

#[test]
fn the_label_is_renewed_when_a_mapping_that_outlived_its_open_has_ended() {
    let bench = Bench::new(LABELLED);
    let file = labelled_hello(&bench);
    bench.hold(&file, WRITE);
    file.written_elsewhere.store(true, Ordering::Relaxed);
    bench.close(&file, WRITE);
    rewrite(&file, b"jello\n");
    bench.pass(&file, READ);
    file.written_elsewhere.store(false, Ordering::Relaxed);
    bench.pass(&file, READ);
    assert_ne!(label_of(&file), hello_hash());
    assert!(bench.records().is_empty());
}

#[test]
fn a_label_is_owed_until_a_mapping_ends_and_not_while_another_writer_has_the_file() {
    let bench = Bench::new(LABELLED);
    let file = labelled_hello(&bench);
    let object = || -> Arc<dyn Object> { Arc::<TestFile>::clone(&file) };
    assert!(bench.monitor.owed(object()).is_none());
    bench.hold(&file, WRITE);
    file.written_elsewhere.store(true, Ordering::Relaxed);
    bench.close(&file, WRITE);
    rewrite(&file, b"jello\n");
    let looked = to_end(bench.monitor.owed(object()).unwrap(), Closing::run);
    assert_eq!((looked, label_of(&file)), (Closed::Mapped, hello_hash()));
    bench.hold(&file, WRITE);
    assert!(bench.monitor.owed(object()).is_none());
    bench.close(&file, WRITE);
    // Two may be under way at once; the second has nothing left to do.
    let both = [bench.monitor.owed(object()).unwrap(), bench.monitor.owed(object()).unwrap()];
    file.written_elsewhere.store(false, Ordering::Relaxed);
    for closing in both {
        assert_eq!(to_end(closing, Closing::run), Closed::Settled);
    }
    assert_ne!(label_of(&file), hello_hash());
    assert!(bench.monitor.owed(object()).is_none());
    bench.pass(&file, READ);
    assert!(bench.records().is_empty());
}

/// Nobody tells when a mapping ends. To ask again is for later; the thread is free for the work of others.
#[test]
fn work_that_waits_for_somebody_to_leave_holds_no_thread() {
    let bench = Bench::new(LABELLED);
    let file = labelled_hello(&bench);
    bench.hold(&file, WRITE);
    file.written_elsewhere.store(true, Ordering::Relaxed);
    let object: Arc<dyn Object> = Arc::<TestFile>::clone(&file);
    let Some(closing) = bench.monitor.release(object, WRITE, Ticket::NONE) else { unreachable!() };
    let Begun::Work(work) = bench.begin(&file, READ) else { unreachable!() };
    let Step::Later { work: closing, .. } = closing.run() else { panic!("the label is renewed too soon") };
    rewrite(&file, b"jello\n");
    file.written_elsewhere.store(false, Ordering::Relaxed);
    assert!(matches!(closing.run(), Step::Done(Closed::Settled)));
    assert_ne!(label_of(&file), hello_hash());
    assert!(matches!(work.run(), Step::Done(Ok(_))));
    bench.close(&file, READ);
    let signed = bench.file("b", b"hello\n");
    bench.trust("ec");
    bench.label(&signed, &hello_signature());
    bench.pass(&signed, READ);
    signed.used_elsewhere.store(true, Ordering::Relaxed);
    let Begun::Work(work) = bench.begin(&signed, WRITE) else { unreachable!() };
    let Step::Later { work, .. } = work.run() else { panic!("decided while somebody may be leaving") };
    signed.used_elsewhere.store(false, Ordering::Relaxed);
    let Step::Done(Err(denial)) = work.run() else { panic!("a signed file is not written") };
    assert_eq!(denial.cause(), "signed-file-immutable");
}

#[test]
fn an_open_for_writing_that_wrote_nothing_changes_no_label() {
    let bench = Bench::new(LABELLED);
    let file = bench.file("a", b"hello\n");
    let sha512 = ima::encode_digest(&ima::hash(ima::HashAlgo::Sha512, b"hello\n").unwrap());
    bench.label(&file, &sha512);
    bench.pass(&file, READ_WRITE);
    assert_eq!(label_of(&file), sha512);
    assert!(matches!(bench.begin(&file, READ_WRITE), Begun::Work(_)));
    bench.pass(&file, READ);
    assert!(matches!(bench.begin(&file, READ), Begun::Done(Ok(_))));
}

// Files that are new.

#[test]
fn a_new_file_is_new_only_for_rules_that_saw_it_made() {
    let bench = Bench::with("appraise func=MMAP_CHECK\n", all_mapped());
    let created = bench.file("a", b"");
    create(&bench, &created);
    rewrite(&created, b"hello\n");
    bench.refuse(&created, READ, "missing-hash");
    let made = bench.file("b", b"");
    bench.monitor.changed(made.as_ref(), Change::Created);
    bench.hold(&made, WRITE);
    rewrite(&made, b"hello\n");
    bench.refuse(&made, READ, "missing-hash");
}

#[test]
fn a_file_made_by_mknod_is_new_to_the_rule_for_opens() {
    let bench = Bench::new(LABELLED);
    let made = bench.file("a", b"");
    bench.monitor.changed(made.as_ref(), Change::Created);
    bench.hold(&made, WRITE);
    rewrite(&made, b"hello\n");
    bench.pass(&made, READ);
    bench.close(&made, WRITE);
    assert_eq!(label_of(&made), hello_hash());
}

// The container's own layer.

#[test]
fn rules_of_the_container_keep_up_no_label_that_the_host_relies_on() {
    for container in ["appraise func=FILE_CHECK\n", "hash func=FILE_CHECK\n"] {
        let bench = Bench::layered("appraise func=MMAP_CHECK\n", container, all_mapped());
        let file = labelled_hello(&bench);
        bench.hold(&file, WRITE);
        rewrite(&file, b"jello\n");
        bench.close(&file, WRITE);
        assert_eq!(label_of(&file), hello_hash(), "{container}");
        let new = bench.file("b", b"");
        create(&bench, &new);
        rewrite(&new, b"hello\n");
        bench.refuse(&new, READ, "missing-hash");
    }
}

#[test]
fn rules_of_the_container_keep_up_labels_where_the_host_asks_for_signatures_only() {
    let bench = Bench::layered("appraise func=BPRM_CHECK appraise_type=imasig\n", LABELLED, all_mapped());
    let file = labelled_hello(&bench);
    bench.hold(&file, WRITE);
    rewrite(&file, b"jello\n");
    bench.close(&file, WRITE);
    bench.pass(&file, READ);
    let new = bench.file("b", b"");
    create(&bench, &new);
    rewrite(&new, b"hello\n");
    bench.close(&new, WRITE);
    bench.pass(&new, READ);
}

// Programs.

#[test]
fn an_interpreter_in_disguise_is_still_checked_as_a_mapping() {
    let bench = Bench::new("measure func=MMAP_CHECK\n");
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let elf = bench.file("elf", &program);
    std::fs::create_dir(bench.dir.path().join("lib64")).unwrap();
    // The kernel looks at neither class nor byte order in `e_ident`.
    let disguised = [&program[..4], &[1, 2], &program[6..]].concat();
    let loader = bench.file("lib64/ld-linux-x86-64.so.2", &disguised);
    bench.hold(&elf, FMODE_EXEC);
    bench.pass(&loader, FMODE_EXEC);
    assert_eq!(bench.list.count(), 3, "boot_aggregate, the program, its interpreter");
}

/// An exec that fails after its program was opened leaves a thread that has not gone on to the interpreter.
#[test]
fn what_is_started_after_an_exec_that_failed_is_a_program() {
    let bench = Bench::new("audit func=BPRM_CHECK\n");
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let elf = bench.file("elf", &program);
    std::fs::create_dir(bench.dir.path().join("lib64")).unwrap();
    let loader = bench.file("lib64/ld-linux-x86-64.so.2", &program);
    // Once from the check, once from memory.
    for turn in 0..2 {
        let grant = finish(bench.begin(&elf, FMODE_EXEC)).unwrap();
        let object: Arc<dyn Object> = Arc::<TestFile>::clone(&elf);
        assert!(bench.monitor.release(object, FMODE_EXEC, grant.ticket()).is_none());
        let before = bench.records().len();
        rewrite(&loader, &[&program[..], &[turn, 0]].concat());
        bench.pass(&loader, FMODE_EXEC);
        assert_eq!(bench.records().len(), before + 1, "the interpreter is a program");
        let running = finish(bench.begin(&elf, FMODE_EXEC)).unwrap();
        rewrite(&loader, &[&program[..], &[turn, 1]].concat());
        bench.pass(&loader, FMODE_EXEC);
        assert_eq!(bench.records().len(), before + 1, "the interpreter is the program's");
        drop(running);
    }
}

#[test]
fn a_library_that_only_musl_would_load_is_checked_as_a_mapping() {
    let bench = Bench::new("appraise func=MMAP_CHECK appraise_type=imasig\n");
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let library = bench.file("a", &[b"MZ\x90\0", &program[4..]].concat());
    bench.refuse(&library, READ, "IMA-signature-required");
}

#[test]
fn a_program_is_not_started_while_somebody_writes_it() {
    let bench = Bench::new("appraise func=BPRM_CHECK appraise_type=imasig\n");
    let file = signed_hello(&bench);
    bench.hold(&file, WRITE);
    refuse_as(&bench, &file, FMODE_EXEC, Errno::TXTBSY, "mmapped_writers");
    bench.close(&file, WRITE);
    bench.pass(&file, FMODE_EXEC);
    assert!(matches!(bench.begin(&file, FMODE_EXEC), Begun::Done(Ok(_))));
}

#[test]
fn nobody_writes_a_program_between_its_check_and_its_start() {
    let bench = Bench::new("appraise func=BPRM_CHECK appraise_type=imasig\n");
    let file = signed_hello(&bench);
    bench.hold(&file, FMODE_EXEC);
    for flags in [WRITE, READ_WRITE] {
        refuse_as(&bench, &file, flags, Errno::TXTBSY, "open_for_execution");
        let rule = "\"rule\":\"appraise func=BPRM_CHECK appraise_type=imasig\"";
        assert!(bench.records().last().unwrap().contains(rule), "{:?}", bench.records());
    }
    bench.pass(&file, READ);
    bench.close(&file, FMODE_EXEC);
    bench.pass(&file, WRITE);
}

// Files with several names.

/// Gives the file another name, of which the filesystem knows if `known`.
fn link(bench: &Bench, file: &TestFile, name: &str, known: bool) {
    std::fs::hard_link(&file.disk, bench.dir.path().join(name)).unwrap();
    settle();
    if known {
        file.other_names.lock().unwrap().push(format!("/{name}").into_bytes());
    }
}

#[test]
fn a_hard_link_does_not_take_a_file_out_of_a_rule_about_paths() {
    for (name, known, path) in [("b", true, "/b"), ("b", true, "/{b,c}"), ("b", false, "/c")] {
        let bench = Bench::new(&format!("appraise func=FILE_CHECK path={path} appraise_type=imasig\n"));
        let file = bench.file("a", b"hello\n");
        bench.pass(&file, READ);
        link(&bench, &file, name, known);
        bench.label(&file, &hello_hash());
        bench.refuse(&file, READ, "IMA-signature-required");
        bench.trust("ec");
        bench.label(&file, &hello_signature());
        bench.pass(&file, READ);
    }
}

#[test]
fn a_file_all_of_whose_names_are_outside_a_rule_about_paths_is_let_through() {
    let bench = Bench::new("appraise func=FILE_CHECK path=/c appraise_type=imasig\n");
    let file = bench.file("a", b"hello\n");
    link(&bench, &file, "b", true);
    bench.pass(&file, READ);
    assert!(matches!(bench.begin(&file, READ), Begun::Done(Ok(_))));
}

#[test]
fn what_one_name_exempts_another_does_not() {
    let bench = Bench::new("dont_appraise path=/b\nappraise func=FILE_CHECK path=/**\n");
    let file = bench.file("b", b"hello\n");
    bench.pass(&file, READ);
    link(&bench, &file, "a", true);
    bench.refuse(&file, READ, "missing-hash");
    let bench = Bench::new("dont_measure path=/b\nmeasure path=/**\n");
    let file = bench.file("b", b"hello\n");
    bench.pass(&file, READ);
    assert_eq!(bench.list.count(), 1, "boot_aggregate alone");
    link(&bench, &file, "a", false);
    bench.pass(&file, READ);
    assert_eq!(bench.list.count(), 2);
}

#[test]
fn a_file_whose_names_are_not_all_known_is_held_against_every_rule_about_paths() {
    let policy = "measure path=/x pcr=11\nmeasure path=/y pcr=12\nappraise path=/x\n\
        appraise path=/y appraise_type=imasig\ndont_appraise\n";
    let bench = Bench::new(policy);
    let file = labelled_hello(&bench);
    bench.pass(&file, READ);
    assert_eq!(bench.list.count(), 1);
    link(&bench, &file, "b", false);
    bench.refuse(&file, READ, "IMA-signature-required");
    assert_eq!(bench.list.count(), 3, "measured into both");
    bench.trust("ec");
    bench.label(&file, &hello_signature());
    bench.pass(&file, READ);
    bench.pass(&file, READ);
}

// What is remembered, and for whom.

#[test]
fn a_pass_under_one_requirement_is_none_under_another() {
    let policy = "appraise func=FILE_CHECK mask=MAY_READ appraise_type=imasig\n\
        appraise func=FILE_CHECK mask=MAY_EXEC digest_type=verity appraise_type=sigv3\n";
    let bench = Bench::new(policy);
    let file = signed_hello(&bench);
    bench.pass(&file, READ);
    bench.refuse(&file, FMODE_EXEC, "verity-signature-required");
    bench.pass(&file, READ);
    bench.refuse(&file, FMODE_EXEC, "verity-signature-required");
}

/// A file whose name is asked for, which happens between its evidence and the note that it was measured; there the
/// label is changed once.
struct Relabelled {
    file: Arc<TestFile>,
    monitor: OnceLock<Arc<Monitor>>,
    done: AtomicBool,
}

impl Object for Relabelled {
    fn state(&self) -> &FileState {
        self.file.state()
    }
    fn stat_fd(&self) -> std::io::Result<Arc<OwnedFd>> {
        self.file.stat_fd()
    }
    fn read_fd(&self) -> std::io::Result<Arc<OwnedFd>> {
        self.file.read_fd()
    }
    fn is_in_use(&self) -> std::io::Result<bool> {
        Ok(false)
    }

    fn is_written(&self) -> std::io::Result<bool> {
        self.file.is_written()
    }
    fn path(&self) -> Vec<u8> {
        if !self.done.swap(true, Ordering::Relaxed) {
            let set = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(&self.file.disk, "security.ima", &hello_signature(), set).unwrap();
            self.monitor.get().unwrap().changed(self, Change::Label(Some(3)));
            settle();
        }
        self.file.path()
    }
    fn names(&self, links: u32) -> Names {
        self.file.names(links)
    }
    fn resolve(&self, path: &[u8]) -> Option<(u64, u64)> {
        self.file.resolve(path)
    }
}

#[test]
fn a_label_set_while_its_file_is_being_measured_is_measured_at_the_next_open() {
    for policy in ["measure func=FILE_CHECK\n", "measure func=FILE_CHECK\nappraise func=FILE_CHECK\n"] {
        let bench = Bench::new(policy);
        let file = labelled_hello(&bench);
        let monitor = OnceLock::from(Arc::clone(&bench.monitor));
        let object: Arc<dyn Object> =
            Arc::new(Relabelled { file: Arc::clone(&file), monitor, done: AtomicBool::new(false) });
        granted(bench.monitor.begin_open(object, access(READ)));
        bench.close(&file, READ);
        bench.trust("ec");
        bench.pass(&file, READ);
        assert_eq!(bench.list.count(), 3, "boot_aggregate, and the file with each of its labels");
        if policy.contains("appraise") {
            bench.refuse(&file, WRITE, "signed-file-immutable");
        }
    }
}

/// A file whose content cannot be asked for without a fault of ours.
struct Faulty(Arc<TestFile>);

impl Object for Faulty {
    fn state(&self) -> &FileState {
        self.0.state()
    }
    fn stat_fd(&self) -> std::io::Result<Arc<OwnedFd>> {
        self.0.stat_fd()
    }
    fn read_fd(&self) -> std::io::Result<Arc<OwnedFd>> {
        assert!(self.0.path().is_empty(), "a fault, on purpose");
        self.0.read_fd()
    }
    fn is_in_use(&self) -> std::io::Result<bool> {
        Ok(false)
    }
    fn is_written(&self) -> std::io::Result<bool> {
        Ok(false)
    }
    fn path(&self) -> Vec<u8> {
        self.0.path()
    }
    fn names(&self, links: u32) -> Names {
        self.0.names(links)
    }
    fn resolve(&self, path: &[u8]) -> Option<(u64, u64)> {
        self.0.resolve(path)
    }
}

#[test]
fn a_check_that_panics_denies_and_leaves_its_record() {
    let bench = Bench::new(LABELLED);
    let file = labelled_hello(&bench);
    let denial = finish(bench.monitor.begin_open(Arc::new(Faulty(Arc::clone(&file))), access(READ)));
    assert_eq!(denial.map(drop).unwrap_err().errno(), Errno::ACCESS);
    let records = bench.records();
    assert_eq!(records.len(), 1, "{records:?}");
    assert!(records[0].contains("\"cause\":\"internal-error\"") && records[0].contains("\"name\":\"/a\""));
    assert_eq!((bench.monitor.denials(), file.state().opens()), (1, (0, 0)));
    bench.pass(&file, READ);
}

// Load.

type Job = Box<dyn FnOnce() + Send>;

/// One inode's queue, worked off by one thread in order, as the filesystem's pool does it.
struct Queue(mpsc::Sender<Job>);

impl Queue {
    fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::spawn(move || queue.into_iter().for_each(|job| job()));
        Self(jobs)
    }

    fn submit(&self, job: impl FnOnce() + Send + 'static) {
        self.0.send(Box::new(job)).unwrap();
    }
}

/// What the filesystem's reader thread does to one file: begins and ends opens in order, and waits for answers.
struct Reader {
    bench: Bench,
    file: Arc<TestFile>,
    queue: Queue,
    answer: mpsc::Sender<(i32, Result<Grant, Denial>)>,
    answers: mpsc::Receiver<(i32, Result<Grant, Denial>)>,
    waiting: usize,
    open: VecDeque<i32>,
}

impl Reader {
    fn new(bench: Bench, file: Arc<TestFile>) -> Self {
        let (answer, answers) = mpsc::channel();
        Self { bench, file, queue: Queue::new(), answer, answers, waiting: 0, open: VecDeque::new() }
    }

    fn begin(&mut self, flags: i32) {
        self.waiting += 1;
        match self.bench.begin(&self.file, flags) {
            Begun::Done(result) => self.answer.send((flags, result)).unwrap(),
            Begun::Work(work) => {
                let answer = self.answer.clone();
                self.queue.submit(move || answer.send((flags, to_end(work, Work::run))).unwrap());
            }
        }
    }

    /// Takes the answers that are there, or waits until at most `left` are to come. All must be grants.
    fn take(&mut self, left: usize) {
        loop {
            let next =
                if self.waiting > left { self.answers.recv().ok() } else { self.answers.try_recv().ok() };
            let Some((flags, result)) = next else { return };
            drop(result.unwrap());
            self.waiting -= 1;
            self.open.push_back(flags);
        }
    }

    fn end(&mut self) {
        let Some(flags) = self.open.pop_front() else { return };
        let object: Arc<dyn Object> = Arc::<TestFile>::clone(&self.file);
        if let Some(closing) = self.bench.monitor.release(object, flags, Ticket::NONE) {
            self.queue.submit(move || assert_eq!(to_end(closing, Closing::run), Closed::Settled));
        }
    }
}

#[test]
fn no_good_file_is_refused_and_no_violation_invented_at_any_interleaving() {
    let bench = Bench::new("appraise func=FILE_CHECK\nmeasure func=FILE_CHECK mask=MAY_READ\n");
    let file = labelled_hello(&bench);
    let mut reader = Reader::new(bench, file);
    let mut seed = 7_u64;
    for turn in 0..2000_u32 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let flags = if seed >> 60 < 5 { WRITE } else { READ };
        reader.take(3);
        if reader.open.contains(&WRITE) {
            std::fs::write(&reader.file.disk, turn.to_string()).unwrap();
        }
        let (readers, writers) = reader.file.state().opens();
        let clashes = if flags == WRITE { readers > 0 } else { writers > 0 };
        if (seed >> 40).is_multiple_of(2) && reader.open.len() < 4 && !(clashes && turn < 1000) {
            reader.begin(flags);
        } else {
            reader.end();
        }
        if turn == 999 {
            assert_eq!(reader.bench.list.violations(), 0, "readers and writers never met");
        }
    }
    assert!(reader.bench.list.violations() > 0, "they met");
    reader.take(0);
    while !reader.open.is_empty() {
        reader.end();
    }
    reader.begin(READ);
    reader.take(0);
    reader.end();
    assert_eq!(reader.file.state().opens(), (0, 0));
    assert!(reader.bench.records().iter().all(|record| record.contains("invalid_pcr")));
}

// Files so large that reading them would hold up everybody.

/// A little more than is read in any thread.
const LARGE: u64 = (16 << 20) + 1;

fn large(bench: &Bench) -> Arc<TestFile> {
    let file = bench.file("large", b"");
    std::fs::File::options().write(true).open(&file.disk).unwrap().set_len(LARGE).unwrap();
    settle();
    file
}

#[test]
fn a_large_file_is_read_where_it_holds_up_nobody_and_judged_as_any_other() {
    let bench = Bench::new("measure func=FILE_CHECK\nappraise func=FILE_CHECK\n");
    let file = large(&bench);
    let open = || {
        let Begun::Work(work) = bench.begin(&file, READ) else { panic!("decided unread") };
        let Step::Large { work, user: 0 } = work.run() else { panic!("read where others wait") };
        let Step::Done(decided) = work.run() else { panic!("not read") };
        decided
    };
    assert_eq!(bench.list.count(), 1);
    assert_eq!(open().unwrap_err().cause(), "missing-hash");
    assert_eq!((bench.list.count(), bench.records().len()), (2, 1), "once, though it was run twice");
    let digest = ima::hash(ima::HashAlgo::Sha256, &vec![0; LARGE as usize]).unwrap();
    bench.label(&file, &ima::encode_digest(&digest));
    drop(open().unwrap());
    assert!(matches!(bench.begin(&file, READ), Begun::Done(Ok(_))), "remembered");
}

#[test]
fn the_label_of_a_large_file_is_renewed_where_it_holds_up_nobody() {
    let bench = Bench::new(LABELLED);
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_hash());
    bench.hold(&file, WRITE);
    std::fs::File::options().write(true).open(&file.disk).unwrap().set_len(LARGE).unwrap();
    settle();
    let object: Arc<dyn Object> = Arc::<TestFile>::clone(&file);
    let closing = bench.monitor.release(object, WRITE, Ticket::NONE).unwrap();
    let Step::Large { work: closing, .. } = closing.run() else { panic!("read where others wait") };
    assert_eq!(label_of(&file), hello_hash(), "nothing is lost by that");
    assert!(matches!(closing.run(), Step::Done(Closed::Settled)));
    assert_ne!(label_of(&file), hello_hash());
    drop(finish(bench.begin(&file, READ)).unwrap());
}

#[test]
fn what_nobody_waits_for_any_more_is_neither_granted_nor_refused() {
    let bench = Bench::new("measure func=FILE_CHECK\nappraise func=FILE_CHECK\n");
    let (file, other) = (labelled_hello(&bench), bench.file("other", b"content"));
    bench.pass(&file, READ);
    bench.monitor.leave();
    assert_eq!(bench.open(&other, READ).unwrap_err().errno(), Errno::INTR);
    assert_eq!((bench.records().len(), bench.monitor.denials(), bench.list.count()), (0, 0, 2));
    assert!(matches!(bench.begin(&file, READ), Begun::Done(Ok(_))), "what is known needs no reading");
    // Labels are renewed all the same, for a while.
    bench.close(&file, READ);
    bench.hold(&file, WRITE);
    rewrite(&file, b"other\n");
    bench.close(&file, WRITE);
    assert_ne!(label_of(&file), hello_hash());
}

/// Who waits for a huge file in the kernel cannot leave before it is answered, not even killed.
#[test]
fn reading_ends_when_who_waits_for_it_is_killed() {
    let bench = Bench::new("measure func=FILE_CHECK\n");
    let file = large(&bench);
    std::fs::File::options().write(true).open(&file.disk).unwrap().set_len(1 << 40).unwrap();
    let mut gone = Command::new("true").spawn().unwrap();
    let tid = gone.id();
    gone.wait().unwrap();
    let object: Arc<dyn Object> = Arc::<TestFile>::clone(&file);
    let begun = bench.monitor.begin_open(object, Access { tid, ..access(READ) });
    assert_eq!(finish(begun).unwrap_err().errno(), Errno::INTR);
    assert_eq!((bench.list.count(), bench.monitor.denials()), (1, 0));
}
