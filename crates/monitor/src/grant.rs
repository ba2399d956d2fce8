//! The grant: proof that the monitor allowed one open.
//!
//! Its fields are private and [`Grant::mint`] is visible to this crate alone, so code outside the monitor can
//! demand a grant but not make one. It cannot be copied or cloned either: one decision, one reply. A test in
//! `integration/` walks the sources and fails if a grant is built anywhere but in this file.

use std::fmt;
use std::sync::Arc;

use appraise::ContentVersion;

use crate::exec::Ticket;
use crate::object::Object;

/// Proof that the monitor allowed this open of this object.
///
/// A filesystem must give it up, by value, to build the reply to an open.
#[must_use = "a grant that is dropped is an open that nobody answered"]
pub struct Grant {
    object: Arc<dyn Object>,
    version: ContentVersion,
    flags: i32,
    ticket: Ticket,
}

impl Grant {
    /// Makes the grant; the one place where that happens.
    pub(crate) fn mint(object: Arc<dyn Object>, version: ContentVersion, flags: i32, ticket: Ticket) -> Self {
        Self { object, version, flags, ticket }
    }

    /// The object that was checked, and the only one that may be served under this grant.
    #[must_use]
    pub fn object(&self) -> &Arc<dyn Object> {
        &self.object
    }

    /// The content version that was checked.
    #[must_use]
    pub fn content(&self) -> ContentVersion {
        self.version
    }

    /// The flags of the open that was allowed, as the kernel sent them.
    #[must_use]
    pub fn flags(&self) -> i32 {
        self.flags
    }

    /// What names the open that was allowed until it is released; to be given back with its release.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Whether the open that was allowed may write.
    #[must_use]
    pub fn writable(&self) -> bool {
        crate::access::is_write(self.flags)
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("version", &self.version)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}
