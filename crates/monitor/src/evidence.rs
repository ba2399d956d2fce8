//! Evidence: the label and the digest of one content version.

use appraise::{
    CollectError, Collected, ContentVersion, LabelError, StoredLabel, collect, facts, read_label,
};
use ima::{Digest, HashAlgo};

use crate::object::Object;

/// How often label and content are read again when the file changes between the two.
const ATTEMPTS: usize = 3;

/// A label and the digest of the content it was found on.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub label: Result<StoredLabel, LabelError>,
    pub digest: Digest,
    pub version: ContentVersion,
    pub size: u64,
    /// Whether it may be remembered, and counts as collected at all. False for what `O_DIRECT` leaves: zeros.
    pub collected: Option<Collected>,
}

impl Evidence {
    /// The label's bytes, when there are any.
    pub fn label_bytes(&self) -> Option<&[u8]> {
        self.label.as_ref().ok().and_then(StoredLabel::value)
    }

    /// What stands for the content of a file opened with `O_DIRECT`: a digest of zeros.
    pub fn of_direct_io(
        object: &dyn Object,
        version: ContentVersion,
        algo: HashAlgo,
    ) -> std::io::Result<Self> {
        let label = read_label(object.stat_fd()?);
        Ok(Self { label, digest: Digest::zero(algo), version, size: version.size(), collected: None })
    }
}

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvidenceError {
    #[error("cannot reach the file")]
    Unreachable(#[source] std::io::Error),
    #[error("cannot collect its digest")]
    Collect(#[source] CollectError),
}

/// Gathers label and digest of one version; `remembered` may spare the reading.
///
/// `remembered` gives a digest known to be that of a version under an algorithm.
///
/// # Errors
/// [`EvidenceError`]; the check cannot be made.
pub(crate) fn gather(
    object: &dyn Object,
    default: HashAlgo,
    remembered: impl Fn(&ContentVersion, HashAlgo) -> Option<Collected>,
) -> Result<Evidence, EvidenceError> {
    let fd = object.stat_fd().map_err(EvidenceError::Unreachable)?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let before = facts(&fd).map_err(|errno| EvidenceError::Unreachable(errno.into()))?.version;
        let label = read_label(&fd);
        let algo = ima::collection_algo(label.as_ref().ok().and_then(StoredLabel::value), default);
        let collected = match remembered(&before, algo) {
            Some(collected) => collected,
            None => {
                let content = object.read_fd().map_err(EvidenceError::Unreachable)?;
                collect(content, algo).map_err(EvidenceError::Collect)?
            }
        };
        // A label read before the content changed need not be the label of what was read.
        let still = collected.version == before;
        if still || attempt == ATTEMPTS {
            let stable = collected.stable && still;
            return Ok(Evidence {
                label,
                digest: collected.digest,
                version: collected.version,
                size: collected.version.size(),
                collected: Some(Collected { stable, ..collected }),
            });
        }
    }
}
