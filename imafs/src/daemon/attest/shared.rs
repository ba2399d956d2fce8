//! Evidence of a TPM that mounts share: a quote, and the host list up to the line that it covers.
//!
//! The host list has the lines of all mounts, so only root of the host is given it. Nobody writes a line while the TPM
//! quotes, so that the list need not be searched for the place.

use std::sync::Arc;
use std::time::Duration;

use tpm::HostBank;

use super::answer::{Answer, Covered};
use super::ration::Ration;
use crate::failure::chain;

/// Makes evidence.
#[derive(Debug)]
pub(super) struct SharedQuoter {
    bank: Arc<HostBank>,
    certificates: Vec<Vec<u8>>,
    ration: Ration,
}

impl SharedQuoter {
    /// For this bank, with the certificates that go with its TPM's key.
    pub(super) fn new(bank: Arc<HostBank>, certificates: Vec<Vec<u8>>) -> Self {
        Self { bank, certificates, ration: Ration::default() }
    }

    /// Evidence over this nonce, within so much time.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(super) fn quote(&self, nonce: &[u8], patience: Duration) -> Result<Answer, String> {
        self.ration.serve(patience, |clock| {
            let quoted = clock.quoting(|| self.bank.quote(nonce)).map_err(|error| chain(&error))?;
            Answer::new(&quoted.quote, &self.certificates, Covered::Host(quoted.list), quoted.bytes)
        })
    }
}
