//! What `imafs-sign` does, apart from its command line: private keys, certificates made from them,
//! the walk over a tree, a file's digest and label, and the workers that share the work.
//!
//! It writes what `evmctl ima_sign` and `evmctl ima_hash` write and reads what they read
//! (ima-evm-utils 1.4). It works on trees at rest and on paths it is given: it does not know mounts,
//! policies or keyrings of running systems. It never follows a symbolic link below a path it is
//! given, leaves other filesystems alone unless asked, and changes nothing but labels and the manifest it is told to write.

pub mod certify;
pub mod cli;
pub mod file;
pub mod key;
pub mod labels;
pub mod walk;
pub mod workers;
