//! What a path and an image's name may be.

use crate::{IMAGE_MAX, PATH_MAX};

/// Why a name cannot stand in a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// An image's name is of 1 to [`IMAGE_MAX`] bytes.
    #[error("the name of an image has 1 to {IMAGE_MAX} letters, not {0}")]
    ImageLength(usize),
    /// An image's name is of ASCII letters, digits and `._-/:@`, as references of images are.
    #[error("the name of an image has letters, digits and ._-/:@ alone")]
    ImageLetter,
    /// A path is of 2 to [`PATH_MAX`] bytes.
    #[error("a path of {0} bytes")]
    PathLength(usize),
    /// A path begins at the root and has no other way to be written: no empty name, no `.`, no `..`.
    #[error("a path that is not plain")]
    PathForm,
}

/// Whether a manifest may be for an image of this name.
///
/// # Errors
/// [`InvalidName`], saying why not.
pub fn check_image(name: &[u8]) -> Result<(), InvalidName> {
    if !(1..=IMAGE_MAX).contains(&name.len()) {
        return Err(InvalidName::ImageLength(name.len()));
    }
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(byte);
    if name.iter().all(known) { Ok(()) } else { Err(InvalidName::ImageLetter) }
}

/// Whether an entry may be for this path.
///
/// # Errors
/// [`InvalidName`], saying why not.
pub fn check_path(path: &[u8]) -> Result<(), InvalidName> {
    if !(2..=PATH_MAX).contains(&path.len()) {
        return Err(InvalidName::PathLength(path.len()));
    }
    let Some((b'/', names)) = path.split_first() else { return Err(InvalidName::PathForm) };
    let plain = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    if names.split(|byte| *byte == b'/').all(plain) { Ok(()) } else { Err(InvalidName::PathForm) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_way_to_be_written() {
        for path in [&b"/a"[..], b"/a/b", b"/.a", b"/...", b"/a\nb/\xff\xfe", b"/ "] {
            assert_eq!(check_path(path), Ok(()), "{}", path.escape_ascii());
        }
        for path in [&b"a/b"[..], b"//", b"/a/", b"/a//b", b"/./a", b"/a/..", b"/../a", b"/a\0b", b"aa"] {
            assert_eq!(check_path(path), Err(InvalidName::PathForm), "{}", path.escape_ascii());
        }
        assert_eq!(check_path(b""), Err(InvalidName::PathLength(0)));
        assert_eq!(check_path(b"/"), Err(InvalidName::PathLength(1)));
        let long = [b"/".as_slice(), &[b'a'; PATH_MAX]].concat();
        assert_eq!(check_path(&long), Err(InvalidName::PathLength(PATH_MAX + 1)));
        assert_eq!(check_path(&long[..PATH_MAX]), Ok(()));
    }

    #[test]
    fn an_image_is_called_as_registries_call_it() {
        assert_eq!(check_image(b"registry.example:5000/team/web_1@sha256-0"), Ok(()));
        assert_eq!(check_image(b""), Err(InvalidName::ImageLength(0)));
        assert_eq!(check_image(&[b'a'; IMAGE_MAX + 1]), Err(InvalidName::ImageLength(IMAGE_MAX + 1)));
        for name in [&b"a b"[..], b"a\n", b"a\0", b"\xc3\xa9"] {
            assert_eq!(check_image(name), Err(InvalidName::ImageLetter), "{}", name.escape_ascii());
        }
    }
}
