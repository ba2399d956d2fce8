//! What records and entries call a file.

use crate::monitor::Monitor;
use crate::object::Object;

/// The kernel builds a path in a buffer of 4096 bytes, with the zero byte.
const PATH_MAX: usize = 4095;

/// The kernel's copy of a last component (`NAME_MAX`, with the zero byte).
const LAST_MAX: usize = 254;

impl Monitor {
    /// The file's path with the mount's prefix. Where that is too long, or there is no path, its last component alone, as
    /// in the kernel (`ima_d_path`, security/integrity/ima/ima_api.c).
    pub(crate) fn name_of(&self, object: &dyn Object) -> Vec<u8> {
        let path = object.path();
        let prefix = &self.options.path_prefix;
        if !path.starts_with(b"/") || prefix.len() + path.len() > PATH_MAX {
            return last_component(&path).to_vec();
        }
        [prefix.as_slice(), path.as_slice()].concat()
    }
}

/// The last component of a path.
pub(crate) fn last_component(path: &[u8]) -> &[u8] {
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    last.get(..LAST_MAX).unwrap_or(last)
}
