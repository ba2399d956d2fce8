//! Measurement lists in both their forms, and the registers they replay to; written from the format's description
//! (`crates/ima/src/list.rs` says it for imafs), for the proof may not stand on what it proves.

use anyhow::{Context, Result, ensure};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::collections::BTreeMap;

/// Bytes of the template digest in the list.
const SHA1_SIZE: usize = 20;

/// One entry, in both forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its line in the ASCII list, without the newline at the end; names may hold others.
    pub ascii: Vec<u8>,
    /// Its bytes in the binary list.
    pub binary: Vec<u8>,
}

impl Entry {
    /// Whether it stands for a violation: a template digest of zeros.
    pub fn is_violation(&self) -> bool {
        self.binary.get(4..4 + SHA1_SIZE).is_some_and(|digest| digest.iter().all(|byte| *byte == 0))
    }

    /// The register it goes to.
    ///
    /// # Errors
    /// Fails on an entry that was not made by [`parse`].
    pub fn pcr(&self) -> Result<u32> {
        let bytes = self.binary.first_chunk().context("an entry without a PCR")?;
        Ok(u32::from_le_bytes(*bytes))
    }

    /// What is hashed into the template digest: the fields with their lengths.
    fn template_data(&self) -> Result<&[u8]> {
        let mut rest = self.binary.as_slice();
        take(&mut rest, 4 + SHA1_SIZE)?;
        sized(&mut rest)?;
        sized(&mut rest)
    }
}

/// Takes both forms of a list apart and joins them entry by entry.
///
/// # Errors
/// Fails when a form is malformed, or they have not the same number of entries.
pub fn parse(ascii: &[u8], binary: &[u8]) -> Result<Vec<Entry>> {
    let lines = ascii_entries(ascii);
    let mut rest = binary;
    let mut entries = Vec::new();
    for ascii in lines {
        let whole = rest;
        take(&mut rest, 4 + SHA1_SIZE)?;
        ensure!(sized(&mut rest)? != b"ima", "entries of template ima are not taken apart");
        sized(&mut rest)?;
        let binary = whole.get(..whole.len() - rest.len()).unwrap_or_default().to_vec();
        entries.push(Entry { ascii, binary });
    }
    ensure!(rest.is_empty(), "the binary list goes on where the ASCII list ends");
    Ok(entries)
}

/// The entries of an ASCII list. A line that does not begin as an entry does belongs to the name before it.
fn ascii_entries(text: &[u8]) -> Vec<Vec<u8>> {
    let mut entries: Vec<Vec<u8>> = Vec::new();
    for line in text.strip_suffix(b"\n").unwrap_or(text).split(|byte| *byte == b'\n') {
        match entries.last_mut() {
            Some(last) if !begins_entry(line) => {
                last.push(b'\n');
                last.extend_from_slice(line);
            }
            _ => entries.push(line.to_vec()),
        }
    }
    entries
}

/// Whether a line begins with a PCR in two columns and a SHA-1 digest.
fn begins_entry(line: &[u8]) -> bool {
    let digest = line.get(3..3 + 2 * SHA1_SIZE);
    let shape = matches!(line, [b' ' | b'0'..=b'9', b'0'..=b'9', b' ', ..]);
    shape && digest.is_some_and(|digest| digest.iter().all(u8::is_ascii_hexdigit))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length).context("the binary list ends within an entry")?;
    *rest = left;
    Ok(taken)
}

/// Takes a length and as many bytes.
fn sized<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = take(rest, 4)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).unwrap_or_default();
    take(rest, usize::try_from(length)?)
}

/// Replays a list into one bank. Gives each register that entries go to, in hexadecimal.
///
/// # Errors
/// Fails on an unknown bank, and where an entry's template digest is not that of its data.
pub fn replay(entries: &[Entry], bank: &str) -> Result<BTreeMap<u32, String>> {
    match bank {
        "sha1" => replay_with::<Sha1>(entries),
        "sha256" => replay_with::<Sha256>(entries),
        "sha384" => replay_with::<Sha384>(entries),
        "sha512" => replay_with::<Sha512>(entries),
        other => anyhow::bail!("no hash for bank {other}"),
    }
}

fn replay_with<H: Digest>(entries: &[Entry]) -> Result<BTreeMap<u32, String>> {
    let size = <H as Digest>::output_size();
    let mut registers: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for entry in entries {
        let extend = if entry.is_violation() {
            vec![0xff; size]
        } else {
            let data = entry.template_data()?;
            let listed = entry.binary.get(4..4 + SHA1_SIZE).unwrap_or_default();
            ensure!(
                Sha1::digest(data).as_slice() == listed,
                "wrong template digest: {}",
                entry.ascii.escape_ascii()
            );
            H::digest(data).to_vec()
        };
        let register = registers.entry(entry.pcr()?).or_insert_with(|| vec![0; size]);
        *register = H::new().chain_update(&*register).chain_update(extend).finalize().to_vec();
    }
    Ok(registers.into_iter().map(|(pcr, value)| (pcr, hex(&value))).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asserts that the list replays to the registers given as lines of bank, PCR and value, in each bank that they
/// name, and that every register the list extends is among them.
///
/// # Errors
/// Fails naming the first register that is different.
pub fn matches_registers(entries: &[Entry], registers: &str) -> Result<()> {
    let values = crate::pcrs::parse(registers)?;
    let banks: std::collections::BTreeSet<_> = values.iter().map(|value| value.bank.as_str()).collect();
    ensure!(!banks.is_empty(), "there are no registers");
    for bank in banks {
        for (pcr, replayed) in replay(entries, bank)? {
            let held = values.iter().find(|value| value.bank == bank && value.index == pcr);
            let held = held.with_context(|| format!("{bank} PCR {pcr} is extended, but not shown"))?;
            ensure!(held.hex == replayed, "{bank} PCR {pcr} is {}, the list gives {replayed}", held.hex);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::Scenario;

    #[test]
    fn every_recorded_list_replays_to_the_registers_of_the_kernels_tpm() {
        let mut replayed = 0;
        for name in Scenario::names().unwrap() {
            let recording = Scenario::named(&name).recording().unwrap();
            if !recording.registers.is_empty() {
                matches_registers(&recording.list, &recording.registers).expect(&name);
                replayed += 1;
            }
        }
        assert!(replayed >= 20, "{replayed} recordings with registers");
    }

    #[test]
    fn a_changed_entry_is_noticed() {
        let recording = Scenario::named("measure-basics").recording().unwrap();
        let mut list = recording.list;
        list.swap(1, 2);
        assert!(matches_registers(&list, &recording.registers).is_err());
        let last = list[3].binary.len() - 1;
        list[3].binary[last] ^= 1;
        assert!(replay(&list, "sha256").is_err());
    }

    #[test]
    fn a_name_with_a_newline_stays_one_entry() {
        let recording = Scenario::named("template-ima-ng-sha1").recording().unwrap();
        assert_eq!(recording.list.len() as u64, recording.counts.0);
        assert!(recording.list.iter().any(|entry| entry.ascii.contains(&b'\n')));
    }
}
