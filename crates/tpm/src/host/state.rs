//! How much of the host list is in the PCR: the note in the file `state`.

use std::time::Duration;

use ima::{Digest, HashAlgo, PcrIndex};
use rustix::time::{ClockId, clock_gettime};

/// Bytes of a slot.
pub(super) const SLOT: usize = 2048;

const MAGIC: &[u8; 8] = b"imafsHL1";
const CHECKSUM: HashAlgo = HashAlgo::Sha256;

/// Room for the largest digest there is.
const VALUE: usize = ima::MAX_DIGEST_LEN;

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// Counts the notes; the slot it is written to follows from it.
    pub(super) generation: u64,
    /// Lines that are in the PCR.
    pub(super) lines: u64,
    /// Bytes that they take in the list.
    pub(super) bytes: u64,
    /// When the TPM last answered as expected, on the clock that all processes of a boot share.
    answered: u64,
    pub(super) boot: [u8; 16],
    pub(super) pcr: PcrIndex,
    /// The PCR in each bank.
    pub(super) values: Vec<Digest>,
}

impl State {
    /// Of a list without lines, noted after so many notes of another.
    pub(super) fn blank(boot: [u8; 16], pcr: PcrIndex, values: Vec<Digest>, generation: u64) -> Self {
        Self { generation, lines: 0, bytes: 0, answered: 0, boot, pcr, values }
    }

    /// Whether the TPM has answered this recently.
    pub(super) fn is_fresh(&self, within: Duration) -> bool {
        let age = now().checked_sub(self.answered).map(Duration::from_nanos);
        self.answered != 0 && age.is_some_and(|age| age <= within)
    }

    /// Notes that the TPM has answered.
    pub(super) fn touch(&mut self) {
        self.answered = now();
    }

    /// Notes a line that was extended, whose PCR is known otherwise.
    pub(super) fn skip(&mut self, end: u64) {
        self.lines += 1;
        self.bytes = end;
    }

    /// Notes a line that was extended.
    pub(super) fn advance(&mut self, values: Vec<Digest>, end: u64) {
        self.skip(end);
        self.values = values;
        self.touch();
    }

    /// Where its slot begins.
    pub(super) fn offset(&self) -> u64 {
        if self.generation % 2 == 1 { SLOT as u64 } else { 0 }
    }

    /// The slot; `None` when there are more banks than any TPM has.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let mut slot = Vec::with_capacity(SLOT);
        slot.extend(MAGIC);
        for number in [self.generation, self.lines, self.bytes, self.answered] {
            slot.extend(number.to_le_bytes());
        }
        slot.extend(self.boot);
        slot.extend(self.pcr.value().to_le_bytes());
        slot.extend(u32::try_from(self.values.len()).ok()?.to_le_bytes());
        for value in &self.values {
            slot.extend(value.algo().tpm_id()?.to_le_bytes());
            let end = slot.len() + VALUE;
            slot.extend(value.bytes());
            slot.resize(end, 0);
        }
        let checksum = ima::hash(CHECKSUM, &slot).ok()?;
        slot.extend(checksum.bytes());
        if slot.len() > SLOT {
            return None;
        }
        slot.resize(SLOT, 0);
        Some(slot)
    }

    /// Reads a slot; `None` for one that was never written, or not to its end.
    pub(super) fn decode(slot: &[u8]) -> Option<Self> {
        let mut rest = slot;
        let magic: [u8; 8] = array(&mut rest)?;
        let [generation, lines, bytes, answered] =
            [number(&mut rest)?, number(&mut rest)?, number(&mut rest)?, number(&mut rest)?];
        let boot = array(&mut rest)?;
        let pcr = PcrIndex::new(u32::from_le_bytes(array(&mut rest)?))?;
        let banks = u32::from_le_bytes(array(&mut rest)?);
        let mut values = Vec::new();
        for _ in 0..banks {
            let algo = HashAlgo::from_tpm_id(u16::from_le_bytes(array(&mut rest)?))?;
            let value: [u8; VALUE] = array(&mut rest)?;
            values.push(Digest::new(algo, value.get(..algo.digest_len())?).ok()?);
        }
        let covered = slot.get(..slot.len() - rest.len())?;
        let checksum: [u8; 32] = array(&mut rest)?;
        let right = ima::hash(CHECKSUM, covered).is_ok_and(|digest| digest.bytes() == checksum);
        (magic == *MAGIC && right).then_some(Self { generation, lines, bytes, answered, boot, pcr, values })
    }
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    array(rest).map(u64::from_le_bytes)
}

/// Nanoseconds on `CLOCK_BOOTTIME`, which goes on in suspend.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let values = [HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha384, HashAlgo::Sha512].map(Digest::ones);
        let mut state = State::blank([7; 16], PcrIndex::DEFAULT, values.to_vec(), 3);
        state.advance(values.to_vec(), 4711);
        state
    }

    #[test]
    fn a_slot_comes_back_as_it_was_written_and_has_the_documented_places() {
        let state = state();
        let slot = state.encode().unwrap();
        assert_eq!(slot.len(), SLOT);
        assert_eq!(State::decode(&slot).as_ref(), Some(&state));
        assert_eq!(state.offset(), 2048);
        assert_eq!((&slot[..8], slot[8], slot[16]), (&b"imafsHL1"[..], 3, 1));
        assert_eq!((&slot[24..26], &slot[40..56]), (&4711_u16.to_le_bytes()[..], &[7; 16][..]));
        assert_eq!((slot[56], slot[60], &slot[64..66]), (10, 4, &[4, 0][..]));
    }

    #[test]
    fn a_slot_that_was_not_written_to_its_end_is_none() {
        let slot = state().encode().unwrap();
        let length = 64 + 4 * 66 + 32;
        for cut in 0..length {
            let mut torn = slot[..cut].to_vec();
            // Never by chance what had been there.
            torn.resize(SLOT, !slot[cut]);
            assert_eq!(State::decode(&torn), None, "at {cut}");
            assert_eq!(State::decode(&slot[..cut]), None, "at {cut}");
        }
        for at in 0..length {
            let mut flipped = slot.clone();
            flipped[at] ^= 1;
            assert_eq!(State::decode(&flipped), None, "at {at}");
        }
    }

    #[test]
    fn it_is_fresh_only_after_an_answer() {
        let blank = State::blank([0; 16], PcrIndex::DEFAULT, Vec::new(), 0);
        assert!(!blank.is_fresh(Duration::MAX));
        assert!(state().is_fresh(Duration::from_secs(3600)));
    }
}
