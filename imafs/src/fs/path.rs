//! The path of a record, for measurement entries, audit records and `path=` rules.

use super::node::Node;

/// A chain of places longer than this is a loop made by racing renames; the path then counts as unreachable.
const DEPTH_MAX: usize = 4096;

/// The absolute path by which `node` was last looked up: `/` for the root.
///
/// When no chain of places leads to the root the last component alone is given, as the kernel records the dentry's
/// name when `d_path` fails (`ima_d_path`, security/integrity/ima/ima_api.c).
pub(super) fn of(node: &Node) -> Vec<u8> {
    if node.ino().is_root() {
        return b"/".to_vec();
    }
    let Some(place) = node.place() else { return Vec::new() };
    let last = place.name.clone();
    let mut names = vec![place.name];
    let mut directory = place.parent;
    while !directory.ino().is_root() {
        match directory.place() {
            Some(place) if names.len() < DEPTH_MAX => {
                names.push(place.name);
                directory = place.parent;
            }
            _ => return last.into_vec(),
        }
    }
    let mut path = Vec::with_capacity(names.iter().map(|name| name.len() + 1).sum());
    for name in names.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}
