//! What the entries of a journal prove: the values its registers have had, and whether that is what it says.
//!
//! A shadow replays entries in software beside the real registers. While a list grows, its values are what the
//! journal records; when a journal is read, they are what it must have recorded.

use std::collections::BTreeMap;
use std::fmt;

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
        let value = |algo| Ok(bank.first(pcr, algo)?.unwrap_or_else(|| Digest::zero(algo)));
        let bases = self.banks.iter().map(|pcrs| value(pcrs.algo())).collect::<Result<_, BankError>>()?;
        self.begin(pcr, bases);
        Ok(())
    }

    /// Extends a register in every bank.
    pub(crate) fn extend(&mut self, pcr: PcrIndex, digests: &[Digest]) {
        for (bank, digest) in self.banks.iter_mut().zip(digests) {
            // As above: one digest for each bank, of its algorithm.
            let _same_algo = bank.extend(pcr, digest);
        }
    }

    /// Whether a register has these values, one for each bank.
    fn has(&self, pcr: PcrIndex, values: &[Digest]) -> bool {
        self.banks.iter().map(|bank| bank.value(pcr)).eq(values.iter().copied())
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
    /// The device's registers are at no point of the list.
    #[error("PCR {pcr} of bank {} is {}, which no part of the list gives", found.algo(), found.to_hex())]
    Device {
        /// A register that does not agree with the list's end.
        pcr: PcrIndex,
        /// What it holds.
        found: Digest,
    },
}

/// Replays the records of a journal and holds its states against them, and a device's registers, where there is one.
#[derive(Debug)]
pub struct Proof<'a> {
    shadow: Shadow,
    /// Entries whose batch is not closed yet, with what they extend.
    open: Vec<(PcrIndex, Vec<Digest>)>,
    entries: u64,
    device: Option<Device<'a>>,
}

/// A device's registers, compared with every point of the list that is replayed.
///
/// Nobody can give a register the value after some entries but by extending those, so wherever in the list a device is
/// found, what follows there is all that it lacks: entries that were written and not extended when the process was
/// killed, or, after a reset, all of them.
struct Device<'a> {
    bank: &'a dyn PcrBank,
    /// What the registers hold that the list extends, one value for each bank.
    held: BTreeMap<PcrIndex, Vec<Digest>>,
    /// The last point of the list at which they all held it.
    at: Option<u64>,
}

impl fmt::Debug for Device<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("held", &self.held).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Device<'_> {
    /// Takes a register into account that the list begins to extend.
    fn begin(&mut self, shadow: &Shadow, pcr: PcrIndex, bases: &[Digest]) -> Result<(), BankError> {
        let read = |pcrs: &Pcrs| {
            let value = self.bank.read(pcr, pcrs.algo())?;
            Ok(value.unwrap_or_else(|| Digest::zero(pcrs.algo())))
        };
        let held = shadow.banks.iter().map(read).collect::<Result<Vec<_>, BankError>>()?;
        if held != bases {
            // At every point so far this register had its first value.
            self.at = None;
        }
        self.held.insert(pcr, held);
        Ok(())
    }

    fn compare(&mut self, shadow: &Shadow, entries: u64) {
        if self.held.iter().all(|(pcr, values)| shadow.has(*pcr, values)) {
            self.at = Some(entries);
        }
    }
}

impl<'a> Proof<'a> {
    /// A replay that begins.
    ///
    /// # Errors
    /// [`ProofError::Algo`].
    pub fn new(banks: &[HashAlgo]) -> Result<Self, ProofError> {
        Ok(Self { shadow: Shadow::new(banks)?, open: Vec::new(), entries: 0, device: None })
    }

    /// A replay that also looks for the point at which a device's registers are.
    pub(crate) fn against(banks: &[HashAlgo], bank: &'a dyn PcrBank) -> Result<Self, ProofError> {
        let device = Device { bank, held: BTreeMap::new(), at: Some(0) };
        Ok(Self { device: Some(device), ..Self::new(banks)? })
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
            Record::State(State { entries, registers }) | Record::End(End { entries, registers, .. }) => {
                self.close(*entries, registers)
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
            if self.shadow.knows(pcr) || !algos.eq(self.shadow.banks.iter().map(Pcrs::algo)) {
                continue;
            }
            if let Some(device) = &mut self.device {
                device.begin(&self.shadow, pcr, &bases).map_err(ProofError::Bank)?;
            }
            self.shadow.begin(pcr, bases);
        }
        for (pcr, values) in std::mem::take(&mut self.open) {
            // Without banks there is nothing to begin with, and nothing to extend.
            if !self.shadow.knows(pcr) && !self.shadow.banks.is_empty() {
                return Err(fault.into());
            }
            self.shadow.extend(pcr, &values);
            self.entries += 1;
            if let Some(device) = &mut self.device {
                device.compare(&self.shadow, self.entries);
            }
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

    /// What the device's registers hold at the point where they were found, and held before the list.
    pub(crate) fn held(&self) -> Vec<Register> {
        let held = self.device.iter().flat_map(|device| &device.held);
        let of = |(pcr, values): (&PcrIndex, &Vec<Digest>)| {
            let bases = self.shadow.bases.get(pcr).into_iter().flatten();
            let pairs = bases.zip(values);
            pairs.map(|(base, value)| Register { pcr: *pcr, base: *base, value: *value }).collect::<Vec<_>>()
        };
        held.flat_map(of).collect()
    }

    /// The replayed registers, to go on with.
    pub(crate) fn into_shadow(self) -> Shadow {
        self.shadow
    }

    /// How many entries the device's registers hold.
    ///
    /// # Errors
    /// [`ProofError::Device`] where they are at no point of the list.
    pub(crate) fn position(&self) -> Result<u64, ProofError> {
        let Some(device) = &self.device else { return Ok(self.entries) };
        if let Some(at) = device.at {
            return Ok(at);
        }
        let registers = self.shadow.registers();
        let held = |register: &Register| {
            let values = device.held.get(&register.pcr)?;
            values.iter().copied().find(|value| value.algo() == register.value.algo())
        };
        let differs = registers.iter().find_map(|register| {
            held(register).filter(|held| *held != register.value).map(|found| (register.pcr, found))
        });
        match differs {
            Some((pcr, found)) => Err(ProofError::Device { pcr, found }),
            None => Ok(self.entries),
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
    fn state(count: u8) -> State {
        let mut pcrs = Pcrs::new(HashAlgo::Sha256).unwrap();
        for number in 0..count {
            if let Record::Entry(entry) = entry(number) {
                pcrs.replay([&entry]);
            }
        }
        let (pcr, base) = (PcrIndex::DEFAULT, Digest::zero(HashAlgo::Sha256));
        let registers = vec![Register { pcr, base, value: pcrs.value(pcr) }];
        State { entries: u64::from(count), registers }
    }

    #[test]
    fn a_state_that_is_not_what_the_replay_gives_is_refused() {
        let good = state(1);
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
        proof.take(&Record::State(state(2))).unwrap();
    }

    #[test]
    fn a_device_is_found_at_any_point_of_the_list_and_nowhere_else() {
        let position = |held: Digest, other: Digest| {
            let bank = SoftBank::new(&BANK).unwrap();
            bank.restore(&[(PcrIndex::DEFAULT, held), (PcrIndex::new(11).unwrap(), other)]).unwrap();
            let mut proof = Proof::against(&BANK, &bank).unwrap();
            for number in 0..6 {
                proof.take(&entry(number)).unwrap();
                if number == 1 || number == 5 {
                    proof.take(&Record::State(state(number + 1))).unwrap();
                }
            }
            proof.position()
        };
        let zero = Digest::zero(HashAlgo::Sha256);
        for count in 0..=6 {
            let held = state(count).registers[0].value;
            // What the list does not extend is none of its business.
            for other in [zero, Digest::ones(HashAlgo::Sha256)] {
                assert_eq!(position(held, other).unwrap(), u64::from(count));
            }
        }
        let found = position(Digest::ones(HashAlgo::Sha256), zero);
        assert!(matches!(found, Err(ProofError::Device { .. })), "{found:?}");
    }

    #[test]
    fn a_register_that_is_extended_later_says_no_to_the_points_before() {
        let later = PcrIndex::new(11).unwrap();
        let Record::Entry(first) = entry(0) else { unreachable!() };
        let digest = ima::hash(HashAlgo::Sha256, b"later").unwrap();
        let file = FileAttrs { uid: 0, gid: 0, mode: 0o100_644 };
        let second = first.template().entry(later, &Event::file(digest, b"/g", file)).unwrap();
        let mut pcrs = Pcrs::new(HashAlgo::Sha256).unwrap();
        pcrs.replay([&first, &second]);
        let zero = Digest::zero(HashAlgo::Sha256);
        let register = |pcr| Register { pcr, base: zero, value: pcrs.value(pcr) };
        let registers = vec![register(PcrIndex::DEFAULT), register(later)];
        let position = |held: &[(PcrIndex, Digest)]| {
            let bank = SoftBank::new(&BANK).unwrap();
            bank.restore(held).unwrap();
            let mut proof = Proof::against(&BANK, &bank).unwrap();
            proof.take(&entry(0)).unwrap();
            proof.take(&Record::State(state(1))).unwrap();
            proof.take(&Record::Entry(second.clone())).unwrap();
            proof.take(&Record::State(State { entries: 2, registers: registers.clone() })).unwrap();
            proof.position().ok()
        };
        let (one, two) = ((PcrIndex::DEFAULT, pcrs.value(PcrIndex::DEFAULT)), (later, pcrs.value(later)));
        assert_eq!(position(&[one, two]), Some(2));
        assert_eq!(position(&[one]), Some(1));
        assert_eq!(position(&[]), Some(0));
        assert_eq!(position(&[two]), None, "the second entry without the first");
    }
}
