//! Label and digest of the content this access is about: gathered once, from memory where that stands.

use std::cell::OnceCell;
use std::os::fd::AsFd;

use appraise::{Collected, ContentVersion, collect_within};
use ima::{Digest, DigestKind, HashAlgo};

use super::Check;
use crate::evidence::{Evidence, EvidenceError, LabelFrom, Wanted, gather};
use crate::setlabel::is_signature;
use crate::state::Inner;

/// What was gathered for one access, of each kind.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    content: OnceCell<Evidence>,
    verity: OnceCell<Evidence>,
    /// The version that was looked at first. Had the file moved before the second look, neither vouches for it whole.
    pub version: OnceCell<ContentVersion>,
}

impl Gathered {
    fn of(&self, kind: DigestKind) -> &OnceCell<Evidence> {
        match kind {
            DigestKind::Ima => &self.content,
            DigestKind::Verity => &self.verity,
        }
    }

    /// The digest of the content itself, where that was collected.
    pub fn of_content(&self) -> Option<Digest> {
        let collected = self.content.get().filter(|evidence| evidence.collected.is_some());
        collected.map(|evidence| evidence.digest)
    }

    /// The digest for a record that is about no kind in particular.
    pub fn digest(&self) -> Option<Digest> {
        self.content.get().or_else(|| self.verity.get()).map(|evidence| evidence.digest)
    }
}

impl Check<'_> {
    /// Label and digest of this kind of this access, gathered once.
    ///
    /// With `O_DIRECT` the kernel does not read the content; an fs-verity digest it has anyway, and what it knows of
    /// content that has not changed since stands.
    pub(super) fn evidence(&self, kind: DigestKind) -> Result<&Evidence, EvidenceError> {
        let place = self.evidence.of(kind);
        if let Some(evidence) = place.get() {
            return Ok(evidence);
        }
        let options = &self.monitor.options;
        let object = self.plan.object.as_ref();
        let remembered = |version: &ContentVersion, label: Option<&[u8]>, algo| {
            object.state().with(|inner| {
                let stands = self.stands(inner, kind, version, label);
                inner.collected.of(kind).filter(|collected| stands && collected.digest.algo() == algo)
            })
        };
        let wanted = Wanted { kind, default: options.hash, verity: options.verity };
        let known = object.state().with(|inner| inner.collected.of(kind));
        let direct = self.plan.access.is_direct() && kind == DigestKind::Ima;
        let from = LabelFrom { labels: &options.labels, place: self.plan.label };
        let zeros = || Evidence::of_direct_io(object, from, self.plan.facts.version, options.hash);
        let evidence = if direct && known.is_none() {
            zeros().map_err(EvidenceError::Unreachable)?
        } else {
            let mut evidence = gather(self.reading, object, from, wanted, remembered)?;
            self.keep_algorithm(&mut evidence)?;
            // Under O_DIRECT only what was known before counts, and that it is still so.
            if direct && known.is_none_or(|known| known.digest != evidence.digest) {
                zeros().map_err(EvidenceError::Unreachable)?
            } else {
                if let Some(collected) = evidence.collected.as_mut().filter(|_| self.left.writers) {
                    collected.stable = false;
                }
                self.adopt(&evidence);
                evidence
            }
        };
        self.evidence.version.get_or_init(|| evidence.version);
        Ok(place.get_or_init(|| evidence))
    }

    /// Where nothing is appraised, a label that was set since the content was collected does not change by which
    /// algorithm it is known: the kernel takes no notice of it. Another version is thus looked at by the old one, and
    /// is the old content if its digest is the old digest.
    fn keep_algorithm(&self, evidence: &mut Evidence) -> Result<(), EvidenceError> {
        let object = self.plan.object.as_ref();
        let known = object.state().with(|inner| inner.collected.of(DigestKind::Ima));
        let Some(old) = known.filter(|_| evidence.kind == DigestKind::Ima) else { return Ok(()) };
        let algo = old.digest.algo();
        if self.plan.rules.uses.appraise || evidence.collected.is_none() || evidence.digest.algo() == algo {
            return Ok(());
        }
        let content = object.read_fd().map_err(EvidenceError::Unreachable)?;
        let again = self.collect(content, algo)?;
        if again.digest == old.digest {
            evidence.digest = again.digest;
            evidence.version = again.version;
            evidence.size = again.version.size();
            evidence.collected = Some(again);
        }
        Ok(())
    }

    /// Whether the remembered digest may stand for this version of the content under this label.
    fn stands(
        &self,
        inner: &Inner,
        kind: DigestKind,
        version: &ContentVersion,
        label: Option<&[u8]>,
    ) -> bool {
        let signed = label.and_then(ima::label_type).is_some_and(is_signature);
        let strict = self.strict.get() || signed;
        if !self.left.writers {
            return inner.stands(kind, version, self.plan.writers_before, strict);
        }
        // A mapping is a writer; one whose file will be labelled anew is treated as such.
        inner.relabel && inner.stands(kind, version, 1, strict)
    }

    /// The content's digest by the algorithm that a rule lists digests of.
    pub(super) fn digest_by(&self, algo: HashAlgo) -> Result<Digest, EvidenceError> {
        let evidence = self.evidence(DigestKind::Ima)?;
        if evidence.digest.algo() == algo && evidence.collected.is_some() {
            return Ok(evidence.digest);
        }
        let content = self.plan.object.read_fd().map_err(EvidenceError::Unreachable)?;
        Ok(self.collect(content, algo)?.digest)
    }

    fn collect(&self, content: impl AsFd, algo: HashAlgo) -> Result<Collected, EvidenceError> {
        let collected = self.reading.bounded(|bounds| collect_within(content, algo, bounds));
        collected.map_err(EvidenceError::Collect)
    }

    /// Puts newly collected evidence into the inode's record; what was remembered anyway stays as it is.
    fn adopt(&self, evidence: &Evidence) {
        let Some(collected) = evidence.collected else { return };
        self.plan.object.state().with(|inner| {
            let kind = evidence.kind;
            let stands = self.stands(inner, kind, &collected.version, evidence.label_bytes())
                && inner.collected.of(kind).is_some_and(|old| old.digest == collected.digest);
            if !stands {
                inner.adopt(kind, collected);
            }
        });
    }
}
