//! Rules that change at run time, two layers of them, and keys that are measured.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails loudly")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use audit::Process;
use common::{Bench, READ, Setting, finish, granted, hello_hash};
use ima::{Digest, HashAlgo, PcrIndex};
use keyring::{Certificate, Keyring};
use measure::{BankError, PcrBank, SoftBank};
use monitor::{Begun, Layer, Mode, Monitor, NoContainerLayer, Options, WouldWeaken};
use policy::{ParseOptions, Policy};

const EXEC: i32 = monitor::FMODE_EXEC;

fn load(bench: &Bench, policy: &str) {
    let policy = Policy::parse(policy.as_bytes(), &ParseOptions::default()).unwrap();
    bench.monitor.load_container(Arc::new(policy)).unwrap();
}

fn ascii(bench: &Bench) -> String {
    let snapshot = bench.list.snapshot();
    let bytes = snapshot.read_at(measure::Form::Ascii, HashAlgo::Sha1, 0, 1 << 20).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn loading_rules_ends_what_was_remembered() {
    let bench = Bench::layered("appraise func=FILE_CHECK\n", "", Setting::default());
    let file = bench.file("a", b"hello\n");
    bench.label(&file, &hello_hash());
    bench.pass(&file, READ);
    assert!(matches!(bench.begin(&file, READ), Begun::Done(Ok(_))), "remembered");
    bench.close(&file, READ);
    load(&bench, "appraise func=FILE_CHECK appraise_type=imasig\n");
    assert!(matches!(bench.begin(&file, READ), Begun::Work(_)), "not remembered any more");
    bench.refuse(&file, READ, "IMA-signature-required");
    load(&bench, "dont_appraise\n");
    bench.pass(&file, READ);
}

#[test]
fn an_access_is_decided_by_the_rules_it_met() {
    let bench = Bench::layered("dont_measure\n", "measure func=FILE_CHECK\n", Setting::default());
    let file = bench.file("a", b"hello\n");
    let before = bench.begin(&file, READ);
    load(&bench, "appraise func=FILE_CHECK appraise_type=deny\n");
    let after = bench.begin(&file, READ);
    granted(before);
    assert_eq!(finish(after).unwrap_err().cause(), "denied-by-policy");
    // What was granted by the old rules vouches for nothing under the new ones.
    bench.refuse(&file, READ, "denied-by-policy");
}

#[test]
fn without_a_layer_of_its_own_nothing_is_loaded() {
    let bench = Bench::new("measure\n");
    assert_eq!(bench.monitor.load_container(Arc::default()), Err(NoContainerLayer));
}

#[test]
fn what_the_container_measures_hides_nothing_of_the_hosts() {
    // Another template for the same register, at an earlier hook.
    let host = "measure func=BPRM_CHECK\n";
    let bench = Bench::layered(host, "measure func=FILE_CHECK template=ima\n", Setting::default());
    let file = bench.file("prog", b"#!/bin/true\n");
    bench.pass(&file, EXEC);
    let list = ascii(&bench);
    let templates: Vec<_> = list.lines().skip(1).map(|line| line.split(' ').nth(2).unwrap()).collect();
    assert_eq!(templates, ["ima", "ima-sig"], "{list}");
    bench.pass(&file, EXEC);
    assert_eq!(bench.list.count(), 3, "each once");
}

#[test]
fn the_audit_trail_does_not_hear_the_container() {
    let bench = Bench::layered("dont_measure\n", "audit func=FILE_CHECK\n", Setting::default());
    let file = bench.file("a", b"hello\n");
    bench.pass(&file, READ);
    assert_eq!(bench.records(), [""; 0]);
    let bench = Bench::layered("audit func=FILE_CHECK\n", "dont_audit\n", Setting::default());
    let file = bench.file("a", b"hello\n");
    bench.pass(&file, READ);
    assert_eq!(bench.records().len(), 1, "nor does it silence the host");
}

#[test]
fn each_layer_may_go_by_digests_of_an_algorithm_of_its_own() {
    let digest = |algo: HashAlgo| ima::hash(algo, b"hello\n").unwrap();
    let rule = |algo| format!("appraise func=FILE_CHECK digest={} appraise_type=deny\n", digest(algo));
    let host = format!("dont_appraise digest=sha256:{}\n{}", "0".repeat(64), "audit\n");
    let bench = Bench::layered(&host, &rule(HashAlgo::Sha512), Setting::default());
    let (bad, good) = (bench.file("bad", b"hello\n"), bench.file("good", b"other\n"));
    bench.open(&bad, READ).unwrap_err();
    bench.pass(&good, READ);
    bench.pass(&good, READ);
}

#[test]
fn the_mode_is_tightened_by_anybody_and_weakened_by_the_host() {
    let setting = Setting { mode: Mode::Log, ..Setting::default() };
    let bench = Bench::with("appraise func=FILE_CHECK\n", setting);
    let file = bench.file("a", b"hello\n");
    bench.pass(&file, READ);
    assert_eq!(bench.monitor.tighten_mode(Mode::Fix), Err(WouldWeaken));
    assert_eq!(bench.monitor.tighten_mode(Mode::Off), Err(WouldWeaken));
    bench.monitor.tighten_mode(Mode::Enforce).unwrap();
    bench.refuse(&file, READ, "missing-hash");
    assert_eq!(bench.monitor.tighten_mode(Mode::Log), Err(WouldWeaken));
    bench.monitor.set_mode(Mode::Off);
    bench.pass(&file, READ);
}

/// A bank that can be made to fail.
#[derive(Debug)]
struct Fragile(SoftBank, AtomicBool);

impl PcrBank for Fragile {
    fn algos(&self) -> Vec<HashAlgo> {
        self.0.algos()
    }

    fn extend(&self, pcr: PcrIndex, values: &[Digest]) -> Result<(), BankError> {
        if self.1.load(Ordering::Relaxed) {
            return Err(BankError::Device { code: -19, source: std::io::Error::other("unplugged").into() });
        }
        self.0.extend(pcr, values)
    }

    fn read(&self, pcr: PcrIndex, algo: HashAlgo) -> Result<Option<Digest>, BankError> {
        self.0.read(pcr, algo)
    }
}

#[test]
fn a_key_is_measured_by_ring_and_user_once() {
    let bench = Bench::new(
        "measure func=KEY_CHECK keyrings=.ima|.evm uid=0 pcr=0\nmeasure func=KEY_CHECK keyrings=x template=ima-ng pcr=11\n",
    );
    let root = Process { uid: 0, ..Process::unknown(7) };
    let user = Process { uid: 1000, ..Process::unknown(7) };
    for (ring, key, who, count) in [
        ("_ima", b"key", &root, 1),
        (".ima", b"key", &user, 1),
        (".ima", b"key", &root, 2),
        (".ima", b"key", &root, 2),
        (".evm", b"key", &root, 3),
        (".ima", b"yek", &root, 4),
        ("x", b"key", &user, 5),
    ] {
        bench.monitor.measure_key(ring, key, who).unwrap();
        assert_eq!(bench.list.count(), count, "{ring} {who:?}");
    }
    let list = ascii(&bench);
    let line = |number: usize| list.lines().nth(number).unwrap().to_owned();
    assert!(line(1).starts_with("10 ") && line(1).ends_with(" .ima 6b6579"), "{list}");
    assert!(line(4).starts_with("11 ") && line(4).contains(" ima-ng ") && line(4).ends_with(" x"), "{list}");
    // Who cannot be told might be the one the rule asks for.
    let denial = bench.monitor.measure_key(".ima", b"new", &Process::unknown(0)).unwrap_err();
    assert_eq!(denial.cause(), "measurement-failed");
    assert!(bench.records().last().unwrap().contains("unknown-subject"));
}

#[test]
fn a_key_that_cannot_be_measured_is_told_and_refused() {
    let bank = Arc::new(Fragile(SoftBank::new(&[HashAlgo::Sha256]).unwrap(), AtomicBool::new(false)));
    let bench =
        Bench::over(Arc::clone(&bank) as Arc<dyn PcrBank>, "measure func=KEY_CHECK\n", Setting::default());
    let root = Process { uid: 0, ..Process::unknown(7) };
    bank.1.store(true, Ordering::Relaxed);
    bench.monitor.measure_key(".ima", b"key", &root).unwrap_err();
    let record = bench.records().pop().unwrap();
    assert!(record.contains("\"op\":\"measuring_key\"") && record.contains("TPM_error(-19)"), "{record}");
    bank.1.store(false, Ordering::Relaxed);
    bench.monitor.measure_key(".ima", b"key", &root).unwrap();
}

/// Keys may come before the rules that have them measured.
#[test]
fn a_key_of_the_container_that_cannot_be_measured_afterwards_lets_nothing_through_any_more() {
    let bank = Arc::new(Fragile(SoftBank::new(&[HashAlgo::Sha256]).unwrap(), AtomicBool::new(false)));
    let bench = Bench::over(Arc::clone(&bank) as Arc<dyn PcrBank>, "dont_measure\n", Setting::default());
    bench.trust("rsa");
    let ring = Arc::new(Keyring::new(".ima"));
    let path = format!("{}/../appraise/tests/vectors/ec.pem", env!("CARGO_MANIFEST_DIR"));
    let ec = || Certificate::from_pem_or_der(&std::fs::read(&path).unwrap()).unwrap().remove(0);
    let root = Process { uid: 0, ..Process::unknown(7) };
    for (fails, kept) in [(false, 1), (true, 0)] {
        let container = Some(Layer { policy: Arc::default(), ring: Arc::clone(&ring) });
        let monitor = Monitor::new(Options { container, ..bench.monitor.options().clone() });
        drop(ring.add(ec()));
        let rules =
            if fails { "measure func=KEY_CHECK template=ima-ng\n" } else { "measure func=KEY_CHECK\n" };
        let policy = Policy::parse(rules.as_bytes(), &ParseOptions::default()).unwrap();
        monitor.load_container(Arc::new(policy)).unwrap();
        bank.1.store(fails, Ordering::Relaxed);
        assert_eq!(monitor.measure_rings(&root).is_err(), fails);
        assert_eq!((ring.list().len(), bench.ring.list().len()), (kept, 1), "the host's stay");
    }
}
