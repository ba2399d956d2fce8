//! Label and digest of the content this access is about: gathered once, from memory where that stands.

use appraise::{ContentVersion, collect};
use ima::{Digest, HashAlgo, LabelType};

use super::Check;
use crate::evidence::{Evidence, gather};
use crate::state::Inner;

impl Check<'_> {
    /// Label and digest of this access, gathered once.
    pub(super) fn evidence(&self) -> Result<&Evidence, std::io::Error> {
        if let Some(evidence) = self.evidence.get() {
            return Ok(evidence);
        }
        let options = &self.monitor.options;
        let object = self.plan.object.as_ref();
        let evidence = if self.plan.access.is_direct() {
            Evidence::of_direct_io(object, self.plan.facts.version, options.hash)?
        } else {
            let remembered = |version: &ContentVersion, label: Option<&[u8]>, algo| {
                object.state().with(|inner| {
                    let stands = self.stands(inner, version, label);
                    inner.collected.filter(|collected| stands && collected.digest.algo() == algo)
                })
            };
            let mut evidence = gather(object, options.hash, remembered).map_err(std::io::Error::other)?;
            if let Some(collected) = evidence.collected.as_mut().filter(|_| self.left.writers) {
                collected.stable = false;
            }
            self.adopt(&evidence);
            evidence
        };
        Ok(self.evidence.get_or_init(|| evidence))
    }

    /// Whether the remembered digest may stand for this version of the content under this label.
    fn stands(&self, inner: &Inner, version: &ContentVersion, label: Option<&[u8]>) -> bool {
        let signed = label.and_then(ima::label_type).is_some_and(is_signature);
        let strict = self.strict.get() || signed;
        if !self.left.writers {
            return inner.stands(version, self.plan.writers_before, strict);
        }
        // A mapping is a writer; one whose file will be labelled anew is treated as such.
        inner.relabel && inner.stands(version, 1, strict)
    }

    /// The content's digest by the algorithm that a rule lists digests of.
    pub(super) fn digest_by(&self, algo: HashAlgo) -> Result<Digest, std::io::Error> {
        let evidence = self.evidence()?;
        if evidence.digest.algo() == algo && evidence.collected.is_some() {
            return Ok(evidence.digest);
        }
        let collected = collect(self.plan.object.read_fd()?, algo).map_err(std::io::Error::other)?;
        Ok(collected.digest)
    }

    /// Puts newly collected evidence into the inode's record; what was remembered anyway stays as it is.
    fn adopt(&self, evidence: &Evidence) {
        let Some(collected) = evidence.collected else { return };
        self.plan.object.state().with(|inner| {
            let stands = self.stands(inner, &collected.version, evidence.label_bytes())
                && inner.collected.is_some_and(|old| old.digest == collected.digest);
            if !stands {
                inner.adopt(collected);
            }
        });
    }
}

fn is_signature(kind: LabelType) -> bool {
    match kind {
        LabelType::Signature | LabelType::VeritySignature => true,
        LabelType::Digest
        | LabelType::DigestNg
        | LabelType::Hmac
        | LabelType::PortableSignature
        | LabelType::Other(_) => false,
    }
}
