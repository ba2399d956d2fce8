//! What this host remembers of the manifests it has served: the highest serial of each image.
//!
//! An older manifest is as well signed as a newer one; that it is older, only somebody who has seen the newer one can
//! tell. Unless the configuration says which serial is the lowest, the host is that somebody. One file per image, which
//! appears whole or not at all; a lock on the directory keeps mounts that begin at once from each other.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ima::HashAlgo;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// What was served of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Served {
    /// The manifest's serial.
    pub serial: u64,
    /// SHA-256 of the manifest, in hex.
    pub digest: String,
}

/// A file of the memory.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    image: String,
    #[serde(flatten)]
    served: Served,
}

/// The memory.
#[derive(Debug)]
pub(super) struct Serials(PathBuf);

impl Serials {
    /// `$IMAFS_STATE_DIR/manifests`, by default `/var/lib/imafs/manifests`: it outlives the host's run.
    pub(super) fn from_environment() -> Self {
        let base = std::env::var_os("IMAFS_STATE_DIR").filter(|base| !base.is_empty());
        Self::new(&base.map_or_else(|| PathBuf::from("/var/lib/imafs"), PathBuf::from))
    }

    fn new(base: &Path) -> Self {
        Self(base.join("manifests"))
    }

    /// The file about an image: its name as far as a file may be called so, and a hash that tells namesakes apart.
    pub(super) fn path(&self, image: &str) -> PathBuf {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
        let name: String = image.chars().map(|c| if plain(c) { c } else { '_' }).take(64).collect();
        let hash = ima::hash(HashAlgo::Sha256, image.as_bytes()).map(|digest| digest.to_hex());
        self.0.join(format!("{name}-{}.json", hash.unwrap_or_default()))
    }

    /// Remembers that `now` is served, if nothing later was and no other with the same serial; else gives what was.
    ///
    /// # Errors
    /// When the memory cannot be read or written: then it is not known whether `now` is stale.
    pub(super) fn advance(&self, image: &str, now: &Served) -> io::Result<Option<Served>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let directory = File::open(&self.0)?;
        flock(&directory, FlockOperation::LockExclusive)?;
        let path = self.path(image);
        match recall(&path, image)? {
            Some(before) if before == *now => return Ok(None),
            Some(before) if before.serial >= now.serial => return Ok(Some(before)),
            Some(_) | None => {}
        }
        let text = serde_json::to_string(&Remembered { image: image.to_owned(), served: now.clone() })?;
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        directory.sync_all()?;
        Ok(None)
    }
}

fn recall(path: &Path, image: &str) -> io::Result<Option<Served>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let remembered: Remembered = serde_json::from_slice(&text)?;
    if remembered.image == image {
        return Ok(Some(remembered.served));
    }
    Err(io::Error::other(format!("it is about image {}", remembered.image)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(serial: u64, digest: &str) -> Served {
        Served { serial, digest: digest.to_owned() }
    }

    #[test]
    fn an_image_goes_forward_only_and_each_for_itself() {
        let here = tempfile::tempdir().unwrap();
        let serials = Serials::new(here.path());
        let five = served(5, "aa");
        assert_eq!(serials.advance("web", &five).unwrap(), None);
        assert_eq!(serials.advance("web", &five).unwrap(), None, "the same one again");
        assert_eq!(serials.advance("web", &served(4, "bb")).unwrap(), Some(five.clone()));
        assert_eq!(serials.advance("web", &served(5, "bb")).unwrap(), Some(five));
        assert_eq!(serials.advance("db", &served(1, "cc")).unwrap(), None);
        assert_eq!(serials.advance("web", &served(6, "dd")).unwrap(), None);
        assert_eq!(serials.advance("web", &served(5, "aa")).unwrap(), Some(served(6, "dd")));
    }

    #[test]
    fn images_whose_names_make_the_same_file_name_are_told_apart() {
        let serials = Serials::new(Path::new("/x"));
        assert_ne!(serials.path("a/b"), serials.path("a:b"));
        assert_eq!(serials.path("../../etc").parent(), Some(Path::new("/x/manifests")));
    }

    #[test]
    fn a_memory_that_cannot_be_read_is_no_empty_one() {
        let here = tempfile::tempdir().unwrap();
        let serials = Serials::new(here.path());
        serials.advance("web", &served(5, "aa")).unwrap();
        fs::write(serials.path("web"), "{\"image\":\"web\"").unwrap();
        assert!(serials.advance("web", &served(6, "bb")).is_err());
        fs::write(serials.path("web"), "{\"image\":\"db\",\"serial\":1,\"digest\":\"aa\"}").unwrap();
        assert!(serials.advance("web", &served(6, "bb")).is_err());
    }
}
