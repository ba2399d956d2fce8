//! Round trips, truncations, flipped bits, and one checksum by another tool.

use ima::template::{Event, FileAttrs};
use proptest::prelude::*;

use super::*;

fn digest(algo: HashAlgo, fill: u8) -> Digest {
    Digest::new(algo, &vec![fill; algo.digest_len()]).unwrap()
}

fn algo() -> impl Strategy<Value = HashAlgo> {
    prop::sample::select(HashAlgo::ALL.to_vec())
}

fn register() -> impl Strategy<Value = Register> {
    (0_u32..64, algo(), any::<(u8, u8)>()).prop_map(|(pcr, algo, (base, value))| Register {
        pcr: PcrIndex::new(pcr).unwrap(),
        base: digest(algo, base),
        value: digest(algo, value),
    })
}

fn registers() -> impl Strategy<Value = Vec<Register>> {
    prop::collection::vec(register(), 0..6)
}

fn state() -> impl Strategy<Value = Record> {
    (any::<u64>(), registers()).prop_map(|(entries, registers)| Record::State(State { entries, registers }))
}

fn end() -> impl Strategy<Value = Record> {
    (any::<(u64, u64, u8)>(), registers()).prop_map(|((time, entries, fill), registers)| {
        let list_digest = digest(HashAlgo::Sha256, fill);
        Record::End(End { time, entries, list_digest, registers })
    })
}

fn listed() -> impl Strategy<Value = Record> {
    let templates = prop::sample::select(vec!["ima", "ima-ng", "ima-sig", "ima-sigv2", "d-ng|iuid|n"]);
    let name = prop::collection::vec(1_u8.., 0..300);
    (templates, name, any::<(u8, bool)>(), 0_u32..64).prop_map(|(template, name, (fill, violation), pcr)| {
        let template = Template::listed(template).unwrap();
        let file = FileAttrs { uid: 7, gid: 8, mode: 0o100_644 };
        let event = if violation {
            Event::violation(HashAlgo::Sha1, &name, file)
        } else {
            Event::file(digest(HashAlgo::Sha1, fill), &name, file)
        };
        Record::Entry(template.entry(PcrIndex::new(pcr).unwrap(), &event).unwrap())
    })
}

fn header() -> impl Strategy<Value = Header> {
    let names = ("[a-z0-9-]{1,64}", algo(), prop::collection::vec(algo(), 0..5));
    let numbers = (any::<[u8; 16]>(), any::<u64>(), 0_u32..64);
    let owner = prop::sample::select(vec![Owner::Process, Owner::Device]);
    (names, numbers, owner).prop_map(|((ns_id, default_algo, banks), (id, created, pcr), owner)| {
        let template = Template::listed("d-ng|n-ng|iuid").unwrap();
        let pcr = PcrIndex::new(pcr).unwrap();
        let identity = Identity { ns_id, default_algo, template, pcr, banks };
        Header { id, created, identity, owner }
    })
}

fn encode(record: &Record) -> (Kind, Vec<u8>) {
    let mut payload = Vec::new();
    match record {
        Record::Entry(entry) => {
            put_entry(&mut payload, entry).unwrap();
            (Kind::Entry, payload)
        }
        Record::State(state) => (Kind::State, state.encode().unwrap()),
        Record::End(end) => (Kind::End, end.encode().unwrap()),
    }
}

proptest! {
    #[test]
    fn a_record_reads_back_as_it_was_written(
        record in prop_oneof![state(), end(), listed()],
        place in any::<(u64, u64)>(),
        id in any::<JournalId>(),
    ) {
        let seal = Seal::new(&id).unwrap();
        let (kind, payload) = encode(&record);
        let mut bytes = Vec::new();
        prop_assert!(put_record(&mut bytes, &seal, kind, place, &payload));
        let head = Head::parse(&bytes).unwrap();
        prop_assert_eq!((head.kind, head.sequence, head.batch), (kind, place.0, place.1));
        prop_assert!(head.fits(&seal, &bytes[RECORD_HEAD..]));
        prop_assert_eq!(parse_payload(head.kind, &bytes[RECORD_HEAD..]), Some(record));
        // The same bytes in another journal are no record.
        let mut other = id;
        other[0] ^= 1;
        prop_assert!(!head.fits(&Seal::new(&other).unwrap(), &bytes[RECORD_HEAD..]));
    }

    #[test]
    fn no_truncation_and_no_flipped_bit_of_a_record_fits(
        record in prop_oneof![state(), end(), listed()],
        bit in any::<prop::sample::Index>(),
    ) {
        let seal = Seal::new(b"sixteen bytes of").unwrap();
        let (kind, payload) = encode(&record);
        let mut bytes = Vec::new();
        prop_assert!(put_record(&mut bytes, &seal, kind, (5, 6), &payload));
        for length in 0..bytes.len() {
            let head = Head::parse(&bytes[..length]);
            prop_assert!(head.is_none_or(|head| !head.fits(&seal, &bytes[RECORD_HEAD..length])));
            prop_assert!(parse_payload(kind, &payload[..length.min(payload.len() - 1)]).is_none());
        }
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let head = Head::parse(&bytes);
        prop_assert!(head.is_none_or(|head| !head.fits(&seal, &bytes[RECORD_HEAD..])));
    }

    #[test]
    fn a_header_reads_back_as_it_was_written_and_not_when_it_is_damaged(
        header in header(),
        bit in any::<prop::sample::Index>(),
    ) {
        let mut bytes = header.encode().unwrap();
        let length = bytes.len();
        bytes.extend_from_slice(b"what follows");
        prop_assert_eq!(Header::parse(&bytes), Ok((header, length)));
        for cut in 0..length {
            prop_assert!(Header::parse(&bytes[..cut]).is_err());
        }
        let bit = bit.index(length * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Header::parse(&bytes).is_err());
    }

    #[test]
    fn foreign_bytes_are_nothing(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Header::parse(&bytes).is_err());
        prop_assert_eq!(Mark::parse(&bytes), None);
        prop_assert!(Head::parse(&bytes).is_none() || bytes.starts_with(b"IJR"));
        for kind in [Kind::Entry, Kind::State, Kind::End] {
            // Only that it ends: some bytes are a state.
            let _parsed = parse_payload(kind, &bytes);
        }
    }
}

#[test]
fn a_mark_is_48_bytes_and_reads_back() {
    let mark = Mark { id: *b"sixteen bytes of", batch: 3, end: 4711 };
    let bytes = mark.encode().unwrap();
    assert_eq!((bytes.len(), Mark::parse(&bytes)), (MARK_LEN, Some(mark)));
    for length in 0..MARK_LEN {
        assert_eq!(Mark::parse(&bytes[..length]), None);
    }
}

#[test]
fn a_payload_beyond_the_limit_is_no_record() {
    let seal = Seal::new(&[0; 16]).unwrap();
    let mut out = Vec::new();
    assert!(!put_record(&mut out, &seal, Kind::Entry, (0, 1), &vec![0; MAX_PAYLOAD + 1]));
    assert_eq!(out, []);
    let mut head = vec![0; RECORD_HEAD];
    head[..4].copy_from_slice(b"IJRE");
    head[4..8].copy_from_slice(&u32::try_from(MAX_PAYLOAD + 1).unwrap().to_le_bytes());
    assert_eq!(Head::parse(&head), None);
}

/// `(printf 'sixteen bytes of'; printf 'IJRS\x0a\0\0\0\x07\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0';
/// printf '\x01\0\0\0\0\0\0\0\0\0') | sha256sum`
#[test]
fn the_checksum_of_a_record_is_sha256sums() {
    let seal = Seal::new(b"sixteen bytes of").unwrap();
    let payload = State { entries: 1, registers: Vec::new() }.encode().unwrap();
    let mut bytes = Vec::new();
    assert!(put_record(&mut bytes, &seal, Kind::State, (7, 2), &payload));
    assert_eq!(hex::encode(&bytes[24..32]), "376619fe40d847de");
}
