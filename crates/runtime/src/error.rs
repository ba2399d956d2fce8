//! Why a container was not started, in one line an engine can show.

use std::io;
use std::path::PathBuf;

/// See the module's text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The runtime's own configuration is missing.
    #[error("cannot read {}: {source}; write it ('imafs-runtime --help' has an example), or give the engine another runtime", path.display())]
    ReadConfig {
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The runtime's own configuration makes no sense.
    #[error("cannot use {}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// An option that begins like ours, or that we cannot let the real runtime follow.
    #[error(
        "'{option}' is no option of imafs-runtime: there are --imafs-profile=NAME and --imafs-config=FILE, \
         and the configuration is the bundle's config.json"
    )]
    Option {
        /// The option as it came.
        option: String,
    },
    /// A container is to be made, and none is named as engines do.
    #[error(
        "cannot tell which container is meant: its name stands last, of letters, digits and '_+-.', up to 242 of them"
    )]
    NoContainer,
    /// An annotation that cannot be followed.
    #[error("annotation {name}: {reason}")]
    Annotation {
        /// Its whole name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The profile that was named does not exist.
    #[error("there is no imafs profile '{name}': {known}")]
    NoProfile {
        /// The name.
        name: String,
        /// Which there are.
        known: String,
    },
    /// A check is required and no profile says which.
    #[error(
        "an imafs profile is required, and none is named: set the annotation org.imafs.profile, or a default"
    )]
    Required,
    /// The bundle cannot be read or changed.
    #[error("cannot {action} {}: {reason}", path.display())]
    Bundle {
        /// `read`, `write` or `use`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The container's place under the run directory.
    #[error("cannot {action} {}: {source}", path.display())]
    Slot {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `imafs mount` said no.
    #[error("cannot mount imafs over {}: {reason}", rootfs.display())]
    Mount {
        /// The container's root filesystem.
        rootfs: PathBuf,
        /// What it said, in one line.
        reason: String,
    },
    /// The mount does not go away.
    #[error("cannot unmount {}: {reason}", target.display())]
    Unmount {
        /// Where it is mounted.
        target: PathBuf,
        /// Why.
        reason: String,
    },
    /// The real runtime cannot be started.
    #[error("cannot run {}: {source}; name the real runtime in runtime.yaml", program.display())]
    RealRuntime {
        /// Its name or path.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What a mount under the container does not survive.
    #[error("a container on imafs cannot be checkpointed or restored: its measurements would not come along")]
    Checkpoint,
}
