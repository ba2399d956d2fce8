//! A long list is verified whole. How long that takes is printed for `IMAFS_LONG_LIST=250000,500000,1000000`, with
//! `--nocapture`; nothing is asserted on time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

mod common;

use std::time::Instant;

use attest::verdict::EntrySelection;
use attest::verify::{Question, verify};
use common::{Paper, Said, binary, digests, entries, question, registers};

#[test]
fn a_long_list_is_judged_to_its_last_entry() {
    let lengths = std::env::var("IMAFS_LONG_LIST").unwrap_or_else(|_| "20000".to_owned());
    for length in lengths.split(',').map(|length| length.parse::<usize>().unwrap()) {
        let list = binary(&entries(length));
        let paper = Paper::new();
        let file = paper.evidence(&Said::default(), &registers(&list), &list);
        drop(list);
        let (trust, references) = (paper.trust(), digests(length));
        let question = Question { entries: EntrySelection::Offending, ..question(&trust, &references) };
        let began = Instant::now();
        let verdict = verify(&file, &question).unwrap();
        println!("{length} entries, {} bytes: {:.2} s", file.len(), began.elapsed().as_secs_f64());
        assert!(verdict.is_trusted(), "{:#?}", verdict.reasons);
        assert_eq!((verdict.counts.accepted, verdict.entries.len()), (length as u64 + 1, 0));
        // The last one counts as the first does.
        let references = digests(length - 1);
        let question = Question { references: &references, ..question };
        let refused = verify(&file, &question).unwrap();
        assert_eq!(refused.reasons[0].entry, Some(length as u64));
    }
}
