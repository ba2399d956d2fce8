//! Small facts of the system, and errors in plain words.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::failure::plain_words;

/// An error of the system in plain words.
pub fn plain(error: &io::Error) -> String {
    plain_words(&error.to_string())
}

/// Raises the soft limit of open files to the hard one: the filesystem caches descriptors, and how many is up to it.
pub(super) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!("cannot raise the limit of open files: {}", plain(&error.into()));
    }
}
