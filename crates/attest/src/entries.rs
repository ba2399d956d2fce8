//! What a list says, entry by entry.

use std::collections::BTreeMap;

use ima::{Digest, Entry, HashAlgo, ListError, PcrIndex, Pcrs};

use crate::list::{Line, lines};
use crate::reference::References;
use crate::verdict::{
    CheckName, Counts, EntryCause, EntryFacts, EntrySelection, EntryVerdict, MAX_OFFENDING, Reason,
    ReasonKind,
};
use crate::verify::{Findings, Quoted, Unproven, Violations};

/// The name of the first entry.
const BOOT_AGGREGATE: &[u8] = b"boot_aggregate";

/// By what entries are judged.
#[derive(Debug)]
pub(crate) struct Judgement<'a> {
    pub(crate) references: &'a References,
    pub(crate) pcrs: &'a [PcrIndex],
    /// The mount of a host list whose entries are judged; all of them where none is named.
    pub(crate) mount: Option<&'a str>,
    pub(crate) violations: Violations,
    pub(crate) unproven: Unproven,
    pub(crate) selection: EntrySelection,
    /// What was quoted, the registers of the boot among it.
    /// `None` where it is not known.
    pub(crate) boot: Option<&'a Quoted>,
    /// Entries that are to be believed.
    pub(crate) proven: Option<usize>,
    /// Entries that replay to the registers, believed or not.
    pub(crate) replayed: Option<usize>,
}

/// What became of all of them.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) counts: Counts,
    pub(crate) listed: Vec<EntryFacts>,
    pub(crate) left_out: u64,
    /// The first of each kind of reason, and how many there are.
    offences: Vec<(Reason, u64)>,
    fault: Option<ListError>,
    /// What became of the first entry that is judged, where it is called boot_aggregate.
    boot_aggregate: Option<EntryCause>,
    /// The number of each mount's next line in a host list.
    next: BTreeMap<String, u64>,
}

/// Goes through the list once; holds nothing of it but what the answer lists.
pub(crate) fn judge(list: &[u8], judgement: &Judgement<'_>) -> Judged {
    let mut judged = Judged::default();
    let mut is_first = true;
    for (index, line) in lines(list).enumerate() {
        let line = match line {
            Ok(line) => line,
            Err(fault) => {
                judged.fault = Some(fault);
                break;
            }
        };
        let begins = judged.begins(index, &line);
        let cause = judgement.cause(index, &line, begins);
        if is_first && cause != EntryCause::OtherMount {
            is_first = false;
            judged.boot_aggregate = (line.entry().name() == Some(BOOT_AGGREGATE)).then_some(cause);
        }
        judged.note(index as u64, &line, cause, judgement);
    }
    judged.counts.proven = judgement.proven.unwrap_or_default() as u64;
    judged.counts.unproven = judged.counts.entries.saturating_sub(judged.counts.proven);
    judged
}

impl Judgement<'_> {
    fn cause(&self, index: usize, line: &Line, begins: Begins) -> EntryCause {
        let entry = line.entry();
        if !self.pcrs.contains(&line.pcr()) {
            return EntryCause::OtherPcr;
        }
        if !line.is_consistent() {
            return EntryCause::TemplateDigest;
        }
        // Beyond the quote everything can be claimed.
        if self.replayed.is_some_and(|replayed| index >= replayed) {
            return EntryCause::Unproven;
        }
        if line.origin().is_some_and(|(ns, _)| self.mount.is_some_and(|mount| mount != ns)) {
            return EntryCause::OtherMount;
        }
        let cause = if begins == Begins::Nowhere {
            EntryCause::OutOfSequence
        } else if entry.is_violation() {
            match self.violations {
                Violations::Refuse => EntryCause::Violation,
                Violations::Allow => EntryCause::ViolationAllowed,
            }
        } else if begins == Begins::AList && entry.name() == Some(BOOT_AGGREGATE) {
            self.boot_aggregate(entry)
        } else if begins == Begins::AList && line.origin().is_some() {
            EntryCause::WrongBootAggregate
        } else {
            self.references.judge(entry)
        };
        match (cause.verdict(), self.proven) {
            (EntryVerdict::Accepted, None) => EntryCause::Unproven,
            (EntryVerdict::Accepted | EntryVerdict::Refused | EntryVerdict::Unproven, _) => cause,
        }
    }

    /// The first entry, by the registers of the boot where they were quoted, else by the reference.
    fn boot_aggregate(&self, entry: &Entry) -> EntryCause {
        let Some(digest) = entry.digest() else { return EntryCause::UnknownEntry };
        let Some(boot) = self.boot else { return EntryCause::Unproven };
        match aggregate(boot, digest.algo()) {
            Some(aggregate) if aggregate == digest => EntryCause::BootAggregate,
            Some(_) => EntryCause::WrongBootAggregate,
            None => match self.references.judge(entry) {
                EntryCause::Listed => EntryCause::BootAggregate,
                _ => EntryCause::WrongBootAggregate,
            },
        }
    }
}

/// The aggregate of the boot's registers, where all of them were quoted in this bank.
fn aggregate(boot: &Quoted, algo: HashAlgo) -> Option<Digest> {
    let quoted = boot.get(&algo)?;
    let mut pcrs = Pcrs::new(algo).ok()?;
    let last = if algo == HashAlgo::Sha1 { 7 } else { 9 };
    for pcr in (0..=last).filter_map(PcrIndex::new) {
        pcrs.set(pcr, *quoted.get(&pcr)?).ok()?;
    }
    Some(ima::boot_aggregate(&pcrs))
}

/// Where a line stands in the list of its mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    /// At its beginning.
    AList,
    /// Behind the one before it.
    Nothing,
    /// Neither: one is missing, or it stands there twice.
    Nowhere,
}

impl Judged {
    /// Where this line stands. A mount that starts again under its id begins a list again.
    fn begins(&mut self, index: usize, line: &Line) -> Begins {
        let Some((ns, seq)) = line.origin() else {
            return if index == 0 { Begins::AList } else { Begins::Nothing };
        };
        let expected = self.next.insert(ns.to_owned(), seq.saturating_add(1));
        match expected {
            _ if seq == 0 => Begins::AList,
            Some(expected) if expected == seq => Begins::Nothing,
            Some(_) | None => Begins::Nowhere,
        }
    }

    fn note(&mut self, index: u64, line: &Line, cause: EntryCause, judgement: &Judgement<'_>) {
        let verdict = cause.verdict();
        self.counts.entries += 1;
        if cause == EntryCause::OtherMount {
            self.counts.other_mounts += 1;
            return;
        }
        self.counts.violations += u64::from(line.entry().is_violation());
        match verdict {
            EntryVerdict::Accepted => self.counts.accepted += 1,
            EntryVerdict::Refused => self.counts.refused += 1,
            EntryVerdict::Unproven => {}
        }
        self.counts.signed += u64::from(cause == EntryCause::Signed);
        if let Some(kind) = cause.reason() {
            self.offend(index, line, kind);
        }
        let wanted = match judgement.selection {
            EntrySelection::All => true,
            EntrySelection::Offending => verdict != EntryVerdict::Accepted,
        };
        let room = judgement.selection == EntrySelection::All || self.listed.len() < MAX_OFFENDING;
        match (wanted, room) {
            (true, true) => self.listed.push(facts(index, line, cause)),
            (true, false) => self.left_out += 1,
            (false, _) => {}
        }
    }

    fn offend(&mut self, index: u64, line: &Line, kind: ReasonKind) {
        if let Some((_, count)) = self.offences.iter_mut().find(|(reason, _)| reason.kind == kind) {
            *count += 1;
            return;
        }
        let text = words(kind).replace("{}", &shown(line));
        self.offences.push((Reason { kind, text, entry: Some(index) }, 1));
    }

    fn offences(
        &self,
        of: impl Fn(ReasonKind) -> bool,
    ) -> impl Iterator<Item = (ReasonKind, String, Option<u64>)> {
        self.offences.iter().filter(move |(reason, _)| of(reason.kind)).map(|(reason, count)| {
            let index = reason.entry.unwrap_or_default();
            let more = match count {
                0 | 1 => String::new(),
                2 => " (and one more)".to_owned(),
                count => format!(" (and {} more)", count - 1),
            };
            (reason.kind, format!("entry {index}: {}{more}", reason.text), reason.entry)
        })
    }
}

/// Whether a reason is about how a list is written, and not about what it says.
const fn is_of_form(kind: ReasonKind) -> bool {
    matches!(kind, ReasonKind::TemplateDigest | ReasonKind::OtherPcr)
}

/// Whether the list can be read, and its entries are whole.
pub(crate) fn report_form(judged: &Judged, findings: &mut Findings) {
    let mut is_good = true;
    if let Some(fault) = &judged.fault {
        is_good = false;
        let index = fault.index as u64;
        findings.failed_at(CheckName::List, ReasonKind::MalformedList, fault.to_string(), Some(index));
    }
    for (kind, text, entry) in judged.offences(is_of_form) {
        is_good = false;
        findings.failed_at(CheckName::List, kind, text, entry);
    }
    if is_good {
        let count = judged.counts.entries;
        findings.passed(CheckName::List, format!("{count} entries, each with its own template digest"));
    }
}

/// Whether what the list says is accepted.
pub(crate) fn report_content(judged: &Judged, judgement: &Judgement<'_>, findings: &mut Findings) {
    match judged.boot_aggregate {
        Some(EntryCause::BootAggregate) => {
            findings
                .passed(CheckName::BootAggregate, "the first entry is the aggregate of the boot's registers");
        }
        // That it is wrong, or why nothing is believed, is told elsewhere.
        Some(_) => findings.skipped(CheckName::BootAggregate, "the first entry does not count"),
        None => {
            let text = match judgement.mount {
                Some(mount) if judged.counts.entries == judged.counts.other_mounts => {
                    format!("no line of the list is of the mount {}", mount.escape_debug())
                }
                Some(_) | None => "the list does not begin with boot_aggregate".to_owned(),
            };
            findings.failed_at(CheckName::BootAggregate, ReasonKind::BootAggregate, text, Some(0));
        }
    }
    let mut is_good = true;
    let ignored = |kind| {
        kind == ReasonKind::UnprovenEntries
            // Where nothing replays or is believed, that is the reason.
            && (judgement.unproven == Unproven::Ignore || judgement.proven.is_none())
    };
    for (kind, text, entry) in judged.offences(|kind| !is_of_form(kind) && !ignored(kind)) {
        is_good = false;
        findings.failed_at(CheckName::Reference, kind, text, entry);
    }
    if is_good && judgement.proven.is_some() {
        let Counts { accepted, signed, .. } = &judged.counts;
        findings
            .passed(CheckName::Reference, format!("{accepted} entries are accepted, {signed} by signature"));
    } else if is_good {
        findings.skipped(CheckName::Reference, "nothing of the list is believed");
    }
}

/// A reason in words, with a place for the name.
const fn words(kind: ReasonKind) -> &'static str {
    match kind {
        ReasonKind::Sequence => "{} does not follow the line before it of its mount",
        ReasonKind::OtherPcr => "{} extends a register that is not one of the list's",
        ReasonKind::TemplateDigest => "the template digest of {} is not that of its data",
        ReasonKind::UnprovenEntries => "{} is beyond what was quoted",
        ReasonKind::BootAggregate => "{} is not that of the boot's registers",
        ReasonKind::Violation => "{} was open for writing while it was measured",
        ReasonKind::UnknownEntry => "{} is of a form that cannot be judged",
        ReasonKind::NotInReference => "{} is not in the reference",
        ReasonKind::WrongDigest => "{} has another digest than the reference has",
        ReasonKind::Unsigned => "{} has no signature",
        ReasonKind::UnknownKey => "{} is signed by a key that is not on the ring",
        ReasonKind::BadSignature => "{} has a wrong signature",
        ReasonKind::NotAQuote
        | ReasonKind::UnsuitableKey
        | ReasonKind::UntrustedKey
        | ReasonKind::Signature
        | ReasonKind::Nonce
        | ReasonKind::PcrValues
        | ReasonKind::PcrNotQuoted
        | ReasonKind::MalformedList
        | ReasonKind::Replay
        | ReasonKind::Rollback => "{}",
    }
}

/// A name as it may stand on a terminal.
fn shown(line: &Line) -> String {
    let name = String::from_utf8_lossy(line.entry().name().unwrap_or_default()).escape_debug().to_string();
    line.origin().map_or_else(|| name.clone(), |(ns, _)| format!("{name} in {}", ns.escape_debug()))
}

fn facts(index: u64, line: &Line, cause: EntryCause) -> EntryFacts {
    let entry = line.entry();
    let name = entry.name().unwrap_or_default();
    let keyid = entry.signature().and_then(|label| ima::parse_signature(label).ok());
    EntryFacts {
        index,
        ns: line.origin().map(|(ns, _)| ns.to_owned()),
        pcr: line.pcr().value(),
        template: entry.template().listed_name().to_owned(),
        digest: entry.digest().map(|digest| digest.to_string()),
        path: String::from_utf8_lossy(name).into_owned(),
        path_hex: std::str::from_utf8(name).is_err().then(|| hex::encode(name)),
        keyid: keyid.map(|signature| signature.keyid.to_string()),
        verdict: cause.verdict(),
        cause,
    }
}
