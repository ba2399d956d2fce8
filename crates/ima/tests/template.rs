//! Templates against vectors computed without any kernel, and against lines of public kernel logs.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use ima::{
    Digest, DigestKind, Entry, Event, FileAttrs, HashAlgo, Modsig, PcrIndex, Pcrs, Template, TemplateError,
    boot_aggregate, hash, parse_ascii, parse_binary, template::Field,
};

const FILE: FileAttrs = FileAttrs { uid: 1000, gid: 100, mode: 0o100_755 };
const EC_LABEL: &str = "030204d2d8a49d004730450220433bbb9888fb63ddf53308b80c3e73993cdaced49d46c4538178cee30075ca5202210\
                        0bdf00e6cadb46911375f8df712d06474caf986c13b99e4862027c2a20cf476bb";
const HELLO_SHA256: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

fn hello(algo: HashAlgo) -> Digest {
    hash(algo, b"hello\n").unwrap()
}

fn entry(template: &str, event: &Event<'_>) -> Entry {
    Template::listed(template).unwrap().entry(PcrIndex::DEFAULT, event).unwrap()
}

fn foo() -> Event<'static> {
    Event::file(hello(HashAlgo::Sha256), b"/usr/bin/foo", FILE)
}

fn ascii(entry: &Entry) -> String {
    let mut line = Vec::new();
    entry.write_ascii(&mut line, HashAlgo::Sha1).unwrap();
    String::from_utf8(line).unwrap()
}

fn binary(entry: &Entry) -> String {
    let mut record = Vec::new();
    entry.write_binary(&mut record, HashAlgo::Sha1).unwrap();
    hex::encode(record)
}

fn digest_hex(entry: &Entry, algo: HashAlgo) -> String {
    entry.template_digest(algo).unwrap().to_hex()
}

/// The four entries of the vector list.
fn four() -> [Entry; 4] {
    [
        entry("ima-sig", &Event::boot_aggregate(Digest::zero(HashAlgo::Sha256))),
        entry("ima-sig", &foo()),
        entry("ima-sig", &Event { name: b"/tmp/a b", ..foo() }),
        entry("ima-sig", &Event::violation(HashAlgo::Sha256, b"/usr/bin/foo", FILE)),
    ]
}

#[test]
fn a_list_of_four_is_written_as_a_kernel_writes_it() {
    let (zeros40, zeros64) = ("0".repeat(40), "0".repeat(64));
    let expected = [
        format!("10 4f38ef8f82bbc2a73f2169c57ff5c76e14ce353d ima-sig sha256:{zeros64} boot_aggregate \n"),
        format!("10 3ad81b08a675c62fc438ef4c6d61f7b8a074604d ima-sig sha256:{HELLO_SHA256} /usr/bin/foo \n"),
        format!("10 dbeb526303a90530c4848e07942237645976dd77 ima-sig sha256:{HELLO_SHA256} /tmp/a_b \n"),
        format!("10 {zeros40} ima-sig sha256:{zeros64} /usr/bin/foo \n"),
    ];
    let four = four();
    assert_eq!(four.each_ref().map(ascii), expected);
    assert_eq!(four.each_ref().map(Entry::data_len), [67, 65, 61, 65]);
    assert_eq!(
        four.each_ref().map(|entry| digest_hex(entry, HashAlgo::Sha256)),
        [
            "34d2696f3c3e0b417b0525a2d1501d564ff6bd022f4886a7fae839a9be4f1839",
            "3762e494717f93de12310b76be0e9353548c0853f87e2c50cd9499d67174614a",
            "f2adca4d51a43e308aac7207ce5b1a9926b071aca12d35a0318aa68c321ad66c",
            &zeros64,
        ]
    );
}

#[test]
fn binary_records_are_as_computed() {
    let head = "07000000696d612d73696741000000280000007368613235363a00";
    let tail = "0d0000002f7573722f62696e2f666f6f0000000000";
    let [_, foo, _, violation] = four();
    let digest = "3ad81b08a675c62fc438ef4c6d61f7b8a074604d";
    assert_eq!(binary(&foo), format!("0a000000{digest}{head}{HELLO_SHA256}{tail}"));
    assert_eq!(binary(&violation), format!("0a000000{}{head}{}{tail}", "0".repeat(40), "0".repeat(64)));
}

#[test]
fn pcrs_step_through_the_vector() {
    let sha1 = [
        "812f90167103ba62d2304f10e62efccb548713d1",
        "ac4f9cf853e979a10a3a7c9fad7b1fb30e48c49b",
        "2e9d4dc4a20179ea1ac508ec8b9fcb4dc18e788f",
        "35e9646d9568f56ac6d08d4e7ddd1b4cfee1e9ed",
    ];
    let sha256 = [
        "485111b3e6fb0176483b1e1a28594d3fe26419267f3fc957bd8955c56276f753",
        "7fee42f98f765537ff9a24a141a6e2559acd086c6aa1ca002b4cb51525d76b84",
        "9bedca9d713931961a88d8236a01d0d5c5c705d60a493d813f3ff067358e1791",
        "80551838fce21e1a849b91c39962e6bec0a85c76131554dc2c538cf0e78c986a",
    ];
    for (algo, expected) in [(HashAlgo::Sha1, sha1), (HashAlgo::Sha256, sha256)] {
        let (mut replayed, mut extended) = (Pcrs::new(algo).unwrap(), Pcrs::new(algo).unwrap());
        for (entry, value) in four().iter().zip(expected) {
            replayed.replay([entry]);
            assert_eq!(replayed.value(PcrIndex::DEFAULT).to_hex(), value);
            let extend_value = entry.extend_value(algo).unwrap();
            assert_eq!(extended.extend(PcrIndex::DEFAULT, &extend_value).unwrap().to_hex(), value);
        }
    }
}

#[test]
fn a_bank_takes_its_own_digests_only() {
    let mut pcrs = Pcrs::new(HashAlgo::Sha256).unwrap();
    let refusal = pcrs.extend(PcrIndex::DEFAULT, &hello(HashAlgo::Sha1)).unwrap_err();
    assert_eq!(refusal.to_string(), "a sha256 bank takes no sha1 digest");
    assert!(pcrs.set(PcrIndex::DEFAULT, hello(HashAlgo::Sha1)).is_err());
    assert!(pcrs.value(PcrIndex::DEFAULT).is_zero());
    assert!(Pcrs::new(HashAlgo::Md4).is_err());
}

#[test]
fn boot_aggregate_covers_eight_or_ten_registers() {
    let of_zeros = |algo| boot_aggregate(&Pcrs::new(algo).unwrap()).to_hex();
    assert_eq!(of_zeros(HashAlgo::Sha1), "9797edf8d0eed36b1cf92547816051c8af4e45ee");
    assert_eq!(
        of_zeros(HashAlgo::Sha256),
        "7b6436b0c98f62380866d9432c2af0ee08ce16a171bda6951aecd95ee1307d61"
    );
}

#[test]
fn other_templates_digest_as_computed() {
    let label = hex::decode(EC_LABEL).unwrap();
    let sha1 = Event { digest: hello(HashAlgo::Sha1), ..foo() };
    let table = [
        (
            entry("ima-ng", &foo()),
            "039cbd34d4b970949e349b5415d2dd7a96731d22",
            "256ae9e870e7dbeaead5e4c4466ed04b8d2a656ceaf40c37e6c5fd025fe5776b",
        ),
        (
            entry("ima-ngv2", &foo()),
            "a1876085c9edb7288ab463a01d591d92a7b07d80",
            "1e9551fa2da80b5d6d3cfe9ab347f646f8f6084917dd7ec2cad0e5400cf9f162",
        ),
        (
            entry("ima", &sha1),
            "7035aa924bfe3fcd74e8a464ce2dd056b304500b",
            "90f996791a37918001a094ca6222c9a576c043068b8900abc44747012a8f9968",
        ),
        (
            entry("ima-sig", &Event { label: Some(&label), ..foo() }),
            "d4e7ac28e7757a58778ec4de941e93ea927c304a",
            "5ab5858e7a542a47d2d695a3a0c88bd007541990be63adbcfc867684935e36d8",
        ),
    ];
    for (entry, sha1, sha256) in &table {
        assert_eq!(digest_hex(entry, HashAlgo::Sha1), *sha1, "{entry:?}");
        assert_eq!(digest_hex(entry, HashAlgo::Sha256), *sha256, "{entry:?}");
    }
}

#[test]
fn the_original_template_is_written_without_lengths() {
    let event = Event { legacy_digest: Some(hello(HashAlgo::Sha1)), ..foo() };
    let entry = entry("ima", &event);
    let record = "0a0000007035aa924bfe3fcd74e8a464ce2dd056b304500b03000000696d61\
                  f572d396fae9206628714fb2ce00f72e94f2258f0c0000002f7573722f62696e2f666f6f";
    assert_eq!(binary(&entry), record);
    assert_eq!(
        ascii(&entry),
        "10 7035aa924bfe3fcd74e8a464ce2dd056b304500b ima f572d396fae9206628714fb2ce00f72e94f2258f /usr/bin/foo\n"
    );
    let parsed = parse_binary(&hex::decode(record).unwrap(), HashAlgo::Sha1).next().unwrap().unwrap();
    assert!(parsed.is_consistent());
    assert_eq!(parsed.entry, entry);
    assert_eq!(entry.digest(), Some(hello(HashAlgo::Sha1)));
}

#[test]
fn the_original_template_needs_an_old_digest_except_for_violations() {
    let template = Template::named("ima").unwrap();
    assert_eq!(template.entry(PcrIndex::DEFAULT, &foo()), Err(TemplateError::LegacyDigest));
    let violation = entry("ima", &Event::violation(HashAlgo::Sha256, b"/f", FILE));
    assert_eq!(violation.field(Field::D), Some(&[0; 20][..]));
}

#[test]
fn a_custom_format_is_hashed_with_lengths_and_named_by_itself() {
    let event = Event { digest: hello(HashAlgo::Sha1), ..foo() };
    let entry = entry("d|n", &event);
    let hex = hello(HashAlgo::Sha1).to_hex();
    let hashed = hex::decode(format!("14000000{hex}0d0000002f7573722f62696e2f666f6f00")).unwrap();
    let digest = hash(HashAlgo::Sha1, &hashed).unwrap().to_hex();
    assert_eq!(ascii(&entry), format!("10 {digest} d|n {hex} /usr/bin/foo\n"));
}

#[test]
fn a_measured_certificate_digests_as_computed() {
    let der = include_bytes!("data/ec-certificate.der");
    let event = Event::buffer(hash(HashAlgo::Sha256, der).unwrap(), b".ima", der);
    let entry = entry("ima-buf", &event);
    assert_eq!(entry.data_len(), 445);
    assert_eq!(digest_hex(&entry, HashAlgo::Sha1), "7973765dfa5a43db8733f7c48d2edd756ae0228d");
    assert_eq!(
        digest_hex(&entry, HashAlgo::Sha256),
        "4ea515a920ba8a440334139be3fd5fee93431ca50a935e1fdf74e65605ec6edc"
    );
    let start = "10 7973765dfa5a43db8733f7c48d2edd756ae0228d ima-buf \
                 sha256:868b3b505c348601a298f893e4ef14d824b6b2beb31963aea31871294218c4b4 .ima 30820180";
    assert!(ascii(&entry).starts_with(start));
}

#[test]
fn lines_of_public_logs_are_consistent() {
    let log = include_bytes!("data/public-log.ascii");
    let entries: Vec<_> = parse_ascii(log, HashAlgo::Sha1).map(Result::unwrap).collect();
    assert_eq!(entries.len(), 3);
    let mut again = Vec::new();
    for parsed in &entries {
        assert!(parsed.is_consistent(), "{parsed:?}");
        parsed.entry.write_ascii(&mut again, HashAlgo::Sha1).unwrap();
    }
    assert_eq!(again, log);
}

/// `security.ima`, `security.evm`, and what the field then holds.
type Row = (Option<&'static [u8]>, Option<&'static [u8]>, &'static [u8]);

#[test]
fn the_signature_field_takes_signatures_only() {
    let portable: &[u8] = &[5, 2, 4];
    let table: &[Row] = &[
        (Some(&[3, 9]), None, &[3, 9]),
        (Some(&[3, 9]), Some(portable), &[3, 9]),
        (Some(&[6]), None, &[6]),
        (Some(&[4, 4, 1]), None, &[]),
        (Some(&[4, 4, 1]), Some(portable), portable),
        (Some(&[5, 2]), None, &[]),
        (None, Some(portable), portable),
        (None, Some(&[3, 2]), &[]),
        (Some(&[]), Some(&[]), &[]),
        (None, None, &[]),
    ];
    for (label, evm, expected) in table {
        let event = Event { label: *label, evm: *evm, ..foo() };
        assert_eq!(entry("ima-sig", &event).field(Field::Sig), Some(*expected), "{label:?} {evm:?}");
        let portable_only = evm.filter(|value| value.starts_with(&[5])).unwrap_or_default();
        assert_eq!(entry("evm-sig", &event).field(Field::EvmSig), Some(portable_only));
    }
}

#[test]
fn verity_digests_say_so_except_in_violations() {
    let digest = hello(HashAlgo::Sha256);
    let verity = entry("ima-ngv2", &Event { kind: DigestKind::Verity, ..foo() });
    assert_eq!(verity.kind_and_digest(), Some((DigestKind::Verity, digest)));
    assert!(ascii(&verity).contains(" verity:sha256:5891b5"));
    let violation = Event { kind: DigestKind::Verity, violation: true, ..foo() };
    let violation = entry("ima-ngv2", &violation);
    assert_eq!(violation.kind_and_digest(), Some((DigestKind::Ima, Digest::zero(HashAlgo::Sha256))));
}

#[test]
fn long_names_are_shortened_in_the_old_field_only() {
    let component = "c".repeat(250);
    let path = format!("/{component}/{component}");
    let stored = |event: &Event<'_>| {
        let entry = entry("d|n|n-ng", &Event { digest: hello(HashAlgo::Sha1), ..*event });
        (entry.field(Field::N).unwrap().len() - 1, entry.field(Field::NNg).unwrap().len() - 1)
    };
    let file = Event { name: path.as_bytes(), ..foo() };
    assert_eq!(stored(&file), (250, 502));
    assert_eq!(stored(&Event { file: None, ..file }), (255, 502));
    let just_fits = &path.as_bytes()[..255];
    assert_eq!(stored(&Event { name: just_fits, ..file }), (255, 255));
}

#[test]
fn names_keep_every_byte_but_the_space_and_what_ends_a_line() {
    let name: Vec<u8> = (1..=255).collect();
    let entry = entry("ima-ng", &Event { name: &name, ..foo() });
    let expected: Vec<u8> =
        name.iter().map(|byte| if b" \n\r".contains(byte) { b'_' } else { *byte }).collect();
    assert_eq!(entry.name(), Some(&expected[..]));
}

#[test]
fn inode_and_attribute_fields_are_shown_as_a_kernel_shows_them() {
    let xattrs: &[(&[u8], &[u8])] = &[(b"security.ima", &[4, 4, 1]), (b"security.capability", &[9; 20])];
    let event = Event { xattrs, ..foo() };
    let template = "n-ng|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode";
    let entry_full = entry(template, &event);
    let values = format!("040401{}", "09".repeat(20));
    assert!(ascii(&entry_full).ends_with(&format!(
        " {template} /usr/bin/foo security.ima|security.capability 0300000014000000 {values} 1000 100 33261\n"
    )));
    let bare = entry(template, &Event { file: None, ..foo() });
    assert!(ascii(&bare).ends_with(" /usr/bin/foo      \n"));
    for entry in [entry_full, bare] {
        let line = ascii(&entry);
        let parsed = parse_ascii(line.as_bytes(), HashAlgo::Sha1).next().unwrap().unwrap();
        assert_eq!(parsed.entry, entry);
    }
}

#[test]
fn appended_signatures_fill_their_fields_or_leave_them_empty() {
    let modsig = Modsig { digest: hello(HashAlgo::Sha512), der: &[0x30, 0x82] };
    let signed = entry("ima-modsig", &Event { modsig: Some(modsig), ..foo() });
    let sha512 = hello(HashAlgo::Sha512).to_hex();
    assert!(ascii(&signed).ends_with(&format!(" /usr/bin/foo  sha512:{sha512} 3082\n")));
    assert!(ascii(&entry("ima-modsig", &foo())).ends_with(" /usr/bin/foo   \n"));
}

#[test]
fn single_digit_pcrs_are_right_aligned() {
    let nine = Template::named("ima-ng").unwrap().entry(PcrIndex::new(9).unwrap(), &foo()).unwrap();
    let line = ascii(&nine);
    assert!(line.starts_with(" 9 039cbd34"), "{line}");
    assert_eq!(parse_ascii(line.as_bytes(), HashAlgo::Sha1).next().unwrap().unwrap().entry, nine);
}

#[test]
fn algorithms_that_cannot_be_computed_are_refused_and_write_nothing() {
    let [_, foo, _, violation] = four();
    for entry in [foo, violation] {
        let mut out = Vec::new();
        assert!(entry.write_ascii(&mut out, HashAlgo::Md4).is_err());
        assert!(entry.write_binary(&mut out, HashAlgo::Md4).is_err());
        assert!(entry.extend_value(HashAlgo::Md4).is_err());
        assert_eq!(out, b"");
    }
}
