//! Evidence of a list: `attest::evidence`, `attest::tpm`, and the whole way from a file to a verdict.

use attest::evidence::Evidence;
use attest::reference::{Digests, References};
use attest::tpm::{Attest, Public, Signature};
use attest::trust::Trust;
use attest::verdict::EntrySelection;
use attest::verify::{Question, Unproven, Violations, verify};
use ima::PcrIndex;

use crate::{Bound, must, within};

/// Tables of registers and certificates; the rest is lent.
const FILE: Bound = Bound { fixed: 4096, per_byte: 8 };

/// One of each that a TPM has made.
const ATTEST: &[u8] = include_bytes!("../corpus/evidence/attest-rsapss");
const SIGNATURE: &[u8] = include_bytes!("../corpus/evidence/signature-rsapss");
const PUBLIC: &[u8] = include_bytes!("../corpus/evidence/public-rsapss");

/// A key's numbers, a table of banks.
const SIGNED: Bound = Bound { fixed: 4096, per_byte: 8 };

/// Any bytes as evidence, and as each thing that a TPM signs or is asked for.
///
/// - Evidence that is read is written again as the same bytes.
/// - Whatever can be read has a verdict or none, and nobody who has no key that is trusted gets a yes.
pub fn evidence(data: &[u8]) {
    if let Ok(evidence) = within(FILE, data, || Evidence::parse(data)) {
        assert_eq!(evidence.to_bytes().ok().as_deref(), Some(data), "what was read is written as it was");
        judge(data);
    }
    let attest = within(SIGNED, data, || Attest::parse(data));
    let public = within(SIGNED, data, || Public::parse(data));
    let signature = within(SIGNED, data, || Signature::parse(data));
    // Most inputs are one of the three at best: what is behind them is reached by giving each the others' place.
    let sections = Evidence {
        attest: if attest.is_ok() { data } else { ATTEST },
        signature: if signature.is_ok() { data } else { SIGNATURE },
        public: if public.is_ok() { data } else { PUBLIC },
        registers: Vec::new(),
        certificates: vec![data],
        list: data,
    };
    if let Ok(file) = sections.to_bytes() {
        judge(&file);
    }
}

/// Asks for a verdict, by a key that nobody has.
fn judge(file: &[u8]) {
    let (trust, references) =
        (Trust::Name(vec![0; 34]), References { digests: vec![Digests::default()], ..References::default() });
    let question = Question {
        nonce: &[0; 16],
        trust: &trust,
        references: &references,
        pcrs: &[PcrIndex::DEFAULT],
        mount: None,
        after: Some(file),
        violations: Violations::Refuse,
        unproven: Unproven::Refuse,
        entries: EntrySelection::Offending,
    };
    if let Ok(verdict) = verify(file, &question) {
        assert!(!verdict.is_trusted(), "trusted without a key");
        must(serde_json::to_string(&verdict).ok(), "a verdict can be written");
    }
}
