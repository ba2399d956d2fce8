//! From evidence and a question to a verdict.
//!
//! What is signed is checked first, then that the list leads to it, then what the list says. A check that fails does not
//! end the verification: the answer has all that is wrong. What the list says is believed only as far as the quote
//! proves it, and nothing of it when the quote itself is not believed.

use std::collections::BTreeMap;

use ima::{Digest, HashAlgo, PcrIndex, UnavailableAlgo};

use crate::entries::{self, Judgement};
use crate::evidence::{Evidence, EvidenceError};
use crate::list::is_host_list;
use crate::reference::References;
use crate::replay::{self, Replay};
use crate::succession;
use crate::tpm::{self, Attest, FormatError, Public, Signature};
use crate::trust::Trust;
use crate::verdict::{
    Check, CheckName, CheckOutcome, EntrySelection, FORMAT, KeyFacts, Overall, QuoteFacts, Reason,
    ReasonKind, Register, Verdict,
};

/// What evidence has to answer.
#[derive(Debug)]
pub struct Question<'a> {
    /// The nonce that the quote was asked for with.
    pub nonce: &'a [u8],
    /// Which keys are trusted.
    pub trust: &'a Trust,
    /// What the entries are held against.
    pub references: &'a References,
    /// The registers that the list extends, and nothing else does.
    pub pcrs: &'a [PcrIndex],
    /// The mount of a host list whose entries are judged, by its id; all of them where none is named.
    pub mount: Option<&'a str>,
    /// Earlier evidence that this must go on from.
    pub after: Option<&'a [u8]>,
    /// Whether violations are let through.
    pub violations: Violations,
    /// What entries beyond the quote are.
    pub unproven: Unproven,
    /// Which entries the answer lists.
    pub entries: EntrySelection,
}

/// What becomes of violations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Violations {
    /// The list is refused: nobody knows what was read.
    #[default]
    Refuse,
    /// They are let through.
    Allow,
}

/// What becomes of entries beyond those that the quote proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unproven {
    /// The list is refused.
    #[default]
    Refuse,
    /// They are left out of account.
    Ignore,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The file is no evidence.
    #[error("cannot read the evidence")]
    Evidence(#[source] EvidenceError),
    /// What the TPM has signed is of no known form.
    #[error("cannot read the quote")]
    Attest(#[source] FormatError),
    /// The signature is of no known form.
    #[error("cannot read the quote's signature")]
    Signature(#[source] FormatError),
    /// The key is of no known form.
    #[error("cannot read the attestation key")]
    Public(#[source] FormatError),
    /// A mount was asked about, and the list is that of one alone.
    #[error("the evidence is of one mount's own list, and not of a host list with mounts by name")]
    NoHostList,
    /// A bank cannot be computed.
    #[error("cannot replay the list")]
    Bank(#[source] UnavailableAlgo),
    /// The same, of the earlier evidence.
    #[error("the earlier evidence")]
    Earlier(#[source] Box<VerifyError>),
}

/// Evidence with its structures taken apart.
#[derive(Debug)]
pub(crate) struct Parsed<'a> {
    pub(crate) evidence: Evidence<'a>,
    pub(crate) attest: Attest<'a>,
    pub(crate) signature: Signature,
    pub(crate) public: Public<'a>,
}

impl<'a> Parsed<'a> {
    pub(crate) fn of(file: &'a [u8]) -> Result<Self, VerifyError> {
        let evidence = Evidence::parse(file).map_err(VerifyError::Evidence)?;
        Ok(Self {
            attest: Attest::parse(evidence.attest).map_err(VerifyError::Attest)?,
            signature: Signature::parse(evidence.signature).map_err(VerifyError::Signature)?,
            public: Public::parse(evidence.public).map_err(VerifyError::Public)?,
            evidence,
        })
    }

    pub(crate) fn is_signed(&self) -> bool {
        tpm::verify(&self.public.material, self.evidence.attest, &self.signature)
    }
}

/// The checks so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    checks: Vec<Check>,
    reasons: Vec<Reason>,
}

impl Findings {
    pub(crate) fn passed(&mut self, check: CheckName, text: impl Into<String>) {
        self.checks.push(Check { check, outcome: CheckOutcome::Passed, text: text.into() });
    }

    pub(crate) fn skipped(&mut self, check: CheckName, text: impl Into<String>) {
        self.checks.push(Check { check, outcome: CheckOutcome::Skipped, text: text.into() });
    }

    pub(crate) fn failed(&mut self, check: CheckName, kind: ReasonKind, text: impl Into<String>) {
        self.failed_at(check, kind, text, None);
    }

    pub(crate) fn failed_at(
        &mut self,
        check: CheckName,
        kind: ReasonKind,
        text: impl Into<String>,
        entry: Option<u64>,
    ) {
        let text = text.into();
        self.reasons.push(Reason { kind, text: text.clone(), entry });
        // Of several reasons against one check the first stands there.
        if self.checks.last().is_none_or(|last| last.check != check) {
            self.checks.push(Check { check, outcome: CheckOutcome::Failed, text });
        }
    }

    fn is_good(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// Verifies an evidence file that was read whole. Takes time in proportion to its length.
///
/// # Errors
/// [`VerifyError`] when there is nothing to judge.
pub fn verify(file: &[u8], question: &Question<'_>) -> Result<Verdict, VerifyError> {
    let parsed = Parsed::of(file)?;
    if question.mount.is_some() && !is_host_list(parsed.evidence.list) {
        return Err(VerifyError::NoHostList);
    }
    let mut findings = Findings::default();
    let certificate = check_quote(&parsed, question, &mut findings);
    let quoted = check_registers(&parsed, question, &mut findings);
    let is_believed = findings.is_good();

    let targets = quoted.as_ref().map(|quoted| targets(quoted, question.pcrs)).unwrap_or_default();
    let replays = replay::replay(parsed.evidence.list, &targets).map_err(VerifyError::Bank)?;
    let reached = reached(&replays);
    let judgement = Judgement {
        references: question.references,
        pcrs: question.pcrs,
        mount: question.mount,
        violations: question.violations,
        unproven: question.unproven,
        selection: question.entries,
        boot: quoted.as_ref(),
        proven: reached.filter(|_| is_believed),
        replayed: reached,
    };
    let judged = entries::judge(parsed.evidence.list, &judgement);
    entries::report_form(&judged, &mut findings);
    report_replay(&replays, reached, question.pcrs, judged.counts.entries, &mut findings);
    succession::check(&parsed, reached, question.after, &mut findings)?;
    entries::report_content(&judged, &judgement, &mut findings);

    Ok(Verdict {
        format: FORMAT,
        verdict: if findings.is_good() { Overall::Trusted } else { Overall::Refused },
        key: key_facts(&parsed, certificate),
        quote: quote_facts(&parsed.attest),
        registers: registers(&replays, &targets),
        reasons: findings.reasons,
        checks: findings.checks,
        counts: judged.counts,
        entries: judged.listed,
        entries_left_out: judged.left_out,
    })
}

/// What is signed, by whom, and for which nonce. Gives the certificate's subject.
fn check_quote(parsed: &Parsed<'_>, question: &Question<'_>, findings: &mut Findings) -> Option<String> {
    let Parsed { evidence, attest, public, .. } = parsed;
    if attest.is_generated && attest.is_quote {
        findings.passed(CheckName::Quote, "a TPM has made a quote");
    } else {
        findings.failed(CheckName::Quote, ReasonKind::NotAQuote, "what is signed is not a quote by a TPM");
    }
    match public.hierarchy(attest.qualified_signer) {
        _ if !public.is_attestation_key() => findings.failed(
            CheckName::Key,
            ReasonKind::UnsuitableKey,
            "the key is not one that signs a TPM's own words alone (restricted, made and fixed in its TPM)",
        ),
        Some(hierarchy) => {
            findings.passed(CheckName::Key, format!("a primary key of the {hierarchy} hierarchy"));
        }
        None => findings.failed(
            CheckName::Key,
            ReasonKind::UnsuitableKey,
            "the quote is signed by a key of another qualified name than this one has",
        ),
    }
    let trusted = question.trust.check(public, &evidence.certificates);
    match &trusted {
        Ok(Some(subject)) => findings.passed(CheckName::Trust, format!("certified as {subject}")),
        Ok(None) => findings.passed(CheckName::Trust, "the key that is trusted"),
        Err(error) => findings.failed(CheckName::Trust, ReasonKind::UntrustedKey, error.to_string()),
    }
    if parsed.is_signed() {
        findings.passed(CheckName::Signature, "the quote is signed by the key");
    } else {
        findings.failed(
            CheckName::Signature,
            ReasonKind::Signature,
            "the signature of the quote is not the key's",
        );
    }
    if !question.nonce.is_empty() && attest.extra_data == question.nonce {
        findings.passed(CheckName::Nonce, "the quote answers this nonce");
    } else {
        findings.failed(
            CheckName::Nonce,
            ReasonKind::Nonce,
            format!(
                "the quote answers the nonce {}, not {}: it may be old",
                hex::encode(attest.extra_data),
                hex::encode(question.nonce)
            ),
        );
    }
    trusted.ok().flatten()
}

/// Banks with the registers that were quoted of them.
pub(crate) type Quoted = BTreeMap<HashAlgo, BTreeMap<PcrIndex, Digest>>;

/// Whether the registers are those that were quoted; `None` where they are not.
fn check_registers(parsed: &Parsed<'_>, question: &Question<'_>, findings: &mut Findings) -> Option<Quoted> {
    let Parsed { evidence, attest, signature, .. } = parsed;
    let selected = attest
        .selection
        .iter()
        .flat_map(|selection| selection.registers.iter().map(|pcr| (*pcr, selection.bank)));
    let given = evidence.registers.iter().map(|(pcr, value)| (*pcr, value.algo()));
    let bytes: Vec<u8> = evidence.registers.iter().flat_map(|(_, value)| value.bytes()).copied().collect();
    let digest = ima::hash(signature.hash, &bytes);
    if !selected.eq(given) || digest.is_ok_and(|digest| digest.bytes() != attest.pcr_digest) {
        findings.failed(
            CheckName::PcrValues,
            ReasonKind::PcrValues,
            "the register values are not those that were quoted",
        );
        return None;
    }
    let mut quoted = Quoted::new();
    for (pcr, value) in &evidence.registers {
        quoted.entry(value.algo()).or_default().insert(*pcr, *value);
    }
    // A bank of which the list's registers were not all quoted proves nothing of the list.
    let complete = |registers: &BTreeMap<_, _>| question.pcrs.iter().all(|pcr| registers.contains_key(pcr));
    let strong =
        |(bank, registers): (&HashAlgo, &BTreeMap<_, _>)| *bank != HashAlgo::Sha1 && complete(registers);
    if question.pcrs.is_empty() || !quoted.iter().any(strong) {
        let names: Vec<_> = question.pcrs.iter().map(ToString::to_string).collect();
        let text = format!("PCR {} was quoted in no bank stronger than SHA-1", names.join(", "));
        findings.failed(CheckName::PcrValues, ReasonKind::PcrNotQuoted, text);
    } else {
        let banks: Vec<_> = quoted.keys().map(|bank| bank.name()).collect();
        findings.passed(CheckName::PcrValues, format!("the registers were quoted in {}", banks.join(", ")));
    }
    Some(quoted)
}

/// What the list has to lead to, in each bank that was quoted of its registers.
fn targets(quoted: &Quoted, pcrs: &[PcrIndex]) -> Quoted {
    let of = |(bank, registers): (&HashAlgo, &BTreeMap<PcrIndex, Digest>)| {
        let values = pcrs.iter().filter_map(|pcr| Some((*pcr, *registers.get(pcr)?)));
        let values: BTreeMap<_, _> = values.collect();
        (values.len() == pcrs.len()).then_some((*bank, values))
    };
    quoted.iter().filter_map(of).collect()
}

/// Entries after which every bank is as it was quoted.
fn reached(replays: &[Replay]) -> Option<usize> {
    let first = replays.first()?.reached?;
    replays.iter().all(|replay| replay.reached == Some(first)).then_some(first)
}

fn report_replay(
    replays: &[Replay],
    reached: Option<usize>,
    pcrs: &[PcrIndex],
    entries: u64,
    findings: &mut Findings,
) {
    let banks = |replays: &mut dyn Iterator<Item = &Replay>| {
        replays.map(|replay| replay.bank.name()).collect::<Vec<_>>().join(", ")
    };
    let names: Vec<_> = pcrs.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    match reached {
        Some(count) => findings.passed(
            CheckName::Replay,
            format!(
                "the first {count} of {entries} entries replay to PCR {names} in {}",
                banks(&mut replays.iter())
            ),
        ),
        None if replays.is_empty() => {
            findings.skipped(CheckName::Replay, "there is nothing to replay to");
        }
        None => {
            let wrong = banks(&mut replays.iter().filter(|replay| replay.reached.is_none()));
            let wrong = if wrong.is_empty() { "all banks at one place".to_owned() } else { wrong };
            let text = format!(
                "no beginning of the list replays to PCR {names} in {wrong}: entries are missing, changed, \
                 added or in another order"
            );
            findings.failed(CheckName::Replay, ReasonKind::Replay, text);
        }
    }
}

fn registers(replays: &[Replay], targets: &Quoted) -> Vec<Register> {
    let mut registers = Vec::new();
    for replay in replays {
        for (pcr, value) in &replay.values {
            let quoted = targets.get(&replay.bank).and_then(|values| values.get(pcr));
            registers.push(Register {
                bank: replay.bank.name().to_owned(),
                pcr: pcr.value(),
                quoted: quoted.map(Digest::to_hex).unwrap_or_default(),
                replayed: value.to_hex(),
            });
        }
    }
    registers
}

fn key_facts(parsed: &Parsed<'_>, certificate: Option<String>) -> KeyFacts {
    let Parsed { public, attest, .. } = parsed;
    KeyFacts {
        name: hex::encode(public.name()),
        qualified_name: hex::encode(attest.qualified_signer),
        hierarchy: public.hierarchy(attest.qualified_signer).map(str::to_owned),
        kind: public.kind(),
        certificate,
    }
}

fn quote_facts(attest: &Attest<'_>) -> QuoteFacts {
    QuoteFacts {
        nonce: hex::encode(attest.extra_data),
        clock: attest.clock.clock,
        reset_count: attest.clock.resets,
        restart_count: attest.clock.restarts,
        clock_is_safe: attest.clock.safe,
        firmware_version: format!("{:016x}", attest.firmware),
        pcr_digest: hex::encode(attest.pcr_digest),
    }
}
