//! System calls that rustix lacks, behind safe functions: the one crate of imafs that may use `unsafe`.
//!
//! Every function takes borrowed descriptors and returns owned ones; none takes a raw descriptor or pointer.
//! Each `unsafe` block holds one operation and names the contract it relies on.
//!
//! This crate knows nothing of IMA, FUSE requests or policies. It keeps no state and logs nothing.

#![expect(unsafe_code, reason = "this crate is where it lives; every other one is denied it")]
#![deny(clippy::multiple_unsafe_ops_per_block, unsafe_op_in_unsafe_fn)]

pub mod backing_id;
pub mod child;
pub mod credentials;
pub mod descriptor;
pub mod environment;
pub mod handle;
pub mod inode_flags;
pub mod lease;
pub mod mapping;
pub mod mount_attr;
pub mod network;
pub mod pidfd;
pub mod superblock;
pub mod truncate;
pub mod verity;

use rustix::io::Errno;

/// The errno of the call that has just failed on this thread.
fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Turns the C convention (negative means failure, errno set) into a result.
fn check(result: libc::c_int) -> Result<libc::c_int, Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}
