//! Quotes, judged by `tpm2_checkquote`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

mod common;

use std::process::Command;

use common::{Server, digests, installed};
use ima::{HashAlgo, PcrIndex};
use tpm::{Quote, TpmError};

const BANKS: [HashAlgo; 4] = [HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha384, HashAlgo::Sha512];

fn pcrs(numbers: &[u32]) -> Vec<PcrIndex> {
    numbers.iter().map(|number| PcrIndex::new(*number).unwrap()).collect()
}

/// Puts a quote before `tpm2_checkquote`.
fn is_accepted(server: &Server, quote: &Quote, nonce: &[u8]) -> bool {
    let dir = server.directory.path();
    let length = u16::try_from(quote.key.public.len()).unwrap();
    let public = [&length.to_be_bytes()[..], &quote.key.public].concat();
    for (name, bytes) in [("public", &public), ("attest", &quote.attest), ("signature", &quote.signature)] {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    let output = Command::new("tpm2_checkquote")
        .args(["-u", "public", "-m", "attest", "-s", "signature", "-g", "sha256", "-q", &hex::encode(nonce)])
        .current_dir(dir)
        .output()
        .unwrap();
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
}

#[test]
fn checkquote_accepts_a_quote_and_refuses_a_changed_one() {
    if !installed(&["swtpm", "tpm2_checkquote"]) {
        return;
    }
    let server = Server::start();
    let tpm = server.open();
    for number in 0..5 {
        tpm.extend(PcrIndex::DEFAULT, &digests(tpm.banks(), number)).unwrap();
    }
    let nonce = b"a nonce of the verifier's own";
    let quote = tpm.quote(nonce, &BANKS, &pcrs(&[10, 0, 10, 7])).unwrap();
    assert!(is_accepted(&server, &quote, nonce));
    assert!(!is_accepted(&server, &quote, b"another"));
    let mut changed = quote.clone();
    *changed.attest.last_mut().unwrap() ^= 1;
    assert!(!is_accepted(&server, &changed, nonce));
    let mut changed = quote.clone();
    *changed.signature.last_mut().unwrap() ^= 1;
    assert!(!is_accepted(&server, &changed, nonce));
    let mut changed = quote.clone();
    *changed.key.public.last_mut().unwrap() ^= 1;
    assert!(!is_accepted(&server, &changed, nonce));
    // What it says it quoted is what the TPM holds, and what is in the quote.
    let values = server.pcrread(10);
    assert_eq!(quote.values.len(), 4 * 3);
    for value in values {
        assert!(quote.values.contains(&(PcrIndex::DEFAULT, value)));
    }
    let all: Vec<u8> = quote.values.iter().flat_map(|(_, value)| value.bytes().to_vec()).collect();
    let digest = ima::hash(HashAlgo::Sha256, &all).unwrap();
    assert!(quote.attest.ends_with(digest.bytes()));
}

#[test]
fn the_key_is_the_same_each_time_and_another_tpms_is_another() {
    if !installed(&["swtpm", "tpm2_createprimary", "tpm2_readpublic"]) {
        return;
    }
    let server = Server::start();
    let tpm = server.open();
    let quote = || tpm.quote(b"n", &[HashAlgo::Sha256], &pcrs(&[10])).unwrap();
    let key = quote().key;
    // More often than there is room for keys.
    for _ in 0..5 {
        assert_eq!(quote().key, key);
    }
    // The TPM's own tools, from the same template.
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign";
    let template =
        ["-C", "e", "-g", "sha256", "-G", "ecc256:ecdsa-sha256:null", "-a", attributes, "-c", "key"];
    server.tool("tpm2_createprimary", &template);
    server.tool("tpm2_readpublic", &["-c", "key", "-n", "name", "-q", "qualified"]);
    let read = |name: &str| std::fs::read(server.directory.path().join(name)).unwrap();
    assert_eq!(hex::encode(&key.name), hex::encode(read("name")));
    assert_eq!(hex::encode(&key.qualified_name), hex::encode(read("qualified")));
    let another = Server::start();
    let other = another.open().quote(b"n", &[HashAlgo::Sha256], &pcrs(&[10])).unwrap();
    assert_ne!(other.key.name, key.name);
}

#[test]
fn what_cannot_be_quoted_is_refused() {
    if !installed(&["swtpm"]) {
        return;
    }
    let server = Server::start();
    let tpm = server.open();
    let ten = pcrs(&[10]);
    assert!(matches!(tpm.quote(&[0; 65], &BANKS, &ten), Err(TpmError::Nonce(65))));
    assert!(matches!(tpm.quote(b"n", &[], &ten), Err(TpmError::NoBank)));
    assert!(matches!(tpm.quote(b"n", &[HashAlgo::Sm3], &ten), Err(TpmError::NoBank)));
    assert!(matches!(tpm.quote(b"n", &BANKS, &[]), Err(TpmError::NoBank)));
    assert!(matches!(tpm.quote(b"n", &BANKS, &pcrs(&[40])), Err(TpmError::NoBank)));
    assert!(tpm.quote(&[0; 64], &BANKS, &ten).is_ok());
}

#[test]
fn quotes_go_on_beside_extends_and_are_of_one_moment() {
    if !installed(&["swtpm", "tpm2_checkquote"]) {
        return;
    }
    let server = Server::start();
    let tpm = server.open();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..200).for_each(|number| tpm.extend(PcrIndex::DEFAULT, &digests(tpm.banks(), number)).unwrap())
        });
        for _ in 0..10 {
            let quote = tpm.quote(b"n", &BANKS, &pcrs(&[10])).unwrap();
            assert!(is_accepted(&server, &quote, b"n"));
        }
    });
}
