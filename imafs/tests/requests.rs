//! The decoder of requests against bytes that a kernel sent (6.18, protocol 7.45), in `fuzz/corpus/request`.
#![expect(clippy::panic, reason = "a test that cannot set itself up fails loudly")]
#![allow(clippy::indexing_slicing, reason = "the same")]

#[path = "requests/known.rs"]
#[expect(dead_code, reason = "by what a recording tells them apart is for the recorder")]
mod known;

use std::path::Path;

use imafs::fuse::request::{Dialect, Header, Malformed, Operation, Request};

/// The recorded server did not ask for the longer SETXATTR.
const DIALECT: Dialect = Dialect { setxattr_ext: false };

fn recorded(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/request").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_request_says_what_the_system_call_said() {
    let mut wrong = Vec::new();
    for known in known::ALL {
        let bytes = recorded(known.name);
        let request =
            Request::parse(&bytes, DIALECT).unwrap_or_else(|error| panic!("{}: {error}", known.name));
        if request.header.opcode != known.opcode || !(known.says)(&request.operation) {
            wrong.push(format!("{}: {:?}", known.name, request.operation));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_header_says_who_asked_for_what() {
    let bytes = recorded("create");
    let header = Request::parse(&bytes, DIALECT).unwrap().header;
    assert_eq!((header.caller.uid, header.caller.gid), (known::UID, known::GID));
    assert!(header.caller.tid > 1 && header.unique > 1 && header.node.0 > 1);
}

#[test]
fn a_request_cut_short_is_refused_at_every_byte() {
    for known in known::ALL {
        let bytes = recorded(known.name);
        for end in 0..bytes.len() {
            let cut = &bytes[..end];
            assert!(Request::parse(cut, DIALECT).is_err(), "{} of {end} bytes", known.name);
            assert_eq!(Header::read(cut).is_ok(), end >= 40);
            if end < 40 || known.name == "init" {
                // Older kernels send a shorter INIT, which offers less.
                continue;
            }
            // With a header that owns up to it, it is refused or lacks only what is not read.
            let mut owned = cut.to_vec();
            owned[..4].copy_from_slice(&u32::try_from(end).unwrap().to_ne_bytes());
            let parsed = Request::parse(&owned, DIALECT);
            assert!(
                parsed.is_err() || parsed.is_ok_and(|request| (known.says)(&request.operation)),
                "{parsed:?}"
            );
        }
    }
}

#[test]
fn names_without_an_end_and_sizes_beyond_it_are_refused() {
    let mut lookup = recorded("lookup");
    *lookup.last_mut().unwrap() = b'x';
    assert_eq!(Request::parse(&lookup, DIALECT), Err(Malformed::Unterminated));
    // The data of a WRITE: `size` is the fifth word of struct fuse_write_in.
    let mut write = recorded("write");
    write[56..60].copy_from_slice(&9_u32.to_ne_bytes());
    assert_eq!(Request::parse(&write, DIALECT), Err(Malformed::Truncated));
    // The records of a BATCH_FORGET, with a count that overflows.
    let mut forgets = recorded("batch_forget");
    forgets[40..44].copy_from_slice(&u32::MAX.to_ne_bytes());
    assert_eq!(Request::parse(&forgets, DIALECT), Err(Malformed::Truncated));
    // Extensions longer than the request.
    let mut lookup = recorded("lookup");
    lookup[36..38].copy_from_slice(&u16::MAX.to_ne_bytes());
    assert_eq!(Request::parse(&lookup, DIALECT), Err(Malformed::Truncated));
}

#[test]
fn extensions_are_no_part_of_the_request() {
    let mut mkdir = recorded("mkdir");
    mkdir.extend_from_slice(&[0xff; 16]);
    let length = u32::try_from(mkdir.len()).unwrap();
    mkdir[..4].copy_from_slice(&length.to_ne_bytes());
    mkdir[36..38].copy_from_slice(&2_u16.to_ne_bytes());
    let request = Request::parse(&mkdir, DIALECT).unwrap();
    assert!(matches!(request.operation, Operation::MkDir { mode: 0o751, .. }));
}
