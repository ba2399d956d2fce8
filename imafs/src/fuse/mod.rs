//! The FUSE transport: mounting, reading the kernel's requests, and answering them.
//!
//! `request` takes a request apart, `adapter` calls one operation of the filesystem for it, `wire` puts the answer
//! together. What opens a file is answered with success in one function of `pending`, which takes the monitor's grant by
//! value. Nothing here decides anything, and nothing outside this module knows how requests and answers look: another
//! transport (the kernel's rings, a successor on a live connection) fits behind the same operations.
//!
//! For a request no memory is allocated but what its answer takes: one buffer is read into, fields are borrowed from it,
//! and answers of fixed length are put together on the stack.

pub mod abi;
mod adapter;
mod answer;
mod body;
mod device;
mod fields;
mod init;
mod mount;
mod operation;
mod pending;
mod reader;
pub mod request;
mod wire;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use mount::{MountError, MountParams, Unmount, cut, mount, unmount};

use crate::fs::Filesystem;
use device::Device;

/// Serves `fs` on the connection `fd` until it is unmounted, then lets queued work finish.
///
/// The calling thread reads requests, and no other, so that opens and closes are accounted for in the order they were
/// sent.
///
/// Where that fails `failed` is told before queued work is waited for: some of it may wait for the kernel, which waits for
/// answers that nobody gives any more, until the connection is [`cut`].
///
/// # Errors
/// When the first request is not what it must be, the device fails, or a handler panicked.
pub fn serve(fd: OwnedFd, fs: &Arc<Filesystem>, failed: impl FnOnce(&io::Error)) -> io::Result<()> {
    let device = Device::new(fd);
    fs.attach(Arc::clone(&device) as Arc<dyn crate::fs::Kernel>);
    let served = reader::run(&device, fs);
    if let Err(error) = &served {
        failed(error);
    }
    fs.shut_down();
    served
}
