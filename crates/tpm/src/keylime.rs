//! A quote as Keylime's agent sends it to its verifier.
//!
//! Three parts in Base64: `r` and the quote, the signature, the registers. The last is no TPM structure but what
//! tpm2-tools 3 left in memory: C structures on a little-endian machine, each as large as the largest of its kind.
//!
//! Keylime takes of a quote one bank alone, that of the hash which the signature uses: SHA-256.
//!
//! Source: `Tpm._get_quote_parameters` and `__get_pcrs_from_blob`, keylime/tpm, Keylime 7.14.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ima::{Digest, PcrIndex};

use crate::{Quote, TpmError};

/// Selections in the structure, used or not (`TPM2_NUM_PCR_BANKS`).
const SELECTIONS: usize = 16;
/// Bytes of one.
const SELECTION: usize = 8;
/// Values in one of the lists that follow (`TPML_DIGEST`).
const VALUES: usize = 8;
/// Bytes of one, after its length: the largest digest.
const VALUE: usize = 64;

/// A quote and its key, in Keylime's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeylimeQuote {
    /// The quote (`quote` of an agent's answer).
    pub quote: String,
    /// The key (`TPM2B_PUBLIC`; `aik_tpm` of an agent's registration).
    pub key: String,
}

impl Quote {
    /// This quote for Keylime.
    ///
    /// # Errors
    /// [`TpmError::NoBank`] where it is of a bank that no TPM names.
    pub fn keylime(&self) -> Result<KeylimeQuote, TpmError> {
        let registers = registers(&self.values).ok_or(TpmError::NoBank)?;
        let [attest, signature, registers] =
            [&self.attest, &self.signature, &registers].map(|part| BASE64_STANDARD.encode(part));
        let length = u16::try_from(self.key.public.len()).map_err(|_| TpmError::NoBank)?;
        let key = BASE64_STANDARD.encode([&length.to_be_bytes()[..], &self.key.public].concat());
        Ok(KeylimeQuote { quote: format!("r{attest}:{signature}:{registers}"), key })
    }
}

fn registers(values: &[(PcrIndex, Digest)]) -> Option<Vec<u8>> {
    let mut banks: Vec<(u16, u32)> = Vec::new();
    for (pcr, value) in values {
        let bank = value.algo().tpm_id()?;
        let bit = 1_u32.checked_shl(pcr.value())?;
        match banks.iter_mut().find(|(known, _)| *known == bank) {
            Some((_, selected)) => *selected |= bit,
            None => banks.push((bank, bit)),
        }
    }
    let mut blob = u32::try_from(banks.len()).ok()?.to_le_bytes().to_vec();
    for (bank, selected) in &banks {
        blob.extend(bank.to_le_bytes());
        blob.push(3);
        blob.extend(selected.to_le_bytes().first_chunk::<3>()?);
        blob.extend([0; 2]);
    }
    blob.resize(4 + SELECTIONS * SELECTION, 0);
    let lists = values.chunks(VALUES);
    blob.extend(u32::try_from(lists.len()).ok()?.to_le_bytes());
    for list in lists {
        blob.extend(u32::try_from(list.len()).ok()?.to_le_bytes());
        let end = blob.len() + VALUES * (2 + VALUE);
        for (_, value) in list {
            let next = blob.len() + 2 + VALUE;
            blob.extend(u16::try_from(value.bytes().len()).ok()?.to_le_bytes());
            blob.extend(value.bytes());
            blob.resize(next, 0);
        }
        blob.resize(end, 0);
    }
    Some(blob)
}
