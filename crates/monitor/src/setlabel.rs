//! Setting and removing labels: `spec/ima-appraisal.md` section 6, `ima_inode_setxattr` in ima_appraise.c.
//!
//! The capability checks are the VFS's and were made before the request was sent.

use std::ffi::OsStr;

use ima::LabelType;
use ima::label::TYPE_LAST;
use rustix::io::Errno;

use crate::access::Access;
use crate::denial::Denial;
use crate::monitor::Monitor;
use crate::object::Object;
use crate::records;

/// See [`Monitor::check_label`].
pub(crate) fn check(
    monitor: &Monitor,
    object: &dyn Object,
    access: &Access,
    name: &OsStr,
    value: Option<&[u8]>,
) -> Result<(), Denial> {
    if name == "security.evm" {
        return Err(Denial::label(Errno::PERM, "security.evm"));
    }
    let Some(value) = value.filter(|_| name == "security.ima") else { return Ok(()) };
    if value.first().is_none_or(|kind| *kind >= TYPE_LAST) {
        return Err(Denial::label(Errno::INVAL, "unknown-ima-data"));
    }
    let algo = ima::collection_algo(Some(value), monitor.options.hash);
    let rules = monitor.rules();
    let listed = rules.layers().filter_map(|layer| layer.policy.setxattr_algos());
    let mut limited = false;
    for algos in listed {
        limited = true;
        if !algos.contains(algo) {
            return refuse(monitor, object, access, "denied-hash-algorithm");
        }
    }
    if !limited && algo != monitor.options.hash && !algo.is_in_kernels() {
        return refuse(monitor, object, access, "unavailable-hash-algorithm");
    }
    Ok(())
}

fn refuse(
    monitor: &Monitor,
    object: &dyn Object,
    access: &Access,
    cause: &'static str,
) -> Result<(), Denial> {
    records::label_refused(monitor, object, access, cause);
    Err(Denial::label(Errno::ACCESS, cause))
}

/// Whether a label of this type vouches for the content with a key. Type 06 counts when it is set, too: the kernel has it
/// on files alone that nobody can write any more, here it may be set before the content is written.
pub(crate) fn is_signature(kind: LabelType) -> bool {
    match kind {
        LabelType::Signature | LabelType::VeritySignature => true,
        LabelType::Digest
        | LabelType::DigestNg
        | LabelType::Hmac
        | LabelType::PortableSignature
        | LabelType::Other(_) => false,
    }
}
