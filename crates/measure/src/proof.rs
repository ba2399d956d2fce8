//! What the entries of a journal prove: the values its registers have had, and whether that is what it says.
//!
//! A shadow replays entries in software beside the real registers. While a list grows, its values are what the
//! journal records; when a journal is read, they are what it must have recorded.

use std::collections::{BTreeMap, VecDeque};

use ima::{Digest, Entry, HashAlgo, PcrIndex, Pcrs, UnavailableAlgo};

use crate::journal::{End, JournalFault, Record, Register, State};
use crate::{BankError, PcrBank};

/// The registers a list extends, replayed.
#[derive(Debug, Clone)]
pub(crate) struct Shadow {
    banks: Vec<Pcrs>,
    /// Values before the list's first entry, a digest for each bank.
    bases: BTreeMap<PcrIndex, Vec<Digest>>,
}

impl Shadow {
    pub(crate) fn new(banks: &[HashAlgo]) -> Result<Self, UnavailableAlgo> {
        let banks = banks.iter().map(|algo| Pcrs::new(*algo)).collect::<Result<_, _>>()?;
        Ok(Self { banks, bases: BTreeMap::new() })
    }

    /// Whether a register's first value is known.
    pub(crate) fn knows(&self, pcr: PcrIndex) -> bool {
        self.bases.contains_key(&pcr)
    }

    /// Notes a register's first values, a digest for each bank.
    pub(crate) fn begin(&mut self, pcr: PcrIndex, bases: Vec<Digest>) {
        for (bank, base) in self.banks.iter_mut().zip(&bases) {
            // A digest of another algorithm cannot come: the bases were asked for bank by bank.
            let _same_algo = bank.set(pcr, *base);
        }
        self.bases.insert(pcr, bases);
    }

    /// Notes the first values of a register that nothing has extended yet, as the bank has them.
    pub(crate) fn begin_from(&mut self, pcr: PcrIndex, bank: &dyn PcrBank) -> Result<(), BankError> {
        if self.knows(pcr) {
            return Ok(());
        }
        let value = |algo| Ok(bank.read(pcr, algo)?.unwrap_or_else(|| Digest::zero(algo)));
        let bases = self.banks.iter().map(|pcrs| value(pcrs.algo())).collect::<Result<_, BankError>>()?;
        self.begin(pcr, bases);
        Ok(())
    }

    /// Extends a register in every bank; gives what it held.
    pub(crate) fn extend(&mut self, pcr: PcrIndex, digests: &[Digest]) -> Vec<Digest> {
        let banks = self.banks.iter_mut().zip(digests);
        let held = banks.map(|(bank, digest)| {
            let held = bank.value(pcr);
            // As above: one digest for each bank, of its algorithm.
            let _same_algo = bank.extend(pcr, digest);
            held
        });
        held.collect()
    }

    /// Takes an extend back.
    fn undo(&mut self, pcr: PcrIndex, held: &[Digest]) {
        for (bank, digest) in self.banks.iter_mut().zip(held) {
            let _same_algo = bank.set(pcr, *digest);
        }
    }

    /// The registers by number, and within one in the banks' order.
    pub(crate) fn registers(&self) -> Vec<Register> {
        let of = |(pcr, bases): (&PcrIndex, &Vec<Digest>)| {
            let banks = self.banks.iter().zip(bases);
            let registers =
                banks.map(|(bank, base)| Register { pcr: *pcr, base: *base, value: bank.value(*pcr) });
            registers.collect::<Vec<_>>()
        };
        self.bases.iter().flat_map(of).collect()
    }

    fn extend_values(&self, entry: &Entry) -> Result<Vec<Digest>, UnavailableAlgo> {
        self.banks.iter().map(|bank| entry.extend_value(bank.algo())).collect()
    }
}

/// Why a journal and the registers do not go together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The journal contradicts itself.
    #[error(transparent)]
    Fault(#[from] JournalFault),
    /// A bank's algorithm cannot be computed.
    #[error("cannot replay the list")]
    Algo(#[from] UnavailableAlgo),
    /// The registers cannot be read or set.
    #[error("cannot compare the list with the PCRs")]
    Bank(#[source] BankError),
    /// The device's registers are at no point of the list where they may be.
    #[error(
        "PCR {pcr} of bank {} is {found}, which no entry from {extended} to {entries} of the list gives",
        found.algo()
    )]
    Device {
        /// A register that does not agree.
        pcr: PcrIndex,
        /// What it holds.
        found: Digest,
        /// Entries that were extended for sure.
        extended: u64,
        /// Entries of the list.
        entries: u64,
    },
}

/// Replays the records of a journal and holds its states against them.
#[derive(Debug)]
pub struct Proof {
    shadow: Shadow,
    /// Entries whose batch is not closed yet, with what they extend.
    open: Vec<(PcrIndex, Vec<Digest>)>,
    /// What the registers held before each of the last entries, oldest first.
    undo: VecDeque<(PcrIndex, Vec<Digest>)>,
    entries: u64,
    /// Of the last state.
    extended: u64,
}

impl Proof {
    /// A replay that begins.
    ///
    /// # Errors
    /// [`ProofError::Algo`].
    pub fn new(banks: &[HashAlgo]) -> Result<Self, ProofError> {
        let shadow = Shadow::new(banks)?;
        Ok(Self { shadow, open: Vec::new(), undo: VecDeque::new(), entries: 0, extended: 0 })
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`ProofError::Fault`] where a closing record says other than the replay.
    pub fn take(&mut self, record: &Record) -> Result<(), ProofError> {
        match record {
            Record::Entry(entry) => {
                self.open.push((entry.pcr(), self.shadow.extend_values(entry)?));
                Ok(())
            }
            Record::State(State { entries, extended, registers }) => {
                self.close(*entries, registers)?;
                if *extended < self.extended {
                    return Err(JournalFault::Replay { entries: *entries }.into());
                }
                self.extended = *extended;
                let kept = usize::try_from(self.entries - self.extended).unwrap_or(usize::MAX);
                self.undo.drain(..self.undo.len().saturating_sub(kept));
                Ok(())
            }
            Record::End(End { entries, registers, .. }) => {
                self.close(*entries, registers)?;
                // A list ends with every entry extended, or with its registers gone.
                self.extended = self.entries;
                self.undo.clear();
                Ok(())
            }
        }
    }

    fn close(&mut self, entries: u64, registers: &[Register]) -> Result<(), ProofError> {
        let fault = JournalFault::Replay { entries };
        let mut bases: BTreeMap<PcrIndex, Vec<Digest>> = BTreeMap::new();
        for register in registers {
            bases.entry(register.pcr).or_default().push(register.base);
        }
        for (pcr, bases) in bases {
            let algos = bases.iter().map(Digest::algo);
            if !self.shadow.knows(pcr) && algos.eq(self.shadow.banks.iter().map(Pcrs::algo)) {
                self.shadow.begin(pcr, bases);
            }
        }
        for (pcr, values) in std::mem::take(&mut self.open) {
            // Without banks there is nothing to begin with, and nothing to extend.
            if !self.shadow.knows(pcr) && !self.shadow.banks.is_empty() {
                return Err(fault.into());
            }
            let held = self.shadow.extend(pcr, &values);
            self.undo.push_back((pcr, held));
            self.entries += 1;
        }
        if self.entries != entries || self.shadow.registers() != registers {
            return Err(fault.into());
        }
        Ok(())
    }

    /// The registers after all entries.
    #[must_use]
    pub fn registers(&self) -> Vec<Register> {
        self.shadow.registers()
    }

    /// Entries of the closed batches.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The replayed registers, to go on with.
    pub(crate) fn into_shadow(self) -> Shadow {
        self.shadow
    }

    /// Finds how many entries a device's registers hold: at least as many as the last state says were extended.
    ///
    /// # Errors
    /// [`ProofError::Device`] where they hold something else, [`ProofError::Bank`] where they cannot be read.
    pub(crate) fn position_of(&self, bank: &dyn PcrBank) -> Result<u64, ProofError> {
        let registers = self.shadow.registers();
        let mut held = Vec::with_capacity(registers.len());
        for register in &registers {
            let algo = register.value.algo();
            let value = bank.read(register.pcr, algo).map_err(ProofError::Bank)?;
            held.push((register.pcr, value.unwrap_or_else(|| Digest::zero(algo))));
        }
        let mut shadow = self.shadow.clone();
        let mut undo = self.undo.iter().rev();
        let mut entries = self.entries;
        loop {
            let now = shadow.registers();
            let differs = now.iter().zip(&held).find(|(register, (_, value))| register.value != *value);
            let Some((_, (pcr, found))) = differs else { return Ok(entries) };
            let Some((last, before)) = undo.next().filter(|_| entries > self.extended) else {
                let (pcr, found) = (*pcr, *found);
                return Err(ProofError::Device {
                    pcr,
                    found,
                    extended: self.extended,
                    entries: self.entries,
                });
            };
            shadow.undo(*last, before);
            entries -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use ima::Template;
    use ima::template::{Event, FileAttrs};

    use super::*;
    use crate::SoftBank;

    const BANK: [HashAlgo; 1] = [HashAlgo::Sha256];

    fn entry(number: u8) -> Record {
        let digest = ima::hash(HashAlgo::Sha256, &[number]).unwrap();
        let file = FileAttrs { uid: 0, gid: 0, mode: 0o100_644 };
        let template = Template::named("ima-ng").unwrap();
        Record::Entry(template.entry(PcrIndex::DEFAULT, &Event::file(digest, b"/f", file)).unwrap())
    }

    /// The register after entries 0 to `count`, by the arithmetic of another type.
    fn state(count: u8, extended: u64) -> State {
        let mut pcrs = Pcrs::new(HashAlgo::Sha256).unwrap();
        for number in 0..count {
            if let Record::Entry(entry) = entry(number) {
                pcrs.replay([&entry]);
            }
        }
        let (pcr, base) = (PcrIndex::DEFAULT, Digest::zero(HashAlgo::Sha256));
        let registers = vec![Register { pcr, base, value: pcrs.value(pcr) }];
        State { entries: u64::from(count), extended, registers }
    }

    #[test]
    fn a_state_that_is_not_what_the_replay_gives_is_refused() {
        let good = state(1, 0);
        let mut value = good.clone();
        value.registers[0].value = Digest::ones(HashAlgo::Sha256);
        let mut base = good.clone();
        base.registers[0].base = Digest::ones(HashAlgo::Sha256);
        let mut missing = good.clone();
        missing.registers.clear();
        let mut more = good.clone();
        more.registers.push(Register { pcr: PcrIndex::new(11).unwrap(), ..good.registers[0].clone() });
        let count = State { entries: 2, ..good.clone() };
        for (wrong, state) in [value, base, missing, more, count].into_iter().enumerate() {
            let mut proof = Proof::new(&BANK).unwrap();
            proof.take(&entry(0)).unwrap();
            let refused = proof.take(&Record::State(state));
            let fault = matches!(refused, Err(ProofError::Fault(JournalFault::Replay { .. })));
            // A register that nothing extends may be there: it holds what it held.
            assert!(fault || wrong == 3, "{wrong}: {refused:?}");
        }
        let mut proof = Proof::new(&BANK).unwrap();
        proof.take(&entry(0)).unwrap();
        proof.take(&Record::State(good)).unwrap();
        proof.take(&entry(1)).unwrap();
        proof.take(&Record::State(state(2, 1))).unwrap();
        assert!(proof.take(&Record::State(state(2, 0))).is_err(), "what was extended stays extended");
    }

    #[test]
    fn a_device_is_found_at_each_entry_that_may_be_its_last_and_nowhere_else() {
        let mut proof = Proof::new(&BANK).unwrap();
        for number in 0..6 {
            proof.take(&entry(number)).unwrap();
            if number == 1 || number == 5 {
                proof.take(&Record::State(state(number + 1, u64::from(number) / 2))).unwrap();
            }
        }
        for count in 0..=6 {
            let bank = SoftBank::new(&BANK).unwrap();
            bank.restore(&[(PcrIndex::DEFAULT, state(count, 0).registers[0].value)]).unwrap();
            let found = proof.position_of(&bank);
            match u64::from(count) {
                // The last state says that two were extended when it was written.
                ..2 => assert!(matches!(found, Err(ProofError::Device { extended: 2, .. })), "{count}"),
                count => assert_eq!(found.unwrap(), count),
            }
        }
    }
}
