//! The FUSE transport: mounting, the adapter between fuser and the filesystem's operations, and replies.
//!
//! The adapter decodes a request, calls one operation and sends its answer. An OPEN or CREATE is answered with
//! success in one function of `pending`, which takes the monitor's grant by value. Nothing here decides anything,
//! and nothing outside this module knows fuser.

mod adapter;
mod answer;
mod convert;
mod device;
mod handshake;
mod init;
mod mount;
mod pending;
mod wire;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuser::{Config, Session, SessionACL};

pub use mount::{MountError, MountParams, Unmount, mount, unmount};

use crate::fs::Filesystem;
use adapter::Adapter;
use device::Device;

/// Serves `fs` on the connection `fd` until it is unmounted, then lets queued work finish.
///
/// One thread reads requests, so that opens and closes are accounted for in the order they were sent.
///
/// # Errors
/// When the first request is not what it must be, or the device fails.
pub fn serve(fd: OwnedFd, fs: &Arc<Filesystem>) -> io::Result<()> {
    let device = Device::new(fd.try_clone()?);
    fs.attach(Arc::clone(&device) as Arc<dyn crate::fs::Kernel>);
    let adapter = Adapter::new(Arc::clone(fs), device);
    let mut config = Config::default();
    config.n_threads = Some(1);
    config.acl = SessionACL::All;
    let served = handshake::session(adapter, fd, SessionACL::All, config).and_then(Session::run);
    fs.shut_down();
    served
}
