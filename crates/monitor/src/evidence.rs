//! Evidence: the label and the digest of one content version.

use appraise::{
    CollectError, Collected, ContentVersion, LabelError, StoredLabel, collect, facts, read_label,
};
use ima::{Digest, HashAlgo};

use crate::object::Object;
use crate::state::Moment;

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
    /// When it was gathered; a label set since then is not the one that was read.
    pub moment: Moment,
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
        let moment = object.state().with(|inner| inner.moment());
        let label = read_label(object.stat_fd()?);
        let digest = Digest::zero(algo);
        Ok(Self { label, digest, version, size: version.size(), collected: None, moment })
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
/// `remembered` gives a digest that may stand for a version of a file with this label under an algorithm.
///
/// # Errors
/// [`EvidenceError`]; the check cannot be made.
pub(crate) fn gather(
    object: &dyn Object,
    default: HashAlgo,
    remembered: impl Fn(&ContentVersion, Option<&[u8]>, HashAlgo) -> Option<Collected>,
) -> Result<Evidence, EvidenceError> {
    let fd = object.stat_fd().map_err(EvidenceError::Unreachable)?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let moment = object.state().with(|inner| inner.moment());
        let before = facts(&fd).map_err(|errno| EvidenceError::Unreachable(errno.into()))?.version;
        let label = read_label(&fd);
        let value = label.as_ref().ok().and_then(StoredLabel::value);
        let algo = ima::collection_algo(value, default);
        if let Some(collected) = remembered(&before, value, algo) {
            // Under a writer the version is a later one than the digest's: the pages of that are not these.
            let (digest, size) = (collected.digest, before.size());
            return Ok(Evidence { label, digest, version: before, size, collected: Some(collected), moment });
        }
        let content = object.read_fd().map_err(EvidenceError::Unreachable)?;
        let collected = collect(content, algo).map_err(EvidenceError::Collect)?;
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
                moment,
            });
        }
    }
}
