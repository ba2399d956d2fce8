//! Evidence: the label and the digest of one content version.

use std::os::fd::AsFd;

use appraise::{
    CollectError, Collected, ContentVersion, LabelError, LabelPlace, Labels, StoredLabel, VerityDigests,
    collect_verity_within, collect_within, facts,
};
use ima::{Digest, DigestKind, HashAlgo};

use crate::object::Object;
use crate::reading::{Reading, Unfinished};
use crate::state::Moment;

/// How often label and content are read again when the file changes between the two.
const ATTEMPTS: usize = 3;

/// A label and the digest of the content it was found on.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub label: Result<StoredLabel, LabelError>,
    pub digest: Digest,
    pub kind: DigestKind,
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
        from: LabelFrom<'_>,
        version: ContentVersion,
        algo: HashAlgo,
    ) -> std::io::Result<Self> {
        let moment = object.state().with(|inner| inner.moment().by(from.place));
        let label = from.labels.read(from.place, object.stat_fd()?);
        let (digest, kind) = (Digest::zero(algo), DigestKind::Ima);
        Ok(Self { label, digest, kind, version, size: version.size(), collected: None, moment })
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

impl EvidenceError {
    /// Whether the content was not read to its end, and nothing else is wrong.
    pub fn unfinished(&self) -> Option<Unfinished> {
        match self {
            Self::Unreachable(_) => None,
            Self::Collect(error) => Unfinished::of(error),
        }
    }

    /// What an audit record calls it.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "failed",
            Self::Collect(error) => error.cause(),
        }
    }
}

/// Where the label is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LabelFrom<'a> {
    pub labels: &'a Labels,
    pub place: LabelPlace,
}

/// What is to be gathered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub kind: DigestKind,
    /// The algorithm where the label names none.
    pub default: HashAlgo,
    pub verity: VerityDigests,
}

impl Wanted {
    fn algo(&self, label: Option<&[u8]>) -> HashAlgo {
        match self.kind {
            DigestKind::Ima => ima::collection_algo(label, self.default),
            DigestKind::Verity => ima::verity::digest_algo(label, self.default),
        }
    }
}

/// Collects a digest of either kind.
///
/// # Errors
/// As [`collect_within`] and [`collect_verity_within`].
pub(crate) fn collect_kind(
    reading: &Reading<'_>,
    content: impl AsFd,
    kind: DigestKind,
    algo: HashAlgo,
    verity: VerityDigests,
) -> Result<Collected, CollectError> {
    reading.bounded(|bounds| match kind {
        DigestKind::Ima => collect_within(content, algo, bounds),
        DigestKind::Verity => collect_verity_within(content, algo, verity, bounds),
    })
}

/// Gathers label and digest of one version; `remembered` may spare the reading.
///
/// `remembered` gives a digest that may stand for a version of a file with this label under an algorithm.
///
/// # Errors
/// [`EvidenceError`]; the check cannot be made.
pub(crate) fn gather(
    reading: &Reading<'_>,
    object: &dyn Object,
    from: LabelFrom<'_>,
    wanted: Wanted,
    remembered: impl Fn(&ContentVersion, Option<&[u8]>, HashAlgo) -> Option<Collected>,
) -> Result<Evidence, EvidenceError> {
    let fd = object.stat_fd().map_err(EvidenceError::Unreachable)?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let moment = object.state().with(|inner| inner.moment().by(from.place));
        let before = facts(&fd).map_err(|errno| EvidenceError::Unreachable(errno.into()))?.version;
        let label = from.labels.read(from.place, &fd);
        let value = label.as_ref().ok().and_then(StoredLabel::value);
        let algo = wanted.algo(value);
        if algo != wanted.default && !algo.is_in_kernels() {
            return Err(EvidenceError::Collect(CollectError::Unavailable(algo.name())));
        }
        if let Some(collected) = remembered(&before, value, algo) {
            // Under a writer the version is a later one than the digest's: the pages of that are not these.
            let (digest, size) = (collected.digest, before.size());
            let (kind, version, collected) = (wanted.kind, before, Some(collected));
            return Ok(Evidence { label, digest, kind, version, size, collected, moment });
        }
        let content = object.read_fd().map_err(EvidenceError::Unreachable)?;
        let collected = collect_kind(reading, content, wanted.kind, algo, wanted.verity)
            .map_err(EvidenceError::Collect)?;
        // A label read before the content changed need not be the label of what was read.
        let still = collected.version == before;
        if still || attempt == ATTEMPTS {
            let stable = collected.stable && still;
            return Ok(Evidence {
                label,
                digest: collected.digest,
                kind: wanted.kind,
                version: collected.version,
                size: collected.version.size(),
                collected: Some(Collected { stable, ..collected }),
                moment,
            });
        }
    }
}
