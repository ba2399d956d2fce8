//! The control directory over a monitor without a mount.

use super::*;

use std::sync::Arc;

use appraise::{Labels, VerityDigests};
use audit::Audit;
use ima::{Digest, Event, PcrIndex, Template};
use keyring::Keyring;
use measure::{List, ListOptions, SoftBank};
use monitor::{BackingFacts, Layer, MmapCheck, Mode, OnMeasureFailure, Options, ViolationRule};
use policy::{ParseOptions, Policy};
use serde_json::json;

const CALLER: Caller = Caller { tid: 1, uid: 0, gid: 0 };

fn control(access: Access) -> Control {
    of_monitor(access, monitor(None))
}

/// With a layer of the container's own, without rules yet.
fn layered() -> Control {
    of_monitor(Access::ReadWrite, monitor(Some(Arc::new(Keyring::new(".ima")))))
}

fn of_monitor(access: Access, monitor: Arc<Monitor>) -> Control {
    let permits = Permits { access, loads: Loads::Many, rules: 16, owner: Owner::default() };
    Control::new(monitor, "web", permits, Box::new(|| json!({ "ns-id": "web" })))
}

fn monitor(ring: Option<Arc<Keyring>>) -> Arc<Monitor> {
    let policy = Policy::parse(b"measure func=BPRM_CHECK mask=MAY_EXEC\n", &ParseOptions::default()).unwrap();
    let bank = Arc::new(SoftBank::new(&[HashAlgo::Sha1, HashAlgo::Sha256]).unwrap());
    let template = Template::named("ima-ng").unwrap();
    let list = List::new(ListOptions::new(template.clone(), bank)).unwrap();
    Monitor::new(Options {
        mode: Mode::Enforce,
        host: Layer { policy: Arc::new(policy), ring: Arc::new(Keyring::new("_ima")) },
        container: ring.map(|ring| Layer { policy: Arc::default(), ring }),
        hash: HashAlgo::Sha256,
        labels: Labels::in_security_ima(),
        template,
        pcr: PcrIndex::DEFAULT,
        mmap_check: MmapCheck::Elf,
        verity: VerityDigests::Computed,
        violations: ViolationRule::Once,
        on_measure_failure: OnMeasureFailure::Deny,
        path_prefix: Vec::new(),
        backing: BackingFacts {
            magic: 0,
            name: "ext4".into(),
            subtype: None,
            uuid: [0; 16],
            device: "vda".into(),
        },
        audit_info: false,
        list: Arc::new(list),
        audit: Arc::new(Audit::in_memory("web")),
    })
}

fn text(control: &Control, path: &str) -> String {
    String::from_utf8(control.read_path(path).unwrap()).unwrap()
}

fn all_files(control: &Control, directory: ControlIno) -> Vec<(ControlIno, Vec<u8>)> {
    let mut files = Vec::new();
    for (ino, kind, name) in control.readdir(directory) {
        match kind {
            FileType::Directory => files.extend(all_files(control, ino)),
            FileType::RegularFile => files.push((ino, name)),
            _ => {}
        }
    }
    files
}

#[test]
fn the_tree_has_the_documented_names() {
    let control = control(Access::ReadOnly);
    let names = |path: &str| {
        let ino = if path.is_empty() { ControlIno::ROOT } else { control.tree.resolve(path).unwrap() };
        let names = control.readdir(ino).into_iter().map(|(_, _, name)| String::from_utf8(name).unwrap());
        names.collect::<Vec<_>>()
    };
    assert_eq!(
        names(""),
        ["measurements", "ima", "integrity", "keys", "mode", "audit", "pcrs", "ns_id", "status"]
    );
    assert_eq!(
        names("integrity/ima"),
        [
            "policy",
            "ascii_runtime_measurements",
            "ascii_runtime_measurements_sha1",
            "ascii_runtime_measurements_sha256",
            "binary_runtime_measurements",
            "binary_runtime_measurements_sha1",
            "binary_runtime_measurements_sha256",
            "runtime_measurements_count",
            "violations",
            "active",
            "hash",
            "template_name",
        ]
    );
    assert_eq!(names("keys"), ["_ima"]);
    let ima = control.lookup(ControlIno::ROOT, b"ima").unwrap();
    assert_eq!(control.readlink(ima), Ok(b"integrity/ima".to_vec()));
    assert_eq!(control.readlink(ControlIno::ROOT), Err(Errno::INVAL));
}

#[test]
fn every_file_can_be_read_whole_and_belongs_to_root() {
    let control = control(Access::ReadOnly);
    for (ino, name) in all_files(&control, ControlIno::ROOT) {
        let fh = control.open(ino, libc::O_RDONLY, &CALLER).unwrap();
        assert!(control.read(fh, 0, 1 << 16).is_ok(), "{}", String::from_utf8_lossy(&name));
        control.release(fh);
        assert_eq!(control.read(fh, 0, 1), Err(Errno::BADF));
        let attr = control.attr(ino).unwrap();
        assert_eq!((attr.uid, attr.gid, attr.kind()), (0, 0, FileType::RegularFile));
        assert_eq!(attr.mode & 0o222, 0, "{}", String::from_utf8_lossy(&name));
    }
}

#[test]
fn lists_have_the_kernels_mode() {
    let control = control(Access::ReadOnly);
    for name in [
        "ascii_runtime_measurements",
        "binary_runtime_measurements",
        "runtime_measurements_count",
        "violations",
    ] {
        let ino = control.tree.resolve(&format!("ima/{name}")).unwrap();
        assert_eq!(control.attr(ino).unwrap().mode & 0o7777, 0o440, "{name}");
    }
}

#[test]
fn the_files_say_what_a_kernel_says() {
    let control = control(Access::ReadOnly);
    assert_eq!(text(&control, "integrity/ima/policy"), "measure func=BPRM_CHECK mask=MAY_EXEC \n");
    assert_eq!(text(&control, "ima/runtime_measurements_count"), "1\n");
    assert_eq!(text(&control, "ima/violations"), "0\n");
    assert_eq!(text(&control, "ima/active"), "1\n");
    assert_eq!(text(&control, "ima/hash"), "sha256\n");
    assert_eq!(text(&control, "ima/template_name"), "ima-ng\n");
    assert_eq!(text(&control, "ns_id"), "web\n");
    assert_eq!(text(&control, "keys/_ima"), "");
    assert_eq!(text(&control, "status"), "{\n  \"ns-id\": \"web\"\n}\n");
    let measurements = text(&control, "measurements");
    assert!(measurements.starts_with("10 ") && measurements.ends_with(" boot_aggregate\n"), "{measurements}");
    assert_eq!(measurements, text(&control, "ima/ascii_runtime_measurements_sha1"));
    assert!(text(&control, "pcrs").contains("\nsha256 10 "));
    assert_eq!(control.read_path("integrity"), Err(Errno::ISDIR));
    assert_eq!(control.read_path("ima/nosuch"), Err(Errno::NOENT));
}

#[test]
fn an_open_list_does_not_move_under_its_reader() {
    let control = control(Access::ReadOnly);
    let ino = control.tree.resolve("measurements").unwrap();
    let fh = control.open(ino, libc::O_RDONLY, &CALLER).unwrap();
    let before = control.read(fh, 0, 4096).unwrap();
    let options = control.monitor.options();
    let digest = Digest::new(HashAlgo::Sha256, &[7; 32]).unwrap();
    let entry = options.template.entry(PcrIndex::DEFAULT, &Event::buffer(digest, b"/bin/x", b"")).unwrap();
    options.list.add(entry).unwrap();
    assert_eq!(control.read(fh, 0, 4096).unwrap(), before);
    assert_eq!(control.read(fh, 3, 5).unwrap(), before[3..8]);
    assert_eq!(control.read(fh, before.len() as u64, 10).unwrap(), b"");
    control.release(fh);
    assert!(text(&control, "measurements").ends_with(" /bin/x\n"));
    assert_eq!(control.attr(ino).unwrap().size, text(&control, "measurements").len() as u64);
}

#[test]
fn the_audit_trail_grows_under_its_reader() {
    let control = control(Access::ReadOnly);
    let ino = control.tree.resolve("audit").unwrap();
    let fh = control.open(ino, libc::O_RDONLY, &CALLER).unwrap();
    assert_eq!(control.read(fh, 0, 4096).unwrap(), b"");
    let emit = || {
        let rule = audit::PolicyRule { text: b"action=measure".to_vec(), res: true };
        control.monitor.options().audit.emit(rule)
    };
    emit();
    let first = control.read(fh, 0, 4096).unwrap();
    assert!(first.ends_with(b"}\n"));
    emit();
    let second = control.read(fh, first.len() as u64, 4096).unwrap();
    assert!(second.starts_with(b"{") && second.ends_with(b"}\n"));
    assert_eq!(control.attr(ino).unwrap().size, (first.len() + second.len()) as u64);
}

#[test]
fn a_reader_from_the_beginning_of_a_long_trail_ends() {
    let control = control(Access::ReadOnly);
    for n in 0..5000 {
        let rule = audit::PolicyRule { text: format!("rule={n}").into_bytes(), res: true };
        control.monitor.options().audit.emit(rule);
    }
    let (oldest, end) = control.monitor.options().audit.ring().span();
    assert!(oldest > 0);
    assert_eq!(control.read_path("audit").unwrap().len() as u64, end - oldest);
}

#[test]
fn a_reader_that_was_overtaken_goes_on_after_an_empty_line() {
    let control = control(Access::ReadOnly);
    let emit = |n: usize| {
        let rule = audit::PolicyRule { text: format!("rule={n}").into_bytes(), res: true };
        control.monitor.options().audit.emit(rule);
    };
    let ino = control.tree.resolve("audit").unwrap();
    let fh = control.open(ino, libc::O_RDONLY, &CALLER).unwrap();
    emit(0);
    let first = control.read(fh, 0, 10).unwrap();
    assert_eq!(first.len(), 10);
    (1..6000).for_each(emit);
    let next = control.read(fh, 10, 4096).unwrap();
    assert!(next.starts_with(b"\n{"));
    let after = control.read(fh, 10 + next.len() as u64, 4096).unwrap();
    let mut joined = next;
    joined.extend(after);
    for line in joined.split(|byte| *byte == b'\n').skip(1).filter(|line| line.ends_with(b"}")) {
        serde_json::from_slice::<Value>(line).unwrap();
    }
}

#[test]
fn nothing_can_be_written_where_reading_is_all_that_is_allowed() {
    let control = control(Access::ReadOnly);
    for (ino, name) in all_files(&control, ControlIno::ROOT) {
        for flags in [libc::O_WRONLY, libc::O_RDWR] {
            let name = String::from_utf8_lossy(&name);
            assert_eq!(control.open(ino, flags, &CALLER), Err(Errno::ACCESS), "{name}");
        }
    }
}

/// Writes at once, as no file of the mount is named.
fn write(control: &Control, fh: u64, offset: u64, data: &[u8]) -> Result<u32, Errno> {
    match control.write(fh, offset, data, &CALLER) {
        Written::Done(result) => result,
        Written::Reads { path, then: _ } => panic!("{} is to be read", path.escape_ascii()),
    }
}

#[test]
fn active_can_be_set_and_never_unset() {
    let control = control(Access::ReadWrite);
    let active = control.tree.resolve("ima/active").unwrap();
    assert_eq!(control.attr(active).unwrap().mode & 0o777, 0o600);
    let fh = control.open(active, libc::O_WRONLY, &CALLER).unwrap();
    assert_eq!(write(&control, fh, 0, b"1\n"), Ok(2));
    assert_eq!(write(&control, fh, 0, b"0\n"), Err(Errno::PERM));
    assert_eq!(write(&control, fh, 0, b"yes"), Err(Errno::INVAL));
    assert_eq!(write(&control, fh, 1, b"1"), Err(Errno::INVAL));
    let fh = control.open(active, libc::O_RDONLY, &CALLER).unwrap();
    assert_eq!(write(&control, fh, 0, b"1"), Err(Errno::BADF));
    let policy = control.tree.resolve("ima/policy").unwrap();
    assert_eq!(control.open(policy, libc::O_WRONLY, &CALLER), Err(Errno::ACCESS));
}

#[test]
fn the_mode_can_be_tightened_and_never_weakened() {
    let control = control(Access::ReadWrite);
    control.monitor.set_mode(monitor::Mode::Off);
    let mode = control.tree.resolve("mode").unwrap();
    let fh = control.open(mode, libc::O_WRONLY, &CALLER).unwrap();
    for (word, answer, after) in [
        (&b"fix\n"[..], Err(Errno::PERM), "off\n"),
        (b"off", Ok(3), "off\n"),
        (b"log\n", Ok(4), "log\n"),
        (b"fix", Err(Errno::PERM), "log\n"),
        (b"off", Err(Errno::PERM), "log\n"),
        (b"Enforce", Err(Errno::INVAL), "log\n"),
        (b"", Err(Errno::INVAL), "log\n"),
        (b"enforce\n", Ok(8), "enforce\n"),
        (b"log\n", Err(Errno::PERM), "enforce\n"),
        (b"enforce\n", Ok(8), "enforce\n"),
    ] {
        assert_eq!(write(&control, fh, 0, word), answer, "{}", word.escape_ascii());
        assert_eq!(text(&control, "mode"), after);
    }
    let said =
        ["would-weaken 0", "log 1", "would-weaken 0", "would-weaken 0", "unknown-mode 0", "unknown-mode 0"];
    let expected = said.into_iter().chain(["enforce 1", "would-weaken 0"]);
    assert_eq!(records(&control, "set_mode"), expected.collect::<Vec<_>>(), "nothing of what was so before");
}

/// Cause and outcome of each record of this operation.
fn records(control: &Control, op: &str) -> Vec<String> {
    let trail = control.monitor.options().audit.read_from(0);
    let records = trail.lines.iter().map(|line| serde_json::from_str::<Value>(&line.json).unwrap());
    let of_op = records.filter(|record| record["op"] == op);
    of_op.map(|record| format!("{} {}", record["cause"].as_str().unwrap(), record["res"])).collect()
}

#[test]
fn what_becomes_of_a_key_is_recorded() {
    let control = layered();
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/appraise/tests/vectors");
    let certificate = |name: &str| {
        let pem = std::fs::read(format!("{vectors}/{name}.pem")).unwrap();
        keyring::Certificate::from_pem_or_der(&pem).unwrap().remove(0)
    };
    let keys = control.tree.resolve("keys/.ima").unwrap();
    let fh = control.open(keys, libc::O_WRONLY, &CALLER).unwrap();
    assert_eq!(write(&control, fh, 0, b"no certificate"), Err(Errno::BADMSG));
    assert_eq!(write(&control, fh, 0, certificate("ec").der()), Err(Errno::NOKEY));
    drop(control.monitor.rules().host().ring.add(certificate("ec")));
    // A certificate that signs itself is vouched for where it is trusted.
    let der = certificate("ec").der().to_vec();
    assert_eq!(write(&control, fh, 0, &der), u32::try_from(der.len()).map_err(|_| Errno::MSGSIZE));
    assert_eq!(records(&control, "add_key"), ["malformed 0", "unknown-issuer 0", "added 1"]);
}

fn open_all(control: &Control, caller: &Caller) -> usize {
    let ino = control.tree.resolve("ns_id").unwrap();
    (0..5000).map_while(|_| control.open(ino, libc::O_RDONLY, caller).ok()).count()
}

#[test]
fn open_files_are_bounded_and_the_host_reads_all_the_same() {
    let control = control(Access::ReadOnly);
    assert_eq!(open_all(&control, &CALLER), 4096);
    let ino = control.tree.resolve("status").unwrap();
    assert_eq!(control.open(ino, libc::O_RDONLY, &CALLER), Err(Errno::NFILE));
    assert_eq!(text(&control, "ns_id"), "web\n");
}

#[test]
fn no_user_keeps_another_out() {
    let control = control(Access::ReadOnly);
    let user = |uid| Caller { tid: 1, uid, gid: uid };
    assert_eq!(open_all(&control, &user(1000)), 256);
    assert_eq!(open_all(&control, &user(1000)), 0);
    assert_eq!(open_all(&control, &user(1001)), 256);
    let others: usize = (2000..2100).map(|uid| open_all(&control, &user(uid))).sum();
    assert_eq!(others, 2048 - 512);
    assert_eq!(open_all(&control, &CALLER), 2048, "what is left is root's");
    for fh in 0..256 {
        assert!(control.release(fh).is_none());
    }
    assert_eq!(open_all(&control, &user(1000)), 256, "closed again");
}

fn load(control: &Control, rules: &str) {
    let policy = Policy::parse(rules.as_bytes(), &ParseOptions::default()).unwrap();
    control.monitor.load_container(Arc::new(policy)).unwrap();
}

#[test]
fn a_long_text_is_kept_once_however_often_it_is_open() {
    let control = layered();
    load(&control, "measure func=MMAP_CHECK\n");
    for path in ["ima/policy", "keys/_ima"] {
        let ino = control.tree.resolve(path).unwrap();
        let open = || control.opens.find(control.open(ino, libc::O_RDONLY, &CALLER).unwrap()).unwrap();
        let (first, second) = (open(), open());
        assert!(Arc::ptr_eq(first.bytes().unwrap(), second.bytes().unwrap()), "{path}");
    }
}

#[test]
fn a_container_keeps_only_so_many_versions_of_a_policy_open() {
    let control = layered();
    let ino = control.tree.resolve("ima/policy").unwrap();
    let versions: Vec<_> = (0..9)
        .map(|version| {
            load(&control, &format!("measure uid={version}\n"));
            control.open(ino, libc::O_RDONLY, &CALLER)
        })
        .collect();
    assert!(versions.iter().take(8).all(Result::is_ok), "{versions:?}");
    assert_eq!(versions[8], Err(Errno::NFILE));
    assert!(text(&control, "ima/policy").ends_with("\nmeasure uid=8 \n"), "the host reads it all the same");
    let first = versions[0].unwrap();
    assert!(control.read(first, 0, 4096).unwrap().ends_with(b"\nmeasure uid=0 \n"));
    control.release(first);
    assert!(control.open(ino, libc::O_RDONLY, &CALLER).is_ok());
    assert!(control.open(ino, libc::O_RDONLY, &CALLER).is_ok(), "the same once more");
}
