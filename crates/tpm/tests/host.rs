//! The host list: many writers, some of them killed, on one TPM.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

mod common;
#[path = "common/host.rs"]
mod host;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Server, installed};
use host::{BANKS, PCR, add, lines, list, numbered, open, replay};
use ima::{Digest, HashAlgo, HostLine, PcrIndex, Pcrs, parse_host};
use measure::{MeasureError, SoftBank};
use tpm::{HostBank, HostError, TpmBank, TpmPlace};

/// Names the job of a process that [`worker`] is started as: `SOCKET DIRECTORY NS LINES`.
const JOB: &str = "IMAFS_TEST_HOST_WORKER";

#[test]
fn a_restart_is_made_good_without_a_line_but_not_in_other_banks() {
    if !installed(&["swtpm", "tpm2_pcrallocate"]) {
        return;
    }
    let mut server = Server::start();
    let directory = server.directory.path().join("host");
    let restarted_with = |server: &mut Server, banks: &str| {
        server.tool("tpm2_pcrallocate", &[banks]);
        server.kill();
        server.restart();
    };
    restarted_with(&mut server, "sha1:none+sha256:all+sha384:all+sha512:all");
    let list = list(open(&server.place(), &directory, "web").unwrap());
    add(&list, 1).unwrap();
    list.check().unwrap();
    server.kill();
    server.restart();
    list.check().unwrap();
    let value = server.tool("tpm2_pcrread", &["sha256:10"]);
    assert!(value.to_lowercase().contains(&replay(&lines(&directory))[1].to_hex()), "{value}");
    restarted_with(&mut server, "sha1:all+sha256:all+sha384:all+sha512:all");
    for _ in 0..2 {
        let Err(MeasureError::Extend { source, .. }) = list.check() else { panic!("it is extended again") };
        assert_eq!(source.code(), -22, "{source:?}");
        assert!(add(&list, 2).is_err());
    }
    assert_eq!(server.pcrread(10), BANKS.map(Digest::zero));
}

#[test]
fn lines_of_two_mounts_are_one_list_that_evmctl_replays_too() {
    if !installed(&["swtpm", "tpm2_pcrread", "evmctl"]) {
        return;
    }
    let server = Server::start();
    let directory = server.directory.path().join("host");
    let (web, mail) = (
        list(open(&server.place(), &directory, "web").unwrap()),
        list(open(&server.place(), &directory, "mail").unwrap()),
    );
    for number in 0..30 {
        add(&web, number).unwrap();
        add(&mail, number).unwrap();
    }
    let all = lines(&directory);
    assert_eq!(all.len(), 62);
    numbered(&all);
    let values = server.pcrread(10);
    assert_eq!(values, replay(&all));
    // Each mount's own list replays to its own registers, and is what its lines hold.
    for (ns, list) in [("web", &web), ("mail", &mail)] {
        let mut own = Pcrs::new(HashAlgo::Sha256).unwrap();
        let entries: Vec<_> = list.snapshot().entries_from(0).map(Result::unwrap).collect();
        own.replay(&entries);
        assert_eq!(list.bank().read(PCR, HashAlgo::Sha256).unwrap(), Some(own.value(PCR)));
        let theirs: Vec<_> = all.iter().filter(|line| line.ns() == ns).map(HostLine::entry).collect();
        assert_eq!(theirs, entries.iter().collect::<Vec<_>>());
    }
    let file = directory.join("pcrs");
    let text: String = (0..24)
        .map(|pcr| format!("PCR-{pcr:02}: {}\n", if pcr == 10 { values[1].to_hex() } else { "0".repeat(64) }))
        .collect();
    std::fs::write(&file, text).unwrap();
    let output = Command::new("evmctl")
        .args(["ima_measurement", "-v", "--pcrs", &format!("sha256,{}", file.display())])
        .arg(directory.join("list"))
        .output()
        .unwrap();
    let words =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("sha256 PCR-10: succeed at entry 62"), "{words}");
}

/// Not a test by itself: what the processes of the next ones do.
#[test]
fn worker() {
    let Ok(job) = std::env::var(JOB) else { return };
    let mut words = job.split(' ');
    let place = TpmPlace::Tcti(format!("swtpm:path={}", words.next().unwrap()).parse().unwrap());
    let directory = words.next().unwrap();
    let bank = open(&place, Path::new(directory), words.next().unwrap()).unwrap();
    let list = list(bank);
    let count: u32 = words.next().unwrap().parse().unwrap();
    (0..count).for_each(|number| add(&list, number).unwrap());
}

fn start_worker(server: &Server, directory: &Path, ns: &str, count: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker"])
        .env(JOB, format!("{} {} {ns} {count}", server.socket().display(), directory.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn processes_that_are_killed_at_any_moment_leave_a_list_that_replays_to_the_pcr() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let server = Server::start();
    let directory = server.directory.path().join("host");
    let mut seed = 0x1234_5678_u32;
    let mut random = |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % below
    };
    let mut workers: Vec<Child> =
        (0..6).map(|number| start_worker(&server, &directory, &format!("ns-{number}"), 100_000)).collect();
    for kill in 0..30 {
        std::thread::sleep(Duration::from_millis(u64::from(20 + random(120))));
        let which = random(6) as usize;
        workers[which].kill().unwrap();
        workers[which].wait().unwrap();
        workers[which] = start_worker(&server, &directory, &format!("ns-{which}"), 100_000);
        // In between, too, what is whole is in order.
        if kill % 10 == 9 {
            let bytes = std::fs::read(directory.join("list")).unwrap();
            let whole: Vec<_> = parse_host(&bytes).map_while(Result::ok).map(|line| line.line).collect();
            assert!(!whole.is_empty());
        }
    }
    for worker in &mut workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    // Whoever comes next puts in order what the last ones left.
    let last = list(open(&server.place(), &directory, "last").unwrap());
    add(&last, 0).unwrap();
    let all = lines(&directory);
    assert!(all.len() > 100, "{}", all.len());
    assert_eq!(server.pcrread(10), replay(&all));
    // A line that was written for a process that died is extended all the same, so numbers have no gaps.
    numbered(&all);
}

#[test]
fn a_tpm_that_is_restarted_gets_the_whole_list_again() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let mut server = Server::start();
    let directory = server.directory.path().join("host");
    let (web, mail) = (
        list(open(&server.place(), &directory, "web").unwrap()),
        list(open(&server.place(), &directory, "mail").unwrap()),
    );
    (0..20).for_each(|number| add(&web, number).unwrap());
    server.kill();
    assert!(matches!(add(&mail, 1), Err(MeasureError::Extend { .. })));
    assert!(matches!(add(&web, 20), Err(MeasureError::Extend { .. })));
    server.restart();
    add(&mail, 2).unwrap();
    web.catch_up().unwrap();
    assert_eq!((web.due(), mail.due()), (0, 0));
    let all = lines(&directory);
    numbered(&all);
    assert_eq!(all.len(), 25);
    assert_eq!(server.pcrread(10), replay(&all));
}

#[test]
fn what_was_half_written_is_cut_off_and_what_was_whole_is_extended() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let server = Server::start();
    let directory = server.directory.path().join("host");
    let web = list(open(&server.place(), &directory, "web").unwrap());
    (0..3).for_each(|number| add(&web, number).unwrap());
    let path = directory.join("list");
    let before = std::fs::read(&path).unwrap();
    let entry = web.snapshot().entry(1).unwrap().unwrap();
    let mut line = Vec::new();
    HostLine::new("gone", 0, entry).write_binary(&mut line, PCR).unwrap();
    for cut in [1, 40, line.len() - 1] {
        std::fs::write(&path, [&before[..], &line[..cut]].concat()).unwrap();
        drop(open(&server.place(), &directory, "next").unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(server.pcrread(10), replay(&lines(&directory)));
    }
    std::fs::write(&path, [&before[..], &line].concat()).unwrap();
    drop(open(&server.place(), &directory, "next").unwrap());
    assert_eq!(lines(&directory).len(), 5);
    assert_eq!(server.pcrread(10), replay(&lines(&directory)));
    // A note that is lost is made again from the list.
    std::fs::remove_file(directory.join("state")).unwrap();
    add(&web, 3).unwrap();
    assert_eq!(server.pcrread(10), replay(&lines(&directory)));
}

#[test]
fn what_no_line_explains_is_told_and_nothing_is_extended() {
    if !installed(&["swtpm", "tpm2_pcrread", "tpm2_pcrextend"]) {
        return;
    }
    let server = Server::start();
    let directory = server.directory.path().join("host");
    let web = list(open(&server.place(), &directory, "web").unwrap());
    add(&web, 0).unwrap();
    let path = directory.join("list");
    let good = std::fs::read(&path).unwrap();
    // A line that is gone, a line that was changed behind the noted ones, a foreign extend.
    std::fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert!(matches!(open(&server.place(), &directory, "next"), Err(HostError::Damaged { .. })));
    let mut changed = [&good[..], &good].concat();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(&path, changed).unwrap();
    assert!(matches!(open(&server.place(), &directory, "next"), Err(HostError::Damaged { .. })));
    std::fs::write(&path, &good).unwrap();
    drop(open(&server.place(), &directory, "next").unwrap());
    server.tool("tpm2_pcrextend", &[&format!("10:sha256={}", "5a".repeat(32))]);
    let before = server.pcrread(10);
    assert!(matches!(open(&server.place(), &directory, "next"), Err(HostError::Foreign(PCR))));
    let refused = add(&web, 1).unwrap_err();
    assert!(matches!(&refused, MeasureError::Extend { source, .. } if source.code() == -74), "{refused:?}");
    assert_eq!(server.pcrread(10), before);
}

#[test]
fn a_list_is_for_one_pcr_of_one_tpm_that_nobody_else_extends() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let server = Server::start();
    let directory = server.directory.path().join("host");
    let web = list(open(&server.place(), &directory, "web").unwrap());
    add(&web, 0).unwrap();
    let own = || SoftBank::new(&[HashAlgo::Sha256]).unwrap();
    let other = PcrIndex::new(11).unwrap();
    let refused = HostBank::open(&directory, server.open(), other, "next", own()).unwrap_err();
    assert!(matches!(refused, HostError::OtherPcr { pcr: PCR, .. }), "{refused:?}");
    assert!(refused.advice().contains("--pcr 10"));
    // Another list on the same PCR, and a mount that wants it for itself.
    let second = server.directory.path().join("second");
    assert!(matches!(open(&server.place(), &second, "next"), Err(HostError::Foreign(PCR))));
    assert!(TpmBank::new(server.open()).begin(PCR).is_err());
    // Another TPM on the same list: its PCR is empty, as if it had been restarted, and gets the whole list.
    let another = Server::start();
    drop(open(&another.place(), &directory, "next").unwrap());
    assert_eq!(another.pcrread(10), replay(&lines(&directory)));
}
