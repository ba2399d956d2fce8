//! Lists and PCRs as a Linux 6.1 kernel recorded them (integration/golden): each list parses, says the same in both
//! forms, is written again byte for byte, and replays to the values of that kernel's TPM.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use ima::{
    Digest, Entry, HashAlgo, ParsedEntry, PcrIndex, Pcrs, boot_aggregate, list::ListFault, parse_ascii,
    parse_binary,
};

/// One recorded scenario.
struct Scenario {
    name: String,
    ascii: Vec<u8>,
    binary: Vec<u8>,
    /// The `pcr` file; absent where the machine had no TPM.
    pcrs: Option<String>,
}

fn scenarios() -> Vec<Scenario> {
    let golden = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../integration/golden"));
    let scenarios: Vec<_> = fs::read_dir(golden)
        .unwrap()
        .map(|dir| dir.unwrap().path())
        .filter(|dir| dir.join("kernel").is_dir())
        .map(|dir| Scenario {
            name: dir.file_name().unwrap().to_str().unwrap().to_owned(),
            ascii: fs::read(dir.join("kernel/ascii_runtime_measurements")).unwrap(),
            binary: fs::read(dir.join("kernel/binary_runtime_measurements")).unwrap(),
            pcrs: fs::read_to_string(dir.join("kernel/pcr")).ok(),
        })
        .collect();
    assert!(scenarios.len() >= 21, "golden scenarios are missing");
    scenarios
}

fn parsed(scenario: &Scenario) -> Vec<ParsedEntry> {
    parse_binary(&scenario.binary, HashAlgo::Sha1).collect::<Result<_, _>>().unwrap()
}

fn entries(scenario: &Scenario) -> Vec<Entry> {
    parsed(scenario).into_iter().map(|parsed| parsed.entry).collect()
}

#[test]
fn both_forms_hold_the_same_entries_and_are_written_again_byte_for_byte() {
    for scenario in scenarios() {
        let binary = parsed(&scenario);
        let ascii: Vec<_> = parse_ascii(&scenario.ascii, HashAlgo::Sha1).collect::<Result<_, _>>().unwrap();
        assert_eq!(binary, ascii, "{}", scenario.name);
        let (mut binary_again, mut ascii_again) = (Vec::new(), Vec::new());
        for parsed in &binary {
            parsed.entry.write_binary(&mut binary_again, HashAlgo::Sha1).unwrap();
            parsed.entry.write_ascii(&mut ascii_again, HashAlgo::Sha1).unwrap();
        }
        assert_eq!(binary_again, scenario.binary, "{}", scenario.name);
        assert_eq!(ascii_again, scenario.ascii, "{}", scenario.name);
    }
}

#[test]
fn recorded_template_digests_are_those_of_the_data() {
    for scenario in scenarios() {
        for parsed in parsed(&scenario) {
            assert!(parsed.is_consistent(), "{}: {:?}", scenario.name, parsed.entry);
            assert!(parsed.entry.digest().is_some() && parsed.entry.name().is_some(), "{:?}", parsed.entry);
        }
    }
}

#[test]
fn a_changed_byte_makes_an_entry_inconsistent() {
    let scenario = scenarios().into_iter().find(|scenario| scenario.name == "measure-basics").unwrap();
    let first = parse_binary(&scenario.binary, HashAlgo::Sha1).next().unwrap().unwrap().entry;
    let last_of_digest = 4 + 20 + 4 + "ima-sig".len() + 4 + 4 + 40 - 1;
    let mut changed = scenario.binary.clone();
    changed[last_of_digest] ^= 1;
    let changed = parse_binary(&changed, HashAlgo::Sha1).next().unwrap().unwrap();
    assert!(!changed.is_consistent());
    assert_ne!(changed.entry, first);
}

#[test]
fn lists_replay_to_the_recorded_pcrs_in_every_bank() {
    let mut banks = 0;
    for scenario in scenarios() {
        let entries = entries(&scenario);
        for (algo, recorded) in recorded_pcrs(&scenario) {
            let mut pcrs = Pcrs::new(algo).unwrap();
            pcrs.replay(&entries);
            for (pcr, value) in pcrs.values() {
                assert_eq!(recorded.get(&pcr), Some(&value), "{} {algo} PCR {pcr}", scenario.name);
            }
            banks += 1;
        }
    }
    assert_eq!(banks, 4 * 22, "four banks in each scenario with a TPM");
}

#[test]
fn lists_begin_with_the_boot_aggregate_of_the_recorded_pcrs() {
    for scenario in scenarios() {
        let aggregate = entries(&scenario)[0].digest().unwrap();
        let recorded = recorded_pcrs(&scenario);
        let Some(values) = recorded.get(&aggregate.algo()) else {
            assert!(aggregate.is_zero(), "{}", scenario.name);
            continue;
        };
        let mut pcrs = Pcrs::new(aggregate.algo()).unwrap();
        for (pcr, value) in values {
            pcrs.set(*pcr, *value).unwrap();
        }
        assert_eq!(boot_aggregate(&pcrs), aggregate, "{}", scenario.name);
    }
}

#[test]
fn every_truncation_of_a_list_gives_whole_entries_and_then_says_so() {
    let scenario =
        scenarios().into_iter().find(|scenario| scenario.name == "template-and-pcr-per-rule").unwrap();
    let whole = parsed(&scenario);
    for length in 0..scenario.binary.len() {
        check_truncated(parse_binary(&scenario.binary[..length], HashAlgo::Sha1), &whole);
    }
    for length in 0..scenario.ascii.len() {
        check_truncated(parse_ascii(&scenario.ascii[..length], HashAlgo::Sha1), &whole);
    }
}

fn check_truncated(list: impl Iterator<Item = Result<ParsedEntry, ima::ListError>>, whole: &[ParsedEntry]) {
    let mut expected = whole.iter();
    for result in list {
        match result {
            Ok(entry) => assert_eq!(Some(&entry), expected.next()),
            Err(error) => assert_eq!(error.reason, ListFault::Truncated, "{error}"),
        }
    }
}

#[test]
fn lists_of_other_banks_round_trip() {
    for scenario in scenarios() {
        let entries = entries(&scenario);
        for algo in [HashAlgo::Sha256, HashAlgo::Sha512] {
            let (mut binary, mut ascii) = (Vec::new(), Vec::new());
            for entry in &entries {
                entry.write_binary(&mut binary, algo).unwrap();
                entry.write_ascii(&mut ascii, algo).unwrap();
            }
            for list in [
                parse_binary(&binary, algo).collect::<Result<Vec<_>, _>>().unwrap(),
                parse_ascii(&ascii, algo).collect::<Result<Vec<_>, _>>().unwrap(),
            ] {
                assert!(list.iter().all(ParsedEntry::is_consistent));
                assert!(list.iter().map(|parsed| &parsed.entry).eq(&entries), "{} {algo}", scenario.name);
            }
        }
    }
}

/// The `pcr` file: lines of bank, index and hex value.
fn recorded_pcrs(scenario: &Scenario) -> BTreeMap<HashAlgo, BTreeMap<PcrIndex, Digest>> {
    let mut banks: BTreeMap<HashAlgo, BTreeMap<PcrIndex, Digest>> = BTreeMap::new();
    for line in scenario.pcrs.iter().flat_map(|text| text.lines()) {
        let mut columns = line.split(' ');
        let algo = HashAlgo::from_name(columns.next().unwrap()).unwrap();
        let pcr = PcrIndex::new(columns.next().unwrap().parse().unwrap()).unwrap();
        let value = Digest::new(algo, &hex::decode(columns.next().unwrap()).unwrap()).unwrap();
        banks.entry(algo).or_default().insert(pcr, value);
    }
    banks
}
