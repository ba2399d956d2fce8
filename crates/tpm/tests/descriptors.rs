//! A process that has no descriptor left, for as long as it pleases others, has its TPM back when it has some again.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

mod common;

use std::fs::File;
use std::time::{Duration, Instant};

use common::{Server, digests, installed};
use ima::PcrIndex;
use measure::PcrBank as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tpm::{Tpm, TpmBank};

/// Alone in its process: the limit is everybody's.
#[test]
fn a_tpm_survives_a_time_without_descriptors() {
    if !installed(&["swtpm"]) {
        return;
    }
    let server = Server::start();
    let bank = TpmBank::new(Tpm::open_within(server.place(), Duration::from_secs(5)).unwrap());
    let extend = |number| bank.extend(PcrIndex::DEFAULT, &digests(&bank.algos(), number));
    extend(0).unwrap();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(128), maximum: limit.maximum }).unwrap();
    // Each number of descriptors that are left stops a connection at another point.
    for left in 0..6 {
        let mut held: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        held.truncate(held.len() - left);
        let refused = extend(left as u32 * 2 + 1).is_err();
        assert!(refused || left > 1, "it needs a descriptor for itself and one for the relay");
        drop(held);
        let until = Instant::now() + Duration::from_secs(60);
        while let Err(error) = extend(left as u32 * 2 + 2) {
            assert!(Instant::now() < until, "after {left}: {error:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    setrlimit(Resource::Nofile, limit).unwrap();
}
