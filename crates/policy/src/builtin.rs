//! The policies the kernel has built in (`ima_policy=`), in the form Linux 6.19 gives them.

use crate::error::PolicyError;
use crate::parse::ParseOptions;
use crate::policy::Policy;

/// Why there is no such built-in policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuiltinError {
    /// A name that is none of the known ones.
    #[error(
        "no built-in policy is called {name:?}: there are tcb, appraise_tcb, secure_boot, critical_data, \
         fail_securely, and the older ima_tcb and ima_appraise_tcb"
    )]
    Unknown {
        /// The name as given.
        name: String,
    },
    /// A built-in policy does not parse; a fault of this program.
    #[error("a built-in policy is broken")]
    Broken(#[source] PolicyError),
}

const DONT_MEASURE: &str = "\
dont_measure fsmagic=0x9fa0
dont_measure fsmagic=0x62656572
dont_measure fsmagic=0x64626720
dont_measure func=FILE_CHECK fsmagic=0x1021994
dont_measure fsmagic=0x1cd1
dont_measure fsmagic=0x42494e4d
dont_measure fsmagic=0x73636673
dont_measure fsmagic=0xf97cff8c
dont_measure fsmagic=0x43415d53
dont_measure fsmagic=0x27e0eb
dont_measure fsmagic=0x63677270
dont_measure fsmagic=0x6e736673
dont_measure fsmagic=0xde5e81e4
";

const TCB: &str = "\
measure func=MMAP_CHECK mask=MAY_EXEC
measure func=BPRM_CHECK mask=MAY_EXEC
measure func=FILE_CHECK mask=^MAY_READ euid=0
measure func=FILE_CHECK mask=^MAY_READ uid=0
measure func=MODULE_CHECK
measure func=FIRMWARE_CHECK
measure func=POLICY_CHECK
";

const ORIGINAL_TCB: &str = "\
measure func=MMAP_CHECK mask=MAY_EXEC
measure func=BPRM_CHECK mask=MAY_EXEC
measure func=FILE_CHECK mask=MAY_READ uid=0
measure func=MODULE_CHECK
measure func=FIRMWARE_CHECK
";

const SECURE_BOOT: &str = "\
appraise func=MODULE_CHECK appraise_type=imasig|modsig
appraise func=FIRMWARE_CHECK appraise_type=imasig
appraise func=KEXEC_KERNEL_CHECK appraise_type=imasig
appraise func=POLICY_CHECK appraise_type=imasig
";

const APPRAISE_TCB: &str = "\
dont_appraise fsmagic=0x9fa0
dont_appraise fsmagic=0x62656572
dont_appraise fsmagic=0x64626720
dont_appraise fsmagic=0x1021994
dont_appraise fsmagic=0x858458f6
dont_appraise fsmagic=0x1cd1
dont_appraise fsmagic=0x42494e4d
dont_appraise fsmagic=0x73636673
dont_appraise fsmagic=0xf97cff8c
dont_appraise fsmagic=0x43415d53
dont_appraise fsmagic=0x6e736673
dont_appraise fsmagic=0xde5e81e4
dont_appraise fsmagic=0x27e0eb
dont_appraise fsmagic=0x63677270
appraise fowner=0
";

const CRITICAL_DATA: &str = "measure func=CRITICAL_DATA\n";

/// Which of the built-in policies were named.
#[derive(Debug, Default)]
struct Wanted {
    tcb: bool,
    original_tcb: bool,
    appraise_tcb: bool,
    secure_boot: bool,
    critical_data: bool,
    fail_securely: bool,
}

impl Wanted {
    fn read(names: &str) -> Result<Self, BuiltinError> {
        let mut wanted = Self::default();
        for name in names.split([' ', '|', '\n']).filter(|name| !name.is_empty()) {
            match name {
                "tcb" => wanted.tcb = true,
                "ima_tcb" => wanted.original_tcb = true,
                "appraise_tcb" | "ima_appraise_tcb" => wanted.appraise_tcb = true,
                "secure_boot" => wanted.secure_boot = true,
                "critical_data" => wanted.critical_data = true,
                "fail_securely" => wanted.fail_securely = true,
                _ => return Err(BuiltinError::Unknown { name: name.to_owned() }),
            }
        }
        Ok(wanted)
    }

    /// The text, in the kernel's order whatever the order of the names. `tcb` wins over `ima_tcb`.
    fn text(&self) -> String {
        [
            (self.tcb || self.original_tcb, DONT_MEASURE),
            (self.tcb, TCB),
            (self.original_tcb && !self.tcb, ORIGINAL_TCB),
            (self.secure_boot, SECURE_BOOT),
            (self.appraise_tcb, APPRAISE_TCB),
            (self.critical_data, CRITICAL_DATA),
        ]
        .into_iter()
        .filter_map(|(wanted, text)| wanted.then_some(text))
        .collect()
    }
}

impl Policy {
    /// The built-in policies of these names, separated by spaces, `|` or newlines: `tcb`,
    /// `appraise_tcb`, `secure_boot`, `critical_data`, `fail_securely`, and the older spellings
    /// `ima_tcb` (the measure rules of old) and `ima_appraise_tcb`.
    ///
    /// # Errors
    /// [`BuiltinError::Unknown`] for any other name; the kernel only logs those.
    pub fn builtin(names: &str) -> Result<Self, BuiltinError> {
        let wanted = Wanted::read(names)?;
        let options = ParseOptions { kernel_only: true };
        let policy = Self::parse(wanted.text().as_bytes(), &options).map_err(BuiltinError::Broken)?;
        let policy = policy.without_lines();
        Ok(if wanted.fail_securely { policy.with_fail_securely() } else { policy })
    }
}
