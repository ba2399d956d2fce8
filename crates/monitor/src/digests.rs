//! The digests remembered of one inode: of its content, and of its fs-verity descriptor.

use appraise::Collected;
use ima::DigestKind;
use policy::{Actions, Class, Decision, RuleFlags};

/// The digest last collected of each kind.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Digests {
    content: Option<Collected>,
    verity: Option<Collected>,
}

impl Digests {
    /// The one of this kind.
    pub fn of(&self, kind: DigestKind) -> Option<Collected> {
        match kind {
            DigestKind::Ima => self.content,
            DigestKind::Verity => self.verity,
        }
    }

    /// Either, of the content where there is one.
    pub fn any(&self) -> Option<Collected> {
        self.content.or(self.verity)
    }

    /// Takes over a digest that was just collected; gives whether it shows that the content is what it was.
    ///
    /// Where there is none of its kind yet, the version of the other must tell. What it shows to be another content
    /// makes that other one worthless.
    pub fn put(&mut self, kind: DigestKind, collected: Collected) -> bool {
        let (own, other) = match kind {
            DigestKind::Ima => (&mut self.content, &mut self.verity),
            DigestKind::Verity => (&mut self.verity, &mut self.content),
        };
        let same = match (*own, *other) {
            (Some(old), _) => old.digest == collected.digest,
            (None, Some(other)) => other.stable && other.version == collected.version,
            (None, None) => false,
        };
        if !same {
            *other = None;
        }
        *own = Some(collected);
        same
    }

    /// None is believed before the content has been looked at again.
    pub fn doubt(&mut self) {
        for collected in [&mut self.content, &mut self.verity].into_iter().flatten() {
            collected.stable = false;
        }
    }
}

/// The kind of digest that the rule deciding this class is about.
///
/// The flags of one class mean nothing to another: the kernel adds them up, and then holds a plain hash label against
/// an fs-verity digest.
pub(crate) fn kind(decision: &Decision, class: Class) -> DigestKind {
    if decision.flags_of(class).contains(RuleFlags::VERITY) { DigestKind::Verity } else { DigestKind::Ima }
}

/// What is to be done with each kind of digest, in the order of doing: measuring comes first.
pub(crate) fn by_kind(decision: &Decision) -> [(DigestKind, Actions); 2] {
    let first = kind(decision, Class::Measure);
    let second = match first {
        DigestKind::Ima => DigestKind::Verity,
        DigestKind::Verity => DigestKind::Ima,
    };
    [first, second].map(|wanted| {
        let classes = [
            (Class::Measure, Actions::MEASURE),
            (Class::Appraise, Actions::APPRAISE),
            (Class::Audit, Actions::AUDIT),
        ];
        let own = classes.into_iter().filter(|(class, _)| kind(decision, *class) == wanted);
        let actions = own.fold(Actions::empty(), |all, (_, action)| all | action);
        (wanted, actions & decision.actions)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ima::{Digest, HashAlgo};
    use std::io::Write;

    fn collected(file: &std::fs::File, byte: u8) -> Collected {
        let digest = ima::hash(HashAlgo::Sha256, &[byte]).unwrap();
        Collected { digest, version: appraise::facts(file).unwrap().version, stable: true }
    }

    #[test]
    fn a_digest_of_the_other_kind_shows_the_same_content_only_at_its_own_version() {
        let mut file = tempfile::tempfile_in("/var/tmp").unwrap();
        let first = collected(&file, 1);
        let mut digests = Digests::default();
        assert!(!digests.put(DigestKind::Ima, first));
        assert!(digests.put(DigestKind::Verity, collected(&file, 2)));
        std::thread::sleep(std::time::Duration::from_millis(25));
        file.write_all(b"x").unwrap();
        let later = collected(&file, 2);
        assert!(digests.put(DigestKind::Verity, later), "the same digest again");
        assert_eq!(digests.of(DigestKind::Ima).unwrap().digest, first.digest, "is of the same content then");
        assert!(!digests.put(DigestKind::Verity, collected(&file, 3)));
        assert!(digests.of(DigestKind::Ima).is_none(), "is of another content");
        assert!(digests.put(DigestKind::Ima, collected(&file, 4)));
    }

    #[test]
    fn what_is_doubted_shows_nothing_of_the_other_kind() {
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        let mut digests = Digests::default();
        digests.put(DigestKind::Ima, collected(&file, 1));
        digests.doubt();
        assert!(!digests.any().unwrap().stable);
        assert!(!digests.put(DigestKind::Verity, collected(&file, 2)));
        assert!(digests.of(DigestKind::Ima).is_none());
        assert_ne!(digests.any().unwrap().digest, Digest::zero(HashAlgo::Sha256));
    }
}
