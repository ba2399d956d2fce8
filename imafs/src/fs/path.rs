//! The paths of a record, for measurement entries, audit records and `path=` rules.

use std::sync::Arc;

use monitor::Names;

use super::node::{Node, Place};

/// The kernel builds a path in a buffer of 4096 bytes, with the zero byte. A chain of places that is a loop, made by racing
/// renames, ends here as well.
const PATH_MAX: usize = 4095;

/// The absolute path by which `node` was last looked up: `/` for the root.
///
/// When no chain of places leads to the root, or too long a one, the last component alone is given, as the kernel records
/// the dentry's name when `d_path` fails (`ima_d_path`, security/integrity/ima/ima_api.c).
pub(super) fn of(node: &Node) -> Vec<u8> {
    if node.ino().is_root() {
        return b"/".to_vec();
    }
    node.place().map_or_else(Vec::new, |place| through(&place))
}

/// The paths of a file that has `links` names: the one by which it was last looked up, whether it is there still or
/// not, then those that are there.
///
/// That the last one is right is not taken on trust: a file that is nowhere we know of may be where a rule is about.
pub(super) fn all_of(node: &Node, links: u32) -> Names {
    let last = node.place();
    let mut paths = vec![of(node)];
    if links == 0 {
        return Names { paths, more: false };
    }
    let leads_there = |place: &Place| node.vault().leads_to(place, node);
    let mut found = last.iter().filter(|place| leads_there(place)).count();
    for other in node.other_places().iter().filter(|other| leads_there(other)) {
        found += 1;
        paths.push(through(other));
    }
    Names { paths, more: u32::try_from(found).is_ok_and(|found| found < links) }
}

/// The path of these names, or the last of them where that is too long.
pub(super) fn of_names<'a>(names: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    let length: usize = names.clone().map(|name| name.len() + 1).sum();
    if length > PATH_MAX {
        return names.last().unwrap_or_default().to_vec();
    }
    names.flat_map(|name| [b"/", name].concat()).collect()
}

pub(super) fn through(place: &Place) -> Vec<u8> {
    let mut names = vec![place.name.clone()];
    let mut length = place.name.len() + 1;
    let mut directory = Arc::clone(&place.parent);
    while !directory.ino().is_root() {
        let up = directory.place().filter(|up| length + up.name.len() < PATH_MAX);
        let Some(up) = up else {
            return place.name.to_vec();
        };
        length += up.name.len() + 1;
        names.push(up.name);
        directory = up.parent;
    }
    let mut path = Vec::with_capacity(length);
    for name in names.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}
