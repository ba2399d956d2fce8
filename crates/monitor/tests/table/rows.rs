//! The rows, in the order of the table.

use crate::common::{Setting, WRITE, hello_hash, hello_signature};
use crate::{Fixed, IMASIG, Row, VERITY, flipped, row, vector, with_byte};
use appraise::{Status, VerityDigests};
use ima::{HashAlgo, encode_digest, hash};

const O_DIRECT: i32 = 0o40000;

/// How a missing signature is called under each rule.
const REQUIRING: [(&str, &str); 2] =
    [(IMASIG, "IMA-signature-required"), (VERITY, "verity-signature-required")];

fn play(rows: impl IntoIterator<Item = Row>) {
    rows.into_iter().for_each(|row| row.play());
}

fn digest_label(algo: HashAlgo, content: &[u8]) -> Option<Vec<u8>> {
    Some(encode_digest(&hash(algo, content).unwrap()))
}

#[test]
fn a_missing_label() {
    play([row("missing, any label", None).fails(Status::NoLabel, "missing-hash")]);
    for (rule, cause) in REQUIRING {
        play([row(format!("missing, {rule}"), None).under(rule).fails(Status::NoLabel, cause)]);
    }
}

#[test]
fn a_missing_label_on_a_new_file() {
    play([row("new, with data", None).new_file(), row("new, empty", None).content(b"").new_file()]);
    for (rule, cause) in REQUIRING {
        play([
            row(format!("new, empty, {rule}"), None).content(b"").under(rule).new_file(),
            row(format!("new, with data, {rule}"), None).under(rule).new_file().fails(Status::NoLabel, cause),
        ]);
    }
}

#[test]
fn an_empty_label() {
    let empty = || Some(Vec::new());
    play([row("empty, any label", empty()).fails(Status::NoLabel, "missing-hash").res_1()]);
    for (rule, cause) in REQUIRING {
        play([row(format!("empty, {rule}"), empty()).under(rule).fails(Status::NoLabel, cause).res_1()]);
    }
}

#[test]
fn a_hash_label_where_a_signature_is_required() {
    for (rule, cause) in REQUIRING {
        for algo in [HashAlgo::Sha1, HashAlgo::Sha256] {
            let label = digest_label(algo, b"hello\n");
            play([row(format!("{algo}, {rule}"), label).under(rule).fails(Status::Fail, cause)]);
        }
    }
}

#[test]
fn a_hash_label_that_matches() {
    for algo in [HashAlgo::Md5, HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha512] {
        play([row(format!("{algo} matches"), digest_label(algo, b"hello\n"))]);
    }
    play([
        row("longer than needed", Some([hello_hash(), vec![0xff; 3]].concat())),
        row("of no known algorithm, matched by the default one", Some(with_byte(hello_hash(), 1, 0x63))),
    ]);
}

#[test]
fn a_hash_label_that_differs() {
    let invalid = |row: Row| row.fails(Status::Fail, "invalid-hash");
    for algo in [HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha512] {
        play([invalid(row(format!("{algo} differs"), digest_label(algo, b"other\n")))]);
    }
    let short = hello_hash().get(..33).unwrap().to_vec();
    play([
        invalid(row("too short", Some(short))),
        invalid(row("a type byte alone", Some(vec![4]))),
        invalid(row("sha1 as long as md5", Some([vec![1], vec![7; 16]].concat()))),
    ]);
}

#[test]
fn a_signature_of_the_content() {
    play([
        row("good, any label", Some(hello_signature())),
        row("good", Some(hello_signature())).under(IMASIG),
        row("good, rsa", Some(vector("rsa"))).under(IMASIG),
        row("good, but of the content", Some(hello_signature()))
            .under(VERITY)
            .fails(Status::Fail, "verity-signature-required")
            .unfixed(),
        row("version 3 of the content, under a rule for fs-verity", Some(vector("v3-type03")))
            .under(VERITY)
            .fails(Status::Fail, "verity-signature-required")
            .unfixed(),
    ]);
}

#[test]
fn a_signature_of_the_content_in_another_version() {
    for rule in ["", IMASIG] {
        for version in [3, 4, 0xff] {
            let label = with_byte(hello_signature(), 1, version);
            play([row(format!("version {version}, {rule}"), Some(label))
                .under(rule)
                .fails(Status::Fail, "invalid-signature-version")
                .unfixed()]);
        }
        play([
            row(format!("version 0, {rule}"), Some(with_byte(hello_signature(), 1, 0)))
                .under(rule)
                .fails(Status::Unknown, "unknown")
                .unfixed(),
            row(format!("version 1, {rule}"), Some(with_byte(hello_signature(), 1, 1)))
                .under(rule)
                .fails(Status::Fail, "invalid-signature")
                .unfixed(),
        ]);
    }
}

#[test]
fn a_bad_signature_of_the_content() {
    let good = hello_signature();
    let cases = [
        ("flipped", flipped(good.clone())),
        ("type byte alone", vec![3]),
        ("header alone", good.get(..9).unwrap().to_vec()),
        ("cut off", good.get(..good.len() - 1).unwrap().to_vec()),
        ("too long", [good.clone(), vec![0]].concat()),
        ("unknown key", with_byte(good.clone(), 3, 0)),
        ("unknown algorithm", with_byte(good.clone(), 2, 0x63)),
        ("another algorithm", with_byte(good, 2, HashAlgo::Sha512.id())),
    ];
    for (name, label) in cases {
        for rule in ["", IMASIG] {
            play([row(format!("{name}, {rule}"), Some(label.clone()))
                .under(rule)
                .fails(Status::Fail, "invalid-signature")
                .unfixed()]);
        }
    }
    play([row("of other content", Some(hello_signature()))
        .content(b"jello\n")
        .under(IMASIG)
        .fails(Status::Fail, "invalid-signature")
        .unfixed()]);
}

#[test]
fn a_signature_of_the_fs_verity_digest() {
    play([
        row("good", Some(vector("verity"))).under(VERITY),
        row("good, of nothing", Some(vector("verity-empty"))).content(b"").under(VERITY),
        row("where one of the content is required", Some(vector("verity")))
            .under(IMASIG)
            .fails(Status::Fail, "IMA-signature-required"),
    ]);
    let good = vector("verity");
    for rule in ["", VERITY] {
        for version in [0, 1, 2, 4] {
            let label = with_byte(good.clone(), 1, version);
            play([row(format!("version {version}, {rule}"), Some(label))
                .under(rule)
                .fails(Status::Fail, "invalid-signature-version")]);
        }
        play([row(format!("type byte alone, {rule}"), Some(vec![6]))
            .under(rule)
            .fails(Status::Fail, "invalid-signature-version")]);
    }
    let bad = [
        ("flipped", flipped(good.clone())),
        ("header alone", good.get(..9).unwrap().to_vec()),
        ("too long", [good.clone(), vec![0]].concat()),
        ("unknown key", with_byte(good.clone(), 3, 0)),
        ("over the content's hash", vector("v3-type06")),
    ];
    for (name, label) in bad {
        play([row(name, Some(label)).under(VERITY).fails(Status::Fail, "invalid-verity-signature")]);
    }
    play([row("of other content", Some(good))
        .content(b"jello\n")
        .under(VERITY)
        .fails(Status::Fail, "invalid-verity-signature")]);
}

#[test]
fn a_signature_of_the_fs_verity_digest_under_a_plain_rule() {
    play([
        row("over the content's hash after all", Some(vector("v3-type06"))),
        row("over the fs-verity digest", Some(vector("verity")))
            .fails(Status::Fail, "invalid-verity-signature"),
    ]);
}

#[test]
fn a_type_that_a_label_cannot_have() {
    for rule in ["", IMASIG, VERITY] {
        for kind in [0x00, 0x02, 0x05, 0x07, 0xff] {
            for label in [vec![kind], with_byte(hello_hash(), 0, kind)] {
                play([row(format!("type {kind:#x}, {rule}"), Some(label))
                    .under(rule)
                    .fails(Status::Unknown, "unknown-ima-data")]);
            }
        }
    }
}

#[test]
fn a_digest_that_cannot_be_collected() {
    let md4 = Some([vec![4, 0], vec![7; 16]].concat());
    let backing = Setting { verity: VerityDigests::Backing, ..Setting::default() };
    play([
        row("algorithm that is not available", md4).collecting_fails("failed"),
        row("O_DIRECT", Some(hello_hash())).flags(O_DIRECT).collecting_fails("failed(directio)"),
        row("O_DIRECT, signed", Some(hello_signature()))
            .under(IMASIG)
            .flags(O_DIRECT)
            .collecting_fails("failed(directio)"),
        row("no fs-verity", Some(vector("verity")))
            .under(VERITY)
            .set(backing)
            .collecting_fails("no-verity-digest"),
        row("no fs-verity, O_DIRECT", Some(vector("verity")))
            .under("digest_type=verity appraise_type=sigv3 permit_directio")
            .set(backing)
            .flags(O_DIRECT)
            .collecting_fails("failed(directio)"),
    ]);
}

#[test]
fn o_direct_where_it_does_not_matter() {
    let permitted = row("permit_directio, bad", Some(flipped(vector("verity"))))
        .under("digest_type=verity appraise_type=sigv3 permit_directio")
        .flags(O_DIRECT)
        .fails(Status::Fail, "invalid-verity-signature");
    play([
        row("fs-verity does not read", Some(vector("verity"))).under(VERITY).flags(O_DIRECT),
        row("and judges", Some(flipped(vector("verity"))))
            .under(VERITY)
            .flags(O_DIRECT)
            .fails(Status::Fail, "invalid-verity-signature"),
        // A record, and the rule's own permission.
        Row { denied: false, ..permitted },
    ]);
    // What cannot be judged leaves the record of that, and the rule's own permission.
    let unread = row("permit_directio", None).under("permit_directio").flags(O_DIRECT);
    play([Row { denied: false, ..unread.collecting_fails("failed(directio)") }]);
}

#[test]
fn an_algorithm_that_the_rule_does_not_list() {
    let denied = |row: Row| row.collecting_fails("denied-hash-algorithm").status(Some(Status::Pass));
    play([
        row("listed", Some(hello_hash())).under("appraise_algos=sha512,sha256"),
        denied(row("not listed", Some(hello_hash())).under("appraise_algos=sha512")),
        denied(row("signed", Some(hello_signature())).under("appraise_type=imasig appraise_algos=sha384")),
        denied(
            row("fs-verity", Some(vector("verity")))
                .under("digest_type=verity appraise_type=sigv3 appraise_algos=sha512"),
        ),
        row("listed and wrong", digest_label(HashAlgo::Sha1, b"other\n"))
            .under("appraise_algos=sha1")
            .fails(Status::Fail, "invalid-hash"),
    ]);
}

const REVOKED: &str = "bin:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03\n";
const VERITY_REVOKED: &str = "bin:9c76eecc7b76fcb46199cb27b90cf59a660e10575bb0412128905129d5b1c2aa\n";

#[test]
fn content_that_is_revoked() {
    let revoked = |row: Row| Row { status: None, ..row.fails(Status::Fail, "blacklisted-hash").unfixed() };
    play([
        revoked(row("signed", Some(hello_signature())).under(IMASIG).blacklist(REVOKED)),
        revoked(
            row("by its fs-verity digest", Some(vector("verity"))).under(VERITY).blacklist(VERITY_REVOKED),
        ),
        row("by its hash, under a rule for fs-verity", Some(vector("verity")))
            .under(VERITY)
            .blacklist(REVOKED),
        row("where no signature is required", Some(hello_hash())).blacklist(REVOKED),
        row("other content", Some(hello_signature())).under(IMASIG).blacklist(VERITY_REVOKED),
    ]);
}

#[test]
fn content_that_cannot_be_verified() {
    let setting = Setting { unverifiable: true, ..Setting::default() };
    let unverifiable = |row: Row| {
        let fails = row.set(setting).fails(Status::Fail, "unverifiable-signature");
        fails.unfixed()
    };
    play([
        unverifiable(row("good", Some(hello_signature())).under(IMASIG)).res_1(),
        unverifiable(row("hash", Some(hello_hash()))).res_1(),
        unverifiable(row("missing", None)),
        unverifiable(row("bad", Some(flipped(hello_signature()))).under(IMASIG)),
        unverifiable(row("new", None).new_file()).res_1(),
    ]);
}

#[test]
fn a_new_empty_file_with_a_signature() {
    play([
        row("that holds already", Some(vector("verity-empty"))).content(b"").under(VERITY).new_file(),
        row("that does not hold yet", Some(hello_signature()))
            .content(b"")
            .under(IMASIG)
            .new_file()
            .fails(Status::Fail, "invalid-signature")
            .excused(),
        // Fix mode comes before the excuse, and replaces signatures of this kind.
        Row {
            fixed: Fixed::Verity,
            ..row("of the fs-verity digest that does not hold yet", Some(vector("verity")))
                .content(b"")
                .under(VERITY)
                .new_file()
                .fails(Status::Fail, "invalid-verity-signature")
                .excused()
        },
        row("with data", Some(flipped(hello_signature())))
            .under(IMASIG)
            .new_file()
            .fails(Status::Fail, "invalid-signature")
            .unfixed(),
        row("not new", Some(hello_signature()))
            .content(b"")
            .under(IMASIG)
            .fails(Status::Fail, "invalid-signature")
            .unfixed(),
    ]);
}

#[test]
fn signed_content_opened_for_writing() {
    for (rule, label) in [("", hello_signature()), (IMASIG, hello_signature()), (VERITY, vector("verity"))] {
        play([row(format!("signed, {rule}"), Some(label))
            .under(rule)
            .flags(WRITE)
            .fails(Status::Pass, "signed-file-immutable")
            .unfixed()]);
    }
    play([row("hash", Some(hello_hash())).flags(WRITE)]);
}
