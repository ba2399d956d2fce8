//! Which registers there are, and what they hold as text, for `/.imafs/pcrs` and for the tools that compare a list with them.

use ima::{HashAlgo, PcrIndex};

use crate::{BankError, PcrBank};

/// Registers a TPM has, and the most that evmctl reads.
const TPM_PCRS: u32 = 24;

/// The registers that a list on this bank can extend, a bit each.
#[must_use]
pub fn extensible(bank: &dyn PcrBank) -> u64 {
    let has = |number: &u32| PcrIndex::new(*number).is_some_and(|pcr| bank.has(pcr));
    (0..u64::BITS).filter(has).map(|number| 1 << number).sum()
}

/// All registers of all banks, a line each: bank, register, value in hex (`sha256 10 5891b5...`). Banks in
/// their own order, registers 0 to 23.
///
/// # Errors
/// When a register cannot be read.
pub fn table(bank: &dyn PcrBank) -> Result<String, BankError> {
    let mut out = String::new();
    for algo in bank.algos() {
        for pcr in (0..TPM_PCRS).filter_map(PcrIndex::new) {
            if let Some(value) = bank.read(pcr, algo)? {
                out += &format!("{} {pcr} {}\n", algo.name(), value.to_hex());
            }
        }
    }
    Ok(out)
}

/// The registers of one bank as `evmctl ima_measurement --pcrs ALGO,FILE` reads them: `PCR-10:` and the hex.
/// Empty where there is no such bank.
///
/// # Errors
/// When a register cannot be read.
///
/// Source: `read_one_bank`, src/evmctl.c, ima-evm-utils 1.4.
pub fn evmctl(bank: &dyn PcrBank, algo: HashAlgo) -> Result<String, BankError> {
    let mut out = String::new();
    for pcr in (0..TPM_PCRS).filter_map(PcrIndex::new) {
        if let Some(value) = bank.read(pcr, algo)? {
            out += &format!("PCR-{:02}:{}\n", pcr.value(), value.to_hex());
        }
    }
    Ok(out)
}
