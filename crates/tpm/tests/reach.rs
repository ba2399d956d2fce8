//! Reaching a TPM, and saying why it cannot be reached.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

mod common;

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use common::{Server, digests, installed};
use ima::PcrIndex;
use measure::PcrBank as _;
use tpm::{SwtpmState, Tcti, Tpm, TpmBank, TpmError, TpmPlace, TpmState};

fn open(tcti: &str) -> Result<Tpm, TpmError> {
    Tpm::open_within(TpmPlace::Tcti(tcti.parse().unwrap()), Duration::from_secs(5))
}

#[test]
fn what_is_not_there_is_said_to_be_missing_with_the_next_step() {
    if !installed(&[]) {
        return;
    }
    let here = tempfile::tempdir().unwrap();
    let file = here.path().join("file");
    std::fs::write(&file, "no TPM").unwrap();
    let refusing = here.path().join("refusing");
    drop(UnixListener::bind(&refusing).unwrap());
    for (tcti, code, advice) in [
        (format!("device:{}/none", here.path().display()), -2, "ls /dev/tpm*"),
        (format!("swtpm:path={}/none", here.path().display()), -2, "--tpm swtpm"),
        (format!("swtpm:path={}", refusing.display()), -111, "--tpm swtpm"),
        ("swtpm:host=127.0.0.1,port=1".to_owned(), -111, "--tpm swtpm"),
        (format!("device:{}", file.display()), -5, "ls /dev/tpm*"),
    ] {
        let error = open(&tcti).unwrap_err();
        assert_eq!(error.code(), code, "{tcti}: {error:?}");
        if code != -5 {
            assert!(error.to_string().contains(&tcti), "{error}");
            assert!(error.advice().contains(advice), "{}", error.advice());
        }
    }
}

#[test]
fn what_answers_without_being_a_tpm_is_no_tpm() {
    if !installed(&[]) {
        return;
    }
    let here = tempfile::tempdir().unwrap();
    let path = here.path().join("sock");
    for name in ["sock", "sock.ctrl"] {
        let listener = UnixListener::bind(here.path().join(name)).unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let _gone = (&client).write_all(b"220 mail.example.org ESMTP\r\n");
            }
        });
    }
    let error = open(&format!("swtpm:path={}", path.display())).unwrap_err();
    assert!(matches!(error, TpmError::Unreachable { .. }), "{error:?}");
}

#[test]
fn a_tpm_that_was_not_started_says_so() {
    if !installed(&["swtpm"]) {
        return;
    }
    let server = Server::unstarted();
    let error = Tpm::open(server.place()).unwrap_err();
    assert_eq!(error.code(), 0x100);
    assert!(error.advice().contains("tpm2_startup --clear"), "{}", error.advice());
}

fn own(directory: &Path, state: SwtpmState) -> TpmPlace {
    TpmPlace::Own { state, socket: directory.join("own.sock") }
}

#[test]
fn a_swtpm_of_our_own_ends_with_us_and_leaves_nothing() {
    if !installed(&["swtpm"]) {
        return;
    }
    let here = tempfile::tempdir().unwrap();
    let state = here.path().join("state");
    let bank = TpmBank::new(Tpm::open(own(here.path(), SwtpmState::Passing(state.clone()))).unwrap());
    bank.extend(PcrIndex::DEFAULT, &digests(&bank.algos(), 1)).unwrap();
    assert!(state.is_dir());
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(here.path().join("own.sock")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    bank.tpm().end();
    assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 0);
    let ended = bank.extend(PcrIndex::DEFAULT, &digests(&bank.algos(), 2)).unwrap_err();
    assert_eq!(ended.code(), -5);
}

#[test]
fn a_kept_state_serves_one_swtpm_at_a_time_and_stays() {
    if !installed(&["swtpm"]) {
        return;
    }
    let here = tempfile::tempdir().unwrap();
    let state = here.path().join("state");
    let place =
        |name: &str| TpmPlace::Own { state: SwtpmState::Kept(state.clone()), socket: here.path().join(name) };
    let first = Tpm::open(place("first")).unwrap();
    let second = Tpm::open(place("second")).unwrap_err();
    assert!(matches!(second, TpmError::Swtpm { .. }), "{second:?}");
    assert!(second.advice().contains("one swtpm at a time"));
    first.end();
    assert!(state.join("tpm2-00.permall").is_file());
    Tpm::open(place("second")).unwrap().end();
}

#[test]
fn a_swtpm_of_our_own_that_was_killed_is_started_again() {
    if !installed(&["swtpm"]) {
        return;
    }
    let here = tempfile::tempdir().unwrap();
    let state = SwtpmState::Passing(here.path().join("state"));
    let bank = TpmBank::new(Tpm::open(own(here.path(), state)).unwrap());
    bank.extend(PcrIndex::DEFAULT, &digests(&bank.algos(), 1)).unwrap();
    kill_swtpm_at(&here.path().join("own.sock"));
    // The connection that broke with it is no reason to fail: the next one has an answer.
    let answer = bank.extend(PcrIndex::DEFAULT, &digests(&bank.algos(), 2));
    assert!(matches!(answer, Err(measure::BankError::Reset)), "{answer:?}");
    bank.extend(PcrIndex::DEFAULT, &digests(&bank.algos(), 1)).unwrap();
    assert_eq!(bank.tpm().state(), TpmState::Ready);
}

#[test]
fn a_swtpm_of_our_own_that_does_not_start_again_keeps_its_state_until_it_does() {
    if !installed(&["swtpm"]) {
        return;
    }
    let here = tempfile::tempdir().unwrap();
    let (state, socket) = (here.path().join("state"), here.path().join("own.sock"));
    // What is found there at first is of a mount that was killed.
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("left over"), "").unwrap();
    let bank = TpmBank::new(Tpm::open(own(here.path(), SwtpmState::Passing(state.clone()))).unwrap());
    assert!(!state.join("left over").exists());
    bank.extend(PcrIndex::DEFAULT, &digests(&bank.algos(), 1)).unwrap();
    std::fs::write(state.join("ours"), "").unwrap();
    kill_swtpm_at(&socket);
    std::fs::remove_file(&socket).unwrap();
    std::fs::create_dir(&socket).unwrap();
    for _ in 0..3 {
        assert!(bank.extend(PcrIndex::DEFAULT, &digests(&bank.algos(), 2)).is_err());
    }
    std::fs::remove_dir(&socket).unwrap();
    let answer = bank.extend(PcrIndex::DEFAULT, &digests(&bank.algos(), 2));
    assert!(matches!(answer, Err(measure::BankError::Reset)), "{answer:?}");
    bank.extend(PcrIndex::DEFAULT, &digests(&bank.algos(), 1)).unwrap();
    assert!(state.join("ours").exists(), "it has another identity");
    bank.tpm().end();
    assert!(!state.exists());
}

/// Kills the one process that was told to listen on this socket.
fn kill_swtpm_at(socket: &Path) {
    let option = format!("type=unixio,path={},mode=0600", socket.display());
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ours = processes.filter(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == option.as_bytes())
    });
    let pids: Vec<i32> = ours.filter_map(|process| process.file_name().to_str()?.parse().ok()).collect();
    assert_eq!(pids.len(), 1, "{pids:?}");
    let pid = rustix::process::Pid::from_raw(pids[0]).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_tcti_is_what_the_tools_take() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let server = Server::start();
    let tpm = server.open();
    assert_eq!(tpm.place().parse::<Tcti>().unwrap(), server.tcti());
    server.tool("tpm2_pcrread", &["sha256:10"]);
}
