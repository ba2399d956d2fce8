//! What each control file says, in the kernel's words where the kernel has the file.

use keyring::Keyring;
use measure::{Snapshot, pcrs};

use super::Control;
use super::switches;
use super::tree::{File, Ring};

/// The content of one open file.
#[derive(Debug)]
pub(super) enum Content {
    /// Bytes taken at the open.
    Bytes(Vec<u8>),
    /// The list as it was at the open; written out as it is read.
    List(Snapshot),
    /// The audit trail, which grows.
    Audit,
}

impl Control {
    pub(super) fn content(&self, file: File) -> Content {
        let (options, rules) = (self.monitor.options(), self.monitor.rules());
        let text = match file {
            File::List(..) => return Content::List(options.list.snapshot()),
            File::Audit => return Content::Audit,
            File::Count => format!("{}\n", options.list.count()),
            File::Violations => format!("{}\n", options.list.violations()),
            // The rules that bind come first, as they count first.
            File::Policy => rules.layers().map(|layer| layer.policy.to_string()).collect(),
            // The policy is set before the first request, so a mount that can be read is active.
            File::Active => "1\n".to_owned(),
            File::Hash => format!("{}\n", options.hash.name()),
            File::TemplateName => format!("{}\n", options.template.name()),
            File::Mode => format!("{}\n", switches::mode_name(rules.mode())),
            File::Keys(Ring::Host) => keys(&rules.host().ring),
            File::Keys(Ring::Container) => {
                rules.container().map(|layer| keys(&layer.ring)).unwrap_or_default()
            }
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
        Content::Bytes(text.into_bytes())
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
