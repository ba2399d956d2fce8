//! A four-entry list whose lines, records and PCR values were computed by hand, independently of any kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

use std::sync::Arc;

use ima::template::FileAttrs;
use ima::{Digest, Event, HashAlgo, PcrIndex, Template};
use measure::{Added, Form, List, ListOptions, NoBank, PcrBank, SoftBank};

const FILE: FileAttrs = FileAttrs { uid: 0, gid: 0, mode: 0o100_755 };

/// sha256 of `hello\n`.
const HELLO: &str = "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

/// SHA-1 and SHA-256 PCR 10 after each entry.
const PCRS: [[&str; 2]; 4] = [
    [
        "812f90167103ba62d2304f10e62efccb548713d1",
        "485111b3e6fb0176483b1e1a28594d3fe26419267f3fc957bd8955c56276f753",
    ],
    [
        "ac4f9cf853e979a10a3a7c9fad7b1fb30e48c49b",
        "7fee42f98f765537ff9a24a141a6e2559acd086c6aa1ca002b4cb51525d76b84",
    ],
    [
        "2e9d4dc4a20179ea1ac508ec8b9fcb4dc18e788f",
        "9bedca9d713931961a88d8236a01d0d5c5c705d60a493d813f3ff067358e1791",
    ],
    [
        "35e9646d9568f56ac6d08d4e7ddd1b4cfee1e9ed",
        "80551838fce21e1a849b91c39962e6bec0a85c76131554dc2c538cf0e78c986a",
    ],
];

fn list(bank: Arc<dyn PcrBank>) -> List {
    List::new(ListOptions::new(Template::named("ima-sig").unwrap(), bank)).unwrap()
}

fn file(list: &List, name: &str) -> Added {
    let event = Event::file(HELLO.parse().unwrap(), name.as_bytes(), FILE);
    list.add(list.template().entry(list.pcr(), &event).unwrap()).unwrap()
}

fn pcrs(list: &List) -> [String; 2] {
    [HashAlgo::Sha1, HashAlgo::Sha256]
        .map(|algo| list.bank().read(PcrIndex::DEFAULT, algo).unwrap().unwrap().to_hex())
}

fn whole(list: &List, form: Form) -> Vec<u8> {
    list.snapshot().read_at(form, HashAlgo::Sha1, 0, usize::MAX).unwrap()
}

#[test]
fn the_list_and_the_registers_grow_as_computed() {
    let bank = SoftBank::new(&[HashAlgo::Sha1, HashAlgo::Sha256]).unwrap();
    let list = list(Arc::new(bank));
    assert_eq!(pcrs(&list), PCRS[0]);
    assert_eq!(file(&list, "/usr/bin/foo"), Added::New);
    assert_eq!(pcrs(&list), PCRS[1]);
    assert_eq!(file(&list, "/tmp/a b"), Added::New);
    assert_eq!(pcrs(&list), PCRS[2]);
    assert_eq!(file(&list, "/usr/bin/foo"), Added::Duplicate);
    assert_eq!(pcrs(&list), PCRS[2]);
    list.add_violation(b"/usr/bin/foo", FILE, None, &[]).unwrap();
    assert_eq!(pcrs(&list), PCRS[3]);
    assert_eq!((list.count(), list.violations(), list.due()), (4, 1, 0));

    let (zeros, digest) = ("0".repeat(64), HELLO);
    let expected = format!(
        "10 4f38ef8f82bbc2a73f2169c57ff5c76e14ce353d ima-sig sha256:{zeros} boot_aggregate \n\
         10 3ad81b08a675c62fc438ef4c6d61f7b8a074604d ima-sig {digest} /usr/bin/foo \n\
         10 dbeb526303a90530c4848e07942237645976dd77 ima-sig {digest} /tmp/a_b \n\
         10 {} ima-sig sha256:{zeros} /usr/bin/foo \n",
        "0".repeat(40)
    );
    assert_eq!(String::from_utf8(whole(&list, Form::Ascii)).unwrap(), expected);

    let name = "0d0000002f7573722f62696e2f666f6f0000000000";
    let head = "07000000696d612d7369674100000028000000736861".to_owned() + "3235363a00";
    let second = format!("0a0000003ad81b08a675c62fc438ef4c6d61f7b8a074604d{head}{}{name}", &digest[7..]);
    let fourth = format!("0a000000{}{head}{zeros}{name}", "0".repeat(40));
    let binary = hex::encode(whole(&list, Form::Binary));
    // Template data of 67, 65 and 61 bytes behind 39 of header.
    let (first, third) = (2 * (39 + 67), 2 * (39 + 61));
    assert_eq!(binary[first..first + 208], second);
    assert_eq!(binary[first + 208 + third..], fourth);
}

#[test]
fn a_violation_is_never_a_duplicate_and_another_register_never_the_same() {
    let list = list(Arc::new(NoBank));
    for _ in 0..3 {
        list.add_violation(b"/f", FILE, None, &[]).unwrap();
    }
    assert_eq!((list.count(), list.violations()), (4, 3));
    assert_eq!(file(&list, "/f"), Added::New);
    let event = Event::file(HELLO.parse().unwrap(), b"/f", FILE);
    let other = list.template().entry(PcrIndex::new(11).unwrap(), &event).unwrap();
    assert_eq!(list.add(other.clone()).unwrap(), Added::New);
    assert_eq!(list.add(other).unwrap(), Added::Duplicate);
    let ng = Template::named("ima-ng").unwrap().entry(list.pcr(), &event).unwrap();
    assert_eq!(list.add(ng).unwrap(), Added::New, "another template, another template digest");
}

#[test]
fn the_first_entry_of_template_ima_holds_a_sha1_digest() {
    let template = Template::named("ima").unwrap();
    let list = List::new(ListOptions::new(template, Arc::new(NoBank))).unwrap();
    assert_eq!(list.snapshot().entry(0).unwrap().unwrap().digest(), Some(Digest::zero(HashAlgo::Sha1)));
}
