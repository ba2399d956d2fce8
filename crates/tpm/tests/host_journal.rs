//! A list that a journal keeps, on a TPM that several mounts share: what a restart finds in the host list.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

mod common;
#[path = "common/host.rs"]
mod host;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::{Server, installed};
use host::{PCR, add, lines, list, numbered, open, replay};
use ima::{Entry, HashAlgo, HostLine, Template};
use measure::journal::Identity;
use measure::proof::ProofError;
use measure::{BankError, Journal, List, ListOptions, MeasureError, PcrBank as _, SoftBank};
use tpm::{HostBank, HostError, Tpm};

/// A TPM, a host list on it, and a journal.
struct Stand {
    server: Server,
    host: PathBuf,
    journal: PathBuf,
}

impl Stand {
    fn new() -> Self {
        let server = Server::start();
        let (host, journal) = (server.directory.path().join("host"), server.directory.path().join("journal"));
        Self { server, host, journal }
    }

    fn with_journal(&self, directory: &Path) -> Result<List, MeasureError> {
        let bank = open(&self.server.place(), &self.host, "web").unwrap();
        let template = Template::named("ima-sig").unwrap();
        let identity = Identity {
            ns_id: "web".to_owned(),
            default_algo: HashAlgo::Sha256,
            template: template.clone(),
            pcr: PCR,
            banks: bank.algos(),
        };
        let journal = Some(Journal::open(directory, &identity, &bank).unwrap());
        List::new(ListOptions { journal, ..ListOptions::new(template, Arc::new(bank)) })
    }

    fn start(&self) -> Result<List, MeasureError> {
        self.with_journal(&self.journal)
    }

    /// What anybody sees who looks: the host list replays to the PCR, and its last lines of this mount are the list.
    fn agrees(&self, list: &List) {
        let all = lines(&self.host);
        numbered(&all);
        assert_eq!(self.server.pcrread(10), replay(&all));
        let entries = entries(list);
        let own: Vec<_> = all.iter().filter(|line| line.ns() == "web").map(HostLine::entry).collect();
        assert_eq!(own[own.len() - entries.len()..], entries.iter().collect::<Vec<_>>());
        let mut pcrs = ima::Pcrs::new(HashAlgo::Sha256).unwrap();
        pcrs.replay(&entries);
        assert_eq!(list.bank().read(PCR, HashAlgo::Sha256).unwrap(), Some(pcrs.value(PCR)));
    }
}

fn entries(list: &List) -> Vec<Entry> {
    list.snapshot().entries_from(0).map(Result::unwrap).collect()
}

fn own_lines(stand: &Stand) -> usize {
    lines(&stand.host).iter().filter(|line| line.ns() == "web").count()
}

/// Copies a journal as it is now.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_list_goes_on_after_its_lines_whatever_other_mounts_wrote_between_them() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let stand = Stand::new();
    let mail = list(open(&stand.server.place(), &stand.host, "mail").unwrap());
    for life in 0..4 {
        let web = stand.start().unwrap();
        for number in 0..12 {
            add(&web, life * 100 + number).unwrap();
            add(&mail, life * 100 + number).unwrap();
        }
        stand.agrees(&web);
        assert_eq!(own_lines(&stand), web.count());
    }
    // An end: the next list begins at 0, and its journal knows nothing of the lines before.
    stand.start().unwrap().end().unwrap();
    let before = own_lines(&stand);
    let web = stand.start().unwrap();
    add(&web, 0).unwrap();
    stand.agrees(&web);
    assert_eq!((web.count(), own_lines(&stand)), (2, before + 2));
}

#[test]
fn what_is_in_the_journal_alone_is_extended_also_before_the_first_line() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let stand = Stand::new();
    // A list without a journal under the same id: its lines are not those of the one that follows.
    let plain = list(open(&stand.server.place(), &stand.host, "web").unwrap());
    (0..5).for_each(|number| add(&plain, number).unwrap());
    drop(plain);
    let first = stand.start().unwrap();
    (0..8).for_each(|number| add(&first, number).unwrap());
    drop(first);
    // The same instants for the host list as a kill leaves them: the journal ahead by some lines, by all of them,
    // and by all of them while nothing is noted.
    let whole = std::fs::read(stand.host.join("list")).unwrap();
    let ends = line_ends(&whole);
    for (kept, noted) in [(6 + 7, true), (6 + 2, true), (6, true), (6, false)] {
        let other = Stand::new();
        std::fs::create_dir_all(other.host.join("lists")).unwrap();
        std::fs::write(other.host.join("list"), &whole[..ends[kept - 1]]).unwrap();
        if noted {
            std::fs::copy(stand.host.join("lists/web"), other.host.join("lists/web")).unwrap();
        }
        copy(&stand.journal, &other.journal);
        let again = other.start().unwrap();
        other.agrees(&again);
        assert_eq!((again.count(), own_lines(&other)), (9, 6 + 9), "{kept} {noted}");
        add(&again, 100).unwrap();
        other.agrees(&again);
    }
}

/// Where each line ends.
fn line_ends(list: &[u8]) -> Vec<usize> {
    let mut parsed = ima::parse_host(list);
    let mut ends = Vec::new();
    while parsed.next().is_some() {
        ends.push(parsed.offset());
    }
    ends
}

#[test]
fn a_journal_that_is_not_what_was_extended_is_refused() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let stand = Stand::new();
    let old = stand.server.directory.path().join("old");
    let web = stand.start().unwrap();
    (0..5).for_each(|number| add(&web, number).unwrap());
    drop(web);
    copy(&stand.journal, &old);
    let web = stand.start().unwrap();
    [5, 9, 6].into_iter().for_each(|number| add(&web, number).unwrap());
    drop(web);
    let extended = stand.server.pcrread(10);
    // An old copy lacks what was extended since.
    let refused = stand.with_journal(&old).unwrap_err();
    assert!(is_other(&refused, 6), "{refused:?}");
    assert_eq!(stand.server.pcrread(10), extended);
    // One that went elsewhere from there has another entry, or another violation, with which a register is the same.
    for violation in [false, true] {
        let strayed = stand.server.directory.path().join(format!("strayed-{violation}"));
        copy(&old, &strayed);
        let other = Stand::new();
        let list = other.with_journal(&strayed).unwrap();
        if violation {
            add(&list, 5).unwrap();
            list.add_violation(b"/another", host::FILE, None, &[]).unwrap();
        } else {
            [77, 9].into_iter().for_each(|number| add(&list, number).unwrap());
        }
        add(&list, 6).unwrap();
        drop(list);
        let refused = stand.with_journal(&strayed).unwrap_err();
        assert!(is_other(&refused, if violation { 7 } else { 6 }), "{violation}: {refused:?}");
    }
    assert_eq!(stand.server.pcrread(10), extended);
    stand.agrees(&stand.start().unwrap());
    // A line that was changed, and a note.
    let path = stand.host.join("list");
    let good = std::fs::read(&path).unwrap();
    let mut changed = good.clone();
    changed[60] ^= 1;
    std::fs::write(&path, changed).unwrap();
    let refused = stand.start().unwrap_err();
    assert!(text(&refused).contains("was changed at byte"), "{refused:?}");
    std::fs::write(&path, &good).unwrap();
    stand.agrees(&stand.start().unwrap());
    std::fs::write(stand.host.join("lists/web"), "nonsense").unwrap();
    let refused = stand.start().unwrap_err();
    assert!(text(&refused).contains("lists/web was changed"), "{refused:?}");
}

fn is_other(error: &MeasureError, number: u64) -> bool {
    matches!(error, MeasureError::Proof(ProofError::Bank(BankError::OtherEntry(found))) if *found == number)
}

/// An error with all its causes.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

#[test]
fn a_tpm_that_was_restarted_or_whose_host_list_is_gone_gets_the_whole_list() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let mut stand = Stand::new();
    let web = stand.start().unwrap();
    (0..20).for_each(|number| add(&web, number).unwrap());
    stand.server.kill();
    assert!(matches!(add(&web, 20), Err(MeasureError::Extend { .. })));
    drop(web);
    stand.server.restart();
    let web = stand.start().unwrap();
    assert_eq!((web.count(), own_lines(&stand)), (22, 22));
    stand.agrees(&web);
    drop(web);
    // As after a reboot.
    stand.server.kill();
    std::fs::remove_dir_all(&stand.host).unwrap();
    stand.server.restart();
    let web = stand.start().unwrap();
    assert_eq!((web.count(), own_lines(&stand)), (22, 22));
    stand.agrees(&web);
}

#[test]
fn who_holds_the_lock_and_does_nothing_is_named_and_what_was_denied_is_made_up_for() {
    if !installed(&["swtpm", "tpm2_pcrread"]) {
        return;
    }
    let stand = Stand::new();
    let own = SoftBank::new(&[HashAlgo::Sha256]).unwrap();
    let tpm = Tpm::open(stand.server.place()).unwrap();
    let limit = Duration::from_millis(300);
    let web = list(HostBank::open_within(&stand.host, tpm, PCR, "web", own, limit).unwrap());
    let file = std::fs::File::open(stand.host.join("lock")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    for number in 0..3 {
        let refused = add(&web, number).unwrap_err();
        let MeasureError::Extend { source, .. } = &refused else { panic!("{refused:?}") };
        assert_eq!(source.code(), -110);
        let named = format!("process {} holds the host list", std::process::id());
        assert!(text(&refused).contains(&named), "{}", text(&refused));
    }
    let own = SoftBank::new(&[HashAlgo::Sha256]).unwrap();
    let tpm = Tpm::open(stand.server.place()).unwrap();
    let refused = HostBank::open_within(&stand.host, tpm, PCR, "mail", own, limit).unwrap_err();
    assert!(matches!(refused, HostError::Stuck { .. }), "{refused:?}");
    assert!(refused.advice().contains(&format!("kill -CONT {}", std::process::id())));
    drop(file);
    web.catch_up().unwrap();
    assert_eq!(web.due(), 0);
    stand.agrees(&web);
    assert_eq!(web.count(), 4);
}
