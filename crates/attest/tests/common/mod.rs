//! A TPM of paper: a software key that signs what it is told, so that everything a TPM would never sign can be shown
//! to the verifier too. What real TPMs sign is in integration/tests/attest.rs.

#![allow(dead_code, reason = "each test file uses what it needs")]

use attest::evidence::Evidence;
use attest::reference::{Digests, References};
use attest::tpm::Public;
use attest::trust::Trust;
use attest::verdict::{EntrySelection, ReasonKind, Verdict};
use attest::verify::{Question, Unproven, VerifyError, Violations, verify};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use ima::template::FileAttrs;
use ima::{Digest, Entry, Event, HashAlgo, PcrIndex, Template};

pub const NONCE: &[u8] = b"a nonce of sixteen bytes or more";
pub const BANKS: [HashAlgo; 4] = [HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha384, HashAlgo::Sha512];
/// restricted, sign, and made and fixed in its TPM.
pub const ATTRIBUTES: u32 = 0x0005_0472;
const ENDORSEMENT: u32 = 0x4000_000b;

/// What a quote says, to be changed at will.
#[derive(Debug, Clone)]
pub struct Said {
    pub magic: u32,
    pub kind: u16,
    pub nonce: Vec<u8>,
    pub parent: u32,
    pub clock: u64,
    pub resets: u32,
    pub restarts: u32,
    pub safe: u8,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            magic: 0xff54_4347,
            kind: 0x8018,
            nonce: NONCE.to_vec(),
            parent: ENDORSEMENT,
            clock: 1000,
            resets: 3,
            restarts: 1,
            safe: 1,
        }
    }
}

/// A key and what it says of itself.
pub struct Paper {
    pair: EcdsaKeyPair,
    pub public: Vec<u8>,
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

impl Paper {
    pub fn new() -> Self {
        Self::with_attributes(ATTRIBUTES)
    }

    pub fn with_attributes(attributes: u32) -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).unwrap();
        let point = pair.public_key().as_ref();
        let mut public = vec![0x00, 0x23, 0x00, 0x0b];
        public.extend_from_slice(&attributes.to_be_bytes());
        // No policy, no symmetric algorithm, ECDSA with SHA-256, P-256, no key derivation.
        public.extend_from_slice(&[0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10]);
        public.extend(sized(&point[1..33]));
        public.extend(sized(&point[33..]));
        Self { pair, public }
    }

    pub fn name(&self) -> Vec<u8> {
        Public::parse(&self.public).unwrap().name()
    }

    pub fn trust(&self) -> Trust {
        Trust::Name(self.name())
    }

    /// Evidence of this list with these registers, as signed.
    pub fn evidence(&self, said: &Said, registers: &[(PcrIndex, Digest)], list: &[u8]) -> Vec<u8> {
        let attest = attest(said, &self.name(), registers);
        let signature = self.pair.sign(&SystemRandom::new(), &attest).unwrap();
        let mut tpmt = vec![0, 0x18, 0, 0x0b];
        tpmt.extend(sized(&signature.as_ref()[..32]));
        tpmt.extend(sized(&signature.as_ref()[32..]));
        let evidence = Evidence {
            attest: &attest,
            signature: &tpmt,
            public: &self.public,
            registers: registers.to_vec(),
            certificates: Vec::new(),
            list,
        };
        evidence.to_bytes().unwrap()
    }
}

/// `TPMS_ATTEST`, by part 2 of the specification.
fn attest(said: &Said, name: &[u8], registers: &[(PcrIndex, Digest)]) -> Vec<u8> {
    let qualified = ima::hash(HashAlgo::Sha256, &[&said.parent.to_be_bytes()[..], name].concat()).unwrap();
    let mut out = said.magic.to_be_bytes().to_vec();
    out.extend_from_slice(&said.kind.to_be_bytes());
    out.extend(sized(&[&[0, 0x0b], qualified.bytes()].concat()));
    out.extend(sized(&said.nonce));
    out.extend_from_slice(&said.clock.to_be_bytes());
    out.extend_from_slice(&said.resets.to_be_bytes());
    out.extend_from_slice(&said.restarts.to_be_bytes());
    out.push(said.safe);
    out.extend_from_slice(&7_u64.to_be_bytes());
    let banks: Vec<_> =
        BANKS.iter().filter(|bank| registers.iter().any(|(_, value)| value.algo() == **bank)).collect();
    out.extend_from_slice(&u32::try_from(banks.len()).unwrap().to_be_bytes());
    for bank in banks {
        out.extend_from_slice(&bank.tpm_id().unwrap().to_be_bytes());
        let mut map = [0_u8; 3];
        for (pcr, _) in registers.iter().filter(|(_, value)| value.algo() == *bank) {
            map[pcr.value() as usize / 8] |= 1 << (pcr.value() % 8);
        }
        out.push(3);
        out.extend_from_slice(&map);
    }
    let all: Vec<u8> = registers.iter().flat_map(|(_, value)| value.bytes().to_vec()).collect();
    out.extend(sized(ima::hash(HashAlgo::Sha256, &all).unwrap().bytes()));
    out
}

fn file(number: usize) -> Entry {
    let digest = ima::hash(HashAlgo::Sha256, format!("content {number}").as_bytes()).unwrap();
    let name = format!("/file-{number}");
    let attributes = FileAttrs { uid: 0, gid: 0, mode: 0o100_644 };
    let event = Event::file(digest, name.as_bytes(), attributes);
    Template::named("ima-sig").unwrap().entry(PcrIndex::DEFAULT, &event).unwrap()
}

/// boot_aggregate over registers of zeros, and so many files.
pub fn entries(files: usize) -> Vec<Entry> {
    let zeros = vec![0; 320];
    let aggregate = Event::boot_aggregate(ima::hash(HashAlgo::Sha256, &zeros).unwrap());
    let first = Template::named("ima-sig").unwrap().entry(PcrIndex::DEFAULT, &aggregate).unwrap();
    std::iter::once(first).chain((0..files).map(file)).collect()
}

pub fn violation(name: &str) -> Entry {
    let attributes = FileAttrs { uid: 0, gid: 0, mode: 0o100_644 };
    let event = Event::violation(HashAlgo::Sha256, name.as_bytes(), attributes);
    Template::named("ima-sig").unwrap().entry(PcrIndex::DEFAULT, &event).unwrap()
}

pub fn binary(entries: &[Entry]) -> Vec<u8> {
    let mut list = Vec::new();
    entries.iter().for_each(|entry| entry.write_binary(&mut list, HashAlgo::Sha1).unwrap());
    list
}

/// The digests of the files of [`entries`].
pub fn digests(files: usize) -> References {
    let mut digests = Digests::default();
    for number in 0..files {
        let digest = ima::hash(HashAlgo::Sha256, format!("content {number}").as_bytes()).unwrap();
        digests.add(format!("/file-{number}").as_bytes(), digest);
    }
    References { digests: vec![digests], ..References::default() }
}

/// Registers 0 to 9, zeros, and 10 as this list leaves it, by arithmetic that is not `ima`'s.
pub fn registers(list: &[u8]) -> Vec<(PcrIndex, Digest)> {
    let mut registers = Vec::new();
    for bank in BANKS {
        let zeros = (0..10).map(|pcr| (PcrIndex::new(pcr).unwrap(), Digest::zero(bank)));
        registers.extend(zeros);
        let value = match bank {
            HashAlgo::Sha1 => replay::<sha1::Sha1>(list),
            HashAlgo::Sha256 => replay::<sha2::Sha256>(list),
            HashAlgo::Sha384 => replay::<sha2::Sha384>(list),
            _ => replay::<sha2::Sha512>(list),
        };
        registers.push((PcrIndex::DEFAULT, Digest::new(bank, &value).unwrap()));
    }
    registers
}

/// A binary list of templates other than `ima`, extended record by record.
fn replay<D: sha2::Digest>(mut list: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let mut pcr = vec![0; <D as sha2::Digest>::output_size()];
    while !list.is_empty() {
        let (head, rest) = list.split_at(24);
        let (_name, rest) = rest[4..].split_at(number(rest));
        let (data, rest) = rest[4..].split_at(number(rest));
        list = rest;
        let value = if head[4..].iter().all(|byte| *byte == 0) {
            vec![0xff; pcr.len()]
        } else {
            D::digest(data).to_vec()
        };
        pcr = D::digest([pcr, value].concat()).to_vec();
    }
    pcr
}

/// A question with the usual answers, to be changed.
pub fn question<'a>(trust: &'a Trust, references: &'a References) -> Question<'a> {
    Question {
        nonce: NONCE,
        trust,
        references,
        pcrs: &[PcrIndex::DEFAULT],
        mount: None,
        after: None,
        violations: Violations::Refuse,
        unproven: Unproven::Refuse,
        entries: EntrySelection::All,
    }
}

pub fn ask(file: &[u8], question: &Question<'_>) -> Verdict {
    verify(file, question).unwrap()
}

/// That it is refused, for these reasons and no other.
#[track_caller]
pub fn refused(answer: Result<Verdict, VerifyError>, reasons: &[ReasonKind]) -> Verdict {
    let verdict = answer.unwrap();
    let found: Vec<_> = verdict.reasons.iter().map(|reason| reason.kind).collect();
    assert_eq!(found, reasons, "{:#?}", verdict.reasons);
    assert!(!verdict.is_trusted());
    verdict
}
