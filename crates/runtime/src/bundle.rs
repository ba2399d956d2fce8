//! The bundle an engine hands us: what we read of its `config.json`, and the one word we change in it.
//!
//! The file is read as the specification has it, and changed as JSON, so that what a newer engine writes and we do
//! not know survives.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxIdMapping, Spec};

use crate::Error;

/// A bundle that has been read.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// The bundle's directory, absolute.
    pub directory: PathBuf,
    /// `root.path` as it is written.
    pub root_path: PathBuf,
    /// The root filesystem: absolute, and no symbolic link on the way.
    pub rootfs: PathBuf,
    /// Who its root is on the host, user and group, where that is another.
    pub owner: Option<(u32, u32)>,
    /// Its annotations.
    pub annotations: Option<HashMap<String, String>>,
}

impl Bundle {
    /// Reads `config.json` in `directory`.
    ///
    /// # Errors
    /// [`Error::Bundle`] when it cannot be read, names no root filesystem, or one behind a symbolic link.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let directory = std::path::absolute(directory).map_err(|error| broken("use", directory, &error))?;
        let path = config_path(&directory);
        let spec = Spec::load(&path).map_err(|error| broken("read", &path, &error))?;
        let root = spec.root().as_ref().ok_or_else(|| broken("use", &path, &"it names no root.path"))?;
        Ok(Self {
            rootfs: rootfs(&directory, root.path())?,
            root_path: root.path().clone(),
            owner: spec.linux().as_ref().and_then(owner),
            annotations: spec.annotations().clone(),
            directory,
        })
    }
}

/// Who root is on the host, by the container's mappings.
fn owner(linux: &Linux) -> Option<(u32, u32)> {
    let root = |mappings: &Option<Vec<LinuxIdMapping>>| {
        let first = mappings.iter().flatten().find(|map| map.container_id() == 0 && map.size() > 0);
        first.map(LinuxIdMapping::host_id)
    };
    Some((root(linux.uid_mappings())?, root(linux.gid_mappings())?))
}

/// Where `root.path` leads. As with runc, none of it may be a symbolic link (of a relative one: from the bundle on):
/// what is checked would else be wherever somebody has pointed it.
///
/// Source: `rootfs` of libcontainer/configs/validate, runc 1.1.
fn rootfs(directory: &Path, root_path: &Path) -> Result<PathBuf, Error> {
    let written = directory.join(root_path);
    let real = |path: &Path| std::fs::canonicalize(path).map_err(|error| broken("use", path, &error));
    let base = real(directory)?;
    let found = real(&written)?;
    if found == plain(&base.join(root_path)) {
        return Ok(found);
    }
    Err(broken("use", &written, &"root.path goes through a symbolic link, which no runtime follows"))
}

/// The path without `.` and `..`, by its letters alone, as Go's `filepath.Clean`.
fn plain(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => parts.push(part),
        }
    }
    parts
}

/// Makes the bundle's `root.path` say `to`, if it says `from` now. The file is replaced whole, or not at all.
///
/// Returns whether it was changed: it was not if the engine has written another one meanwhile.
///
/// # Errors
/// [`Error::Bundle`].
pub fn redirect(directory: &Path, from: &Path, to: &Path) -> Result<bool, Error> {
    let path = config_path(directory);
    let fail = |error: &dyn std::fmt::Display| broken("write", &path, error);
    let text = std::fs::read(&path).map_err(|error| broken("read", &path, &error))?;
    let mut config: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| broken("read", &path, &error))?;
    let Some(word) = config.pointer_mut("/root/path") else { return Ok(false) };
    if word.as_str().map(Path::new) != Some(from) {
        return Ok(false);
    }
    let to = to.to_str().ok_or_else(|| fail(&"the path is not text"))?;
    *word = serde_json::Value::from(to);
    let before = std::fs::metadata(&path).map_err(|error| fail(&error))?;
    let mut draft = tempfile::Builder::new()
        .prefix(".config.json.")
        .tempfile_in(directory)
        .map_err(|error| fail(&error))?;
    let bytes = serde_json::to_vec(&config).map_err(|error| fail(&error))?;
    draft.write_all(&bytes).map_err(|error| fail(&error))?;
    let file = draft.as_file();
    file.set_permissions(before.permissions()).map_err(|error| fail(&error))?;
    std::os::unix::fs::fchown(file, Some(before.uid()), Some(before.gid())).map_err(|error| fail(&error))?;
    draft.persist(&path).map_err(|error| fail(&error.error))?;
    Ok(true)
}

fn config_path(directory: &Path) -> PathBuf {
    directory.join("config.json")
}

fn broken(action: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Bundle { action, path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn bundle(text: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), text).unwrap();
        std::fs::create_dir(directory.path().join("rootfs")).unwrap();
        directory
    }

    fn rooted_at(path: &str) -> String {
        serde_json::json!({ "ociVersion": "1.0.2", "root": { "path": path } }).to_string()
    }

    const SOME: &str = r#"{"ociVersion":"1.0.2","root":{"path":"rootfs","readonly":true},
        "annotations":{"org.imafs.profile":"web"},"somethingNew":{"kept":[1,2]}}"#;

    #[test]
    fn a_relative_root_starts_at_the_bundle() {
        let directory = bundle(SOME);
        let bundle = Bundle::read(directory.path()).unwrap();
        assert_eq!(bundle.rootfs, directory.path().join("rootfs"));
        assert_eq!(bundle.annotations.unwrap()["org.imafs.profile"], "web");
    }

    #[test]
    fn only_the_root_is_changed_and_it_can_be_changed_back() {
        let directory = bundle(SOME);
        let path = directory.path().join("config.json");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let read = || serde_json::from_slice::<serde_json::Value>(&std::fs::read(&path).unwrap()).unwrap();
        let before = read();
        assert!(redirect(directory.path(), Path::new("rootfs"), Path::new("/run/x/rootfs")).unwrap());
        let between = read();
        assert_eq!(between["root"]["path"], "/run/x/rootfs");
        assert_eq!(between["root"]["readonly"], true);
        assert_eq!(between["somethingNew"], before["somethingNew"]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(redirect(directory.path(), Path::new("/run/x/rootfs"), Path::new("rootfs")).unwrap());
        assert_eq!(read(), before);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "no draft is left");
    }

    #[test]
    fn root_is_who_the_mappings_say() {
        let read = |linux: serde_json::Value| {
            let config =
                serde_json::json!({ "ociVersion": "1.0.2", "root": { "path": "rootfs" }, "linux": linux });
            Bundle::read(bundle(&config.to_string()).path()).unwrap().owner
        };
        let map = |inside: u32, outside: u32| {
            serde_json::json!([
                { "containerID": 1, "hostID": 9, "size": 1 },
                { "containerID": inside, "hostID": outside, "size": 65536 },
            ])
        };
        assert_eq!(
            read(serde_json::json!({ "uidMappings": map(0, 100_000), "gidMappings": map(0, 200_000) })),
            Some((100_000, 200_000))
        );
        assert_eq!(read(serde_json::json!({})), None);
        // Nobody is root in it.
        assert_eq!(read(serde_json::json!({ "uidMappings": map(5, 1), "gidMappings": map(0, 1) })), None);
    }

    #[test]
    fn a_file_the_engine_has_written_anew_is_left_alone() {
        let directory = bundle(SOME);
        assert!(!redirect(directory.path(), Path::new("other"), Path::new("/x")).unwrap());
        assert_eq!(std::fs::read_to_string(directory.path().join("config.json")).unwrap(), SOME);
    }

    #[test]
    fn a_root_may_lie_anywhere_but_behind_a_symbolic_link() {
        let elsewhere = tempfile::tempdir().unwrap();
        let inner = elsewhere.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let read = |root: &str| {
            let directory = bundle(&rooted_at(root));
            std::os::unix::fs::symlink(elsewhere.path(), directory.path().join("link")).unwrap();
            std::os::unix::fs::symlink("rootfs", directory.path().join("alias")).unwrap();
            Bundle::read(directory.path()).map(|bundle| bundle.rootfs).map_err(|error| error.to_string())
        };
        assert_eq!(read(inner.to_str().unwrap()), Ok(inner));
        assert!(read("./x/../rootfs/").is_err(), "x does not exist");
        assert!(read("./rootfs/.").unwrap().ends_with("rootfs"));
        for root in ["link", "link/inner", "alias", "rootfs/../link"] {
            assert!(read(root).unwrap_err().contains("symbolic link"), "{root}");
        }
        // The way to the bundle is the engine's.
        let real = bundle(&rooted_at("rootfs"));
        let way = elsewhere.path().join("bundle");
        std::os::unix::fs::symlink(real.path(), &way).unwrap();
        assert_eq!(Bundle::read(&way).unwrap().rootfs, real.path().join("rootfs"));
    }

    #[test]
    fn a_bundle_without_config_or_root_is_refused_by_name() {
        let empty = tempfile::tempdir().unwrap();
        assert!(Bundle::read(empty.path()).unwrap_err().to_string().contains("config.json"));
        let rootless = bundle(r#"{"ociVersion":"1.0.2"}"#);
        assert!(Bundle::read(rootless.path()).unwrap_err().to_string().contains("root.path"));
        assert!(Bundle::read(bundle("{").path()).is_err());
    }
}
