//! Sinks that work, that are slow, that hang and that fill up: nothing is lost without being counted and told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use audit::{Audit, Config, FileSink, Format, JournalSink, PolicyRule, Record, Sink, Stamped};
use parking_lot::{Condvar, Mutex};

const LONG: Duration = Duration::from_secs(30);

fn rule(n: usize) -> Record {
    PolicyRule { text: format!("rule={n}").into_bytes(), res: true }.into()
}

fn config(queue: usize, patience: Duration) -> Config {
    Config { queue, patience, ..Config::new("test") }
}

fn file_sink(path: &Path) -> Vec<Box<dyn Sink>> {
    vec![Box::new(FileSink::open(path, Format::Json).unwrap())]
}

/// The serials in a file of JSON lines; a word about lost records gives each serial it stands for.
fn serials(text: &str) -> Vec<u64> {
    let mut serials = Vec::new();
    for line in text.lines() {
        let Ok(object) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        match object["lost"].as_u64() {
            Some(lost) => {
                let (first, last) = (object["first"].as_u64().unwrap(), object["last"].as_u64().unwrap());
                assert_eq!(last - first + 1, lost, "{line}");
                serials.extend(first..=last);
            }
            None => serials.push(object["serial"].as_u64().unwrap()),
        }
    }
    serials
}

/// A sink behind a gate: while it is shut, writes do not return.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    lines: Mutex<String>,
}

impl Gate {
    fn open(&self) {
        *self.open.lock() = true;
        self.opened.notify_all();
    }
}

struct Gated(Arc<Gate>);

impl Sink for Gated {
    fn name(&self) -> String {
        "gate".into()
    }

    fn write(&mut self, record: &Stamped) -> io::Result<()> {
        let mut open = self.0.open.lock();
        while !*open {
            self.0.opened.wait(&mut open);
        }
        *self.0.lines.lock() += &format!("{}\n", record.json());
        Ok(())
    }
}

#[test]
fn records_of_many_threads_arrive_whole_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let audit = Audit::new(Config::new("test"), file_sink(&path)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..500).for_each(|n| _ = audit.emit(rule(n))));
        }
    });
    assert!(audit.flush(LONG));
    assert_eq!(audit.dropped(), 0);
    assert_eq!(serials(&fs::read_to_string(&path).unwrap()), (1..=4000).collect::<Vec<_>>());
    assert_eq!(audit.read_from(3999).lines.len(), 2);
}

#[test]
fn a_file_rotated_away_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("a"), dir.path().join("a.1"));
    let audit = Audit::new(Config::new("test"), file_sink(&path)).unwrap();
    audit.emit(rule(1));
    assert!(audit.flush(LONG));
    fs::rename(&path, &old).unwrap();
    audit.emit(rule(2));
    audit.reopen();
    audit.emit(rule(3));
    assert!(audit.shutdown(LONG));
    assert_eq!(serials(&fs::read_to_string(&old).unwrap()), [1]);
    assert_eq!(serials(&fs::read_to_string(&path).unwrap()), [2, 3]);
}

#[test]
fn a_hanging_sink_costs_one_wait_and_every_loss_is_told_in_its_place() {
    let gate = Arc::new(Gate::default());
    let patience = Duration::from_millis(100);
    let audit = Audit::new(config(4, patience), vec![Box::new(Gated(Arc::clone(&gate)))]).unwrap();
    let begun = Instant::now();
    for n in 0..100 {
        audit.emit(rule(n));
    }
    assert!(begun.elapsed() >= patience, "the fifth waits for room");
    assert!(begun.elapsed() < 20 * patience, "the others do not");
    assert!(!audit.flush(Duration::from_millis(10)));
    let lost = audit.dropped();
    // Four queued, one in the sink's hands if it came that far before the queue was full.
    assert!((95..=96).contains(&lost), "{lost}");
    gate.open();
    assert!(audit.flush(LONG));
    audit.emit(rule(100));
    assert!(audit.flush(LONG));
    assert_eq!(audit.dropped(), lost);
    let text = gate.lines.lock().clone();
    assert_eq!(serials(&text), (1..=101).collect::<Vec<_>>());
    assert!(
        text.contains(&format!("\"cause\":\"queue full\",\"res\":0,\"sink\":\"gate\",\"lost\":{lost}")),
        "{text}"
    );
    // The ring has them all.
    assert_eq!(audit.read_from(1).lines.len(), 101);
}

#[test]
fn a_slow_sink_that_keeps_working_loses_nothing() {
    struct Slow(Arc<Mutex<usize>>);
    impl Sink for Slow {
        fn name(&self) -> String {
            "slow".into()
        }
        fn write(&mut self, _: &Stamped) -> io::Result<()> {
            std::thread::sleep(Duration::from_millis(2));
            *self.0.lock() += 1;
            Ok(())
        }
    }
    let taken = Arc::new(Mutex::new(0));
    let audit = Audit::new(config(4, LONG), vec![Box::new(Slow(Arc::clone(&taken)))]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|n| _ = audit.emit(rule(n))));
        }
    });
    assert!(audit.shutdown(LONG));
    assert_eq!((*taken.lock(), audit.dropped()), (200, 0));
}

#[test]
fn a_sink_that_never_returns_does_not_hold_the_shutdown() {
    let gate = Arc::new(Gate::default());
    let audit = Audit::new(config(4, Duration::ZERO), vec![Box::new(Gated(Arc::clone(&gate)))]).unwrap();
    (0..10).for_each(|n| _ = audit.emit(rule(n)));
    let begun = Instant::now();
    assert!(!audit.shutdown(Duration::from_millis(50)));
    assert_eq!(audit.dropped(), 10, "those in the queue and in its hands are lost too");
    audit.emit(rule(10));
    assert_eq!(audit.dropped(), 11);
    drop(audit);
    assert!(begun.elapsed() < Duration::from_secs(4), "dropping does not wait a second time");
    gate.open();
}

/// A file system of a few pages, unmounted on drop.
struct TinyMount(tempfile::TempDir);

impl TinyMount {
    /// `None` where mounting is not permitted.
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"]).arg(dir.path());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(dir))
    }
}

impl Drop for TinyMount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "umount {}", self.0.path().display());
    }
}

#[test]
fn a_full_disk_is_counted_and_told_once_there_is_room() {
    let Some(mount) = TinyMount::new() else {
        eprintln!("skipped: mounting a tmpfs needs CAP_SYS_ADMIN");
        return;
    };
    let (path, ballast) = (mount.0.path().join("audit.log"), mount.0.path().join("ballast"));
    fs::write(&ballast, [0; 4096]).unwrap();
    let audit = Audit::new(Config::new("test"), file_sink(&path)).unwrap();
    for n in 0..500 {
        audit.emit(rule(n));
    }
    assert!(audit.flush(LONG));
    let lost = audit.dropped();
    assert!((1..500).contains(&lost), "{lost}");
    let status = &audit.sinks()[0];
    assert_eq!((status.written, status.dropped), (500 - lost, lost));

    fs::remove_file(&ballast).unwrap();
    audit.emit(rule(500));
    assert!(audit.flush(LONG));
    assert_eq!(audit.dropped(), lost);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(serials(&text), (1..=501).collect::<Vec<_>>());
    assert!(text.contains("\"cause\":\"No space left on device (os error 28)\""));
    drop(audit);
}

#[test]
fn a_sink_that_recovers_is_told_without_a_new_record() {
    let dir = tempfile::tempdir().unwrap();
    let (sub, path) = (dir.path().join("d"), dir.path().join("d/audit.log"));
    fs::create_dir(&sub).unwrap();
    let audit = Audit::new(Config::new("test"), file_sink(&path)).unwrap();
    fs::remove_dir_all(&sub).unwrap();
    audit.emit(rule(0));
    assert!(audit.flush(LONG));
    assert_eq!(audit.dropped(), 1);
    fs::create_dir(&sub).unwrap();
    let until = Instant::now() + LONG;
    while Instant::now() < until && !fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(serials(&fs::read_to_string(&path).unwrap()), [1]);
}

#[test]
fn the_journal_gets_one_datagram_with_the_parts_of_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let journald = UnixDatagram::bind(&path).unwrap();
    let sink = JournalSink::at(&path, Format::Kernel).unwrap();
    let audit = Audit::new(Config::new("web"), vec![Box::new(sink)]).unwrap();
    let mut process = audit::Process::unknown(5);
    process.comm = Some(b"a\nb".to_vec());
    let record =
        audit::Integrity::new(audit::RecordType::IntegrityData, process, "appraise_data", "missing-hash");
    audit.emit(record.file("/a b", "vda", 3));
    let mut buffer = [0; 4096];
    let length = journald.recv(&mut buffer).unwrap();
    let expected = concat!(
        "MESSAGE=pid=5 uid=4294967295 auid=4294967295 ses=4294967295 op=appraise_data cause=missing-hash ",
        "comm=610A62 name=2F612062 dev=\"vda\" ino=3 res=0 errno=0\n",
        "PRIORITY=4\nSYSLOG_IDENTIFIER=imafs\nIMAFS_NS=web\nIMAFS_SERIAL=1\nIMAFS_TYPE=1800\nIMAFS_PID=5\n",
        "IMAFS_UID=4294967295\nIMAFS_OP=appraise_data\nIMAFS_CAUSE=missing-hash\nIMAFS_COMM\n",
        "\x03\0\0\0\0\0\0\0a\nb\nIMAFS_NAME=/a b\nIMAFS_DEV=vda\nIMAFS_INO=3\nIMAFS_RES=0\nIMAFS_ERRNO=0\n"
    );
    assert_eq!(String::from_utf8_lossy(&buffer[..length]), expected);

    drop(journald);
    assert!(JournalSink::at(&path, Format::Kernel).is_err(), "nobody listens at the socket that is left");
    assert!(JournalSink::at(&dir.path().join("none"), Format::Kernel).is_err());
    audit.emit(rule(2));
    assert!(audit.flush(LONG));
    assert_eq!(audit.dropped(), 1, "a journal that is gone is counted");
}
