//! Lists on a host list, and what the host list has to be.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "shared by several test programs; a test's helpers fail by panicking, as its test functions may"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ima::template::FileAttrs;
use ima::{Digest, Event, HashAlgo, HostLine, PcrIndex, Pcrs, Template, parse_host};
use measure::{List, ListOptions, MeasureError, SoftBank};
use tpm::{HostBank, HostError, Tpm, TpmPlace};

pub const PCR: PcrIndex = PcrIndex::DEFAULT;
pub const FILE: FileAttrs = FileAttrs { uid: 0, gid: 0, mode: 0o100_755 };
pub const BANKS: [HashAlgo; 4] = [HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha384, HashAlgo::Sha512];

pub fn open(tcti: &TpmPlace, directory: &Path, ns: &str) -> Result<HostBank, HostError> {
    let own = SoftBank::new(&[HashAlgo::Sha1, HashAlgo::Sha256]).unwrap();
    HostBank::open(directory, Tpm::open(tcti.clone()).unwrap(), PCR, ns, own)
}

pub fn list(bank: HostBank) -> List {
    List::new(ListOptions::new(Template::named("ima-sig").unwrap(), Arc::new(bank))).unwrap()
}

pub fn add(list: &List, number: u32) -> Result<(), MeasureError> {
    if number % 10 == 9 {
        return list.add_violation(b"/violation", FILE, None, &[]);
    }
    let digest = ima::hash(HashAlgo::Sha256, &number.to_le_bytes()).unwrap();
    let name = format!("/file {number}");
    let event = Event::file(digest, name.as_bytes(), FILE);
    list.add(list.template().entry(list.pcr(), &event).unwrap()).map(drop)
}

/// The lines of the list, all of which must be whole.
pub fn lines(directory: &Path) -> Vec<HostLine> {
    let bytes = std::fs::read(directory.join("list")).unwrap();
    parse_host(&bytes).map(|line| line.unwrap().line).collect()
}

pub fn replay(lines: &[HostLine]) -> Vec<Digest> {
    let value = |algo: &HashAlgo| {
        let mut pcrs = Pcrs::new(*algo).unwrap();
        for line in lines {
            pcrs.extend(PCR, &line.extend_value(*algo).unwrap()).unwrap();
        }
        pcrs.value(PCR)
    };
    BANKS.iter().map(value).collect()
}

/// Each mount's lines are numbered without a gap, and begin anew only at a `boot_aggregate`.
pub fn numbered(lines: &[HostLine]) {
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for line in lines {
        let expected = next.entry(line.ns()).or_default();
        if line.seq() == 0 {
            assert_eq!(line.entry().name(), Some(&b"boot_aggregate"[..]));
            *expected = 0;
        }
        assert_eq!(line.seq(), *expected, "{}", line.ns());
        *expected += 1;
    }
}
