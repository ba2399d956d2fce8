//! What each control file says, in the kernel's words where the kernel has the file.

use std::sync::{Arc, Weak};

use keyring::Keyring;
use measure::{Snapshot, pcrs};
use monitor::Rules;
use parking_lot::Mutex;
use policy::Policy;

use super::Control;
use super::switches;
use super::tree::{File, Ring};
use crate::fs::Errno;

/// Texts of policies and key rings that the container's open files may keep at once, in all their versions. The text of
/// a policy can have some megabytes.
const MOST_TEXTS: usize = 8;

/// The content of one open file.
#[derive(Debug)]
pub(super) enum Content {
    /// Bytes taken at the open.
    Bytes(Arc<[u8]>),
    /// The list as it was at the open; written out as it is read.
    List(Snapshot),
    /// The audit trail, which grows.
    Audit,
}

/// Who is to read a content, which says how much of it may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// The container: until it closes the file.
    Container,
    /// The host: for the moment.
    Host,
}

/// The long texts, each kept once however many have it open.
#[derive(Debug, Default)]
pub(super) struct Texts(Mutex<Kept>);

/// The policies of all layers, and their text.
type Shown = (Vec<Arc<Policy>>, Arc<[u8]>);

#[derive(Debug, Default)]
struct Kept {
    /// What was shown last.
    policy: Option<Shown>,
    /// Those that are open.
    open: Vec<Weak<[u8]>>,
}

impl Texts {
    /// The text of the rules in force, made once for them.
    fn policy(&self, rules: &Rules, reader: Reader) -> Result<Arc<[u8]>, Errno> {
        let mut kept = self.0.lock();
        let policies = || rules.layers().map(|layer| &layer.policy);
        if let Some((known, text)) = &kept.policy
            && known.len() == policies().count()
            && known.iter().zip(policies()).all(|(known, policy)| Arc::ptr_eq(known, policy))
        {
            let text = Arc::clone(text);
            return kept.share(text, reader);
        }
        // The rules that bind come first, as they count first.
        let text: String = policies().map(|policy| policy.to_string()).collect();
        let text: Arc<[u8]> = Arc::from(text.into_bytes());
        kept.policy = Some((policies().cloned().collect(), Arc::clone(&text)));
        kept.share(text, reader)
    }

    /// This text, or the same one that is open already.
    fn share(&self, text: String, reader: Reader) -> Result<Arc<[u8]>, Errno> {
        self.0.lock().share(Arc::from(text.into_bytes()), reader)
    }
}

impl Kept {
    fn share(&mut self, text: Arc<[u8]>, reader: Reader) -> Result<Arc<[u8]>, Errno> {
        self.open.retain(|open| open.strong_count() > 0);
        if let Some(same) =
            self.open.iter().filter_map(Weak::upgrade).find(|open| Arc::ptr_eq(open, &text) || *open == text)
        {
            return Ok(same);
        }
        if reader == Reader::Container {
            if self.open.len() >= MOST_TEXTS {
                return Err(Errno::NFILE);
            }
            self.open.push(Arc::downgrade(&text));
        }
        Ok(text)
    }
}

impl Control {
    /// # Errors
    /// [`Errno::NFILE`] when the container keeps too many others.
    pub(super) fn content(&self, file: File, reader: Reader) -> Result<Content, Errno> {
        let (options, rules) = (self.monitor.options(), self.monitor.rules());
        let text = match file {
            File::List(..) => return Ok(Content::List(options.list.snapshot())),
            File::Audit => return Ok(Content::Audit),
            File::Policy => return self.texts.policy(&rules, reader).map(Content::Bytes),
            File::Keys(Ring::Host) => {
                return self.texts.share(keys(&rules.host().ring), reader).map(Content::Bytes);
            }
            File::Keys(Ring::Container) => {
                let keys = rules.container().map(|layer| keys(&layer.ring)).unwrap_or_default();
                return self.texts.share(keys, reader).map(Content::Bytes);
            }
            File::Count => format!("{}\n", options.list.count()),
            File::Violations => format!("{}\n", options.list.violations()),
            // The policy is set before the first request, so a mount that can be read is active.
            File::Active => "1\n".to_owned(),
            File::Hash => format!("{}\n", options.hash.name()),
            File::TemplateName => format!("{}\n", options.template.name()),
            File::Mode => format!("{}\n", switches::mode_name(rules.mode())),
            File::Pcrs => match pcrs::table(options.list.bank().as_ref()) {
                Ok(table) => table,
                Err(error) => {
                    tracing::error!("cannot read the PCRs: {}", crate::failure::chain(&error));
                    String::new()
                }
            },
            File::NsId => format!("{}\n", self.ns_id),
            File::Status => format!("{:#}\n", (self.status)()),
        };
        Ok(Content::Bytes(Arc::from(text.into_bytes())))
    }

    /// The size `stat(2)` shows: that of the lists and of the audit trail so far, which can be long; 0 for the rest,
    /// as in securityfs.
    pub(super) fn size(&self, file: File) -> u64 {
        let options = self.monitor.options();
        match file {
            File::List(form, algo) => options.list.snapshot().size(form, algo),
            // Counted from the mount's beginning, so that it never shrinks under `tail -f`.
            File::Audit => options.audit.ring().span().1,
            File::Count
            | File::Violations
            | File::Policy
            | File::Active
            | File::Hash
            | File::TemplateName
            | File::Mode
            | File::Keys(_)
            | File::Pcrs
            | File::NsId
            | File::Status => 0,
        }
    }
}

/// A line for each certificate: keyid, fingerprint, subject; revoked ones say so.
fn keys(ring: &Keyring) -> String {
    let line = |key: &keyring::Certificate| {
        let revoked = if ring.is_revoked(key.keyid()) { " revoked" } else { "" };
        // A subject is its issuer's text, and a line of ours must not be.
        let subject = key.subject().replace(char::is_control, "?");
        format!("{} {} {subject}{revoked}\n", key.keyid(), key.fingerprint_sha256())
    };
    ring.list().iter().map(|key| line(key)).collect()
}
