//! Lists recorded from a 6.1 kernel with a TPM, added again entry by entry: the same files, the same registers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, as its test functions may"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ima::{Digest, HashAlgo, PcrIndex, Template, parse_binary};
use measure::{Added, BankError, Form, List, ListOptions, NoBank, PcrBank, SoftBank};

/// One line of a recorded `pcr` file.
type Register = (HashAlgo, PcrIndex, Digest);

/// Banks that begin as a TPM's after the boot: registers 0 to 9 as recorded, the others zero.
struct Booted {
    banks: SoftBank,
    boot: Vec<Register>,
}

impl PcrBank for Booted {
    fn algos(&self) -> Vec<HashAlgo> {
        self.banks.algos()
    }

    fn extend(&self, pcr: PcrIndex, digests: &[Digest]) -> Result<(), BankError> {
        assert!(pcr.value() >= 10);
        self.banks.extend(pcr, digests)
    }

    fn read(&self, pcr: PcrIndex, algo: HashAlgo) -> Result<Option<Digest>, BankError> {
        match self.boot.iter().find(|(bank, index, _)| (*bank, *index) == (algo, pcr)) {
            Some((_, _, value)) => Ok(Some(*value)),
            None => self.banks.read(pcr, algo),
        }
    }

    fn has_boot_measurements(&self) -> bool {
        true
    }
}

fn registers(kernel: &Path) -> Vec<Register> {
    let text = fs::read_to_string(kernel.join("pcr")).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split(' ');
        let algo = HashAlgo::from_name(words.next().unwrap()).unwrap();
        let pcr = PcrIndex::new(words.next().unwrap().parse().unwrap()).unwrap();
        (algo, pcr, Digest::new(algo, &hex::decode(words.next().unwrap()).unwrap()).unwrap())
    };
    text.lines().map(line).collect()
}

/// The list's options as the kernel's command line set them.
fn options(scenario: &Path, bank: Arc<dyn PcrBank>) -> ListOptions {
    let mut options = ListOptions::new(Template::named("ima-sig").unwrap(), bank);
    for argument in fs::read_to_string(scenario.join("cmdline")).unwrap().split_ascii_whitespace() {
        match argument.split_once('=') {
            Some(("ima_template", name)) => options.template = Template::named(name).unwrap(),
            Some(("ima_template_fmt", format)) => options.template = Template::from_format(format).unwrap(),
            Some(("ima_hash", name)) => options.default_algo = HashAlgo::from_name(name).unwrap(),
            _ => {}
        }
    }
    options
}

fn replay(scenario: &Path) {
    let kernel = scenario.join("kernel");
    let registers = registers(&kernel);
    let bank: Arc<dyn PcrBank> = if registers.is_empty() {
        Arc::new(NoBank)
    } else {
        let mut algos: Vec<HashAlgo> = registers.iter().map(|(algo, ..)| *algo).collect();
        algos.dedup();
        let (boot, _) = registers.iter().copied().partition(|(_, pcr, _)| pcr.value() < 10);
        Arc::new(Booted { banks: SoftBank::new(&algos).unwrap(), boot })
    };
    let list = List::new(options(scenario, Arc::clone(&bank))).unwrap();
    let binary = fs::read(kernel.join("binary_runtime_measurements")).unwrap();
    for (index, entry) in parse_binary(&binary, HashAlgo::Sha1).enumerate() {
        let entry = entry.unwrap().entry;
        // The first is the list's own; that it is the same shows in the bytes below.
        let added = list.add(entry).unwrap();
        assert_eq!(added, if index == 0 { Added::Duplicate } else { Added::New }, "{index}");
    }
    let snapshot = list.snapshot();
    let whole = |form| snapshot.read_at(form, HashAlgo::Sha1, 0, usize::MAX).unwrap();
    assert!(whole(Form::Binary) == binary);
    assert!(whole(Form::Ascii) == fs::read(kernel.join("ascii_runtime_measurements")).unwrap());
    let number = |name: &str| fs::read_to_string(kernel.join(name)).unwrap().trim().parse::<u64>().unwrap();
    assert_eq!(list.count() as u64, number("runtime_measurements_count"));
    assert_eq!(list.violations(), number("violations"));
    for (algo, pcr, value) in registers {
        assert_eq!(bank.read(pcr, algo).unwrap(), Some(value), "{} PCR {pcr}", algo.name());
    }
}

#[test]
fn every_recorded_list_gives_the_recorded_registers() {
    let golden: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration/golden");
    let mut replayed = 0;
    for scenario in fs::read_dir(golden).unwrap() {
        let scenario = scenario.unwrap().path();
        if scenario.join("kernel").is_dir() {
            println!("{}", scenario.display());
            replay(&scenario);
            replayed += 1;
        }
    }
    assert_eq!(replayed, 25, "golden scenarios");
}
