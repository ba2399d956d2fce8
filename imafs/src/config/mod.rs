//! What one mount shall do: read from the command line and a profile, checked as a whole, then fixed.
//!
//! [`Options`] is what somebody wrote: every option of `imafs mount` once, so that the long flag, the `-o` name, the
//! profile key, the help text and the JSON schema are one definition. [`MountConfig`] is what was meant: defaults
//! filled in, paths absolute, contradictions refused. Nothing here mounts, and of the file system only the profile
//! itself is read.

mod attest_place;
mod check;
mod list;
mod modes;
mod mount_config;
mod options;
mod owner;
mod policy_choice;
mod profile;
mod schema;
mod suggest;
mod tpm_choice;
mod values;

pub use attest_place::AttestPlace;
pub use check::{InvalidConfig, Problem};
pub use modes::{
    AppraiseMode, AuditFormat, CacheMode, ControlMode, LabelStore, MmapCheck, MountFlag, PassthroughMode,
    PolicyLoads, PolicyOwner, TpmFail, VerityMode, ViolationMode,
};
pub use mount_config::{LabelChoice, MountConfig, Source};
pub use options::Options;
pub use owner::Owner;
pub use policy_choice::{BUILTIN_POLICIES, PolicyChoice};
pub use profile::{Profile, ProfileError};
pub use schema::profile_schema;
pub use suggest::nearest;
pub use tpm_choice::TpmChoice;
pub use values::{AuditTarget, ByteSize, HashName, ImageName, NsId, Pcr, TemplateName, ValueError};
