//! Lists that a journal keeps: the list and its journal (`list`), the journal and its directory (`directory`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

#[path = "../common/mod.rs"]
mod common;
mod directory;
mod list;

use ima::HashAlgo;

const ALGOS: [HashAlgo; 2] = [HashAlgo::Sha1, HashAlgo::Sha256];
