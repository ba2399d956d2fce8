//! INIT: what is agreed on with the kernel.

use fuser::{InitFlags, KernelConfig};

use crate::fs::{CacheMode, Filesystem, Negotiated};

/// RELEASE is sent as a background request. Were it held back by this limit, a later OPEN would overtake it and a
/// writer that is gone would look present.
const MAX_BACKGROUND: u16 = u16::MAX;

/// Larger writes gain nothing; the buffer is touched only as far as a request reaches.
const MAX_WRITE: u32 = 1 << 20;

/// One filesystem may be stacked on this one (an overlay in the container); the backing one may not be a stack.
const STACK_DEPTH: u32 = 1;

/// Wanted in every mount.
///
/// Not among them, on purpose: ATOMIC_O_TRUNC (the check comes before the truncation), WRITEBACK_CACHE (excludes
/// lending), HANDLE_KILLPRIV and _V2 (the kernel then leaves set-id bits to us), POSIX_LOCKS and FLOCK_LOCKS (the
/// kernel's own are right for a local filesystem), EXPORT_SUPPORT.
const ALWAYS: InitFlags = InitFlags::FUSE_ASYNC_READ
    .union(InitFlags::FUSE_BIG_WRITES)
    .union(InitFlags::FUSE_MAX_PAGES)
    .union(InitFlags::FUSE_DONT_MASK)
    .union(InitFlags::FUSE_POSIX_ACL)
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_DO_READDIRPLUS)
    .union(InitFlags::FUSE_READDIRPLUS_AUTO)
    .union(InitFlags::FUSE_HAS_IOCTL_DIR)
    .union(InitFlags::FUSE_ASYNC_DIO);

/// Wanted when nobody else writes the source.
const EXCLUSIVE: InitFlags = InitFlags::FUSE_CACHE_SYMLINKS.union(InitFlags::FUSE_NO_OPENDIR_SUPPORT);

/// Wanted when the host does.
const SHARED: InitFlags = InitFlags::FUSE_AUTO_INVAL_DATA;

/// Asks for what the mount wants and the kernel offers, and records the outcome.
pub(super) fn negotiate(fs: &Filesystem, config: &mut KernelConfig) -> Negotiated {
    let options = fs.options();
    let mut wanted = ALWAYS
        | match options.cache {
            CacheMode::Exclusive => EXCLUSIVE,
            CacheMode::Shared => SHARED,
        };
    if options.passthrough {
        wanted |= InitFlags::FUSE_PASSTHROUGH;
    }
    let mut agreed = wanted & config.capabilities();
    if agreed.contains(InitFlags::FUSE_PASSTHROUGH) && config.set_max_stack_depth(STACK_DEPTH).is_err() {
        agreed -= InitFlags::FUSE_PASSTHROUGH;
    }
    if let Err(unknown) = config.add_capabilities(agreed) {
        // `agreed` is within what the kernel offers, so this cannot be; without them the mount still works.
        tracing::warn!(?unknown, "the kernel took back capabilities it had offered");
        agreed -= unknown;
    }
    if let Err(nearest) = config.set_max_background(MAX_BACKGROUND) {
        tracing::warn!(nearest, "cannot raise the limit of background requests");
    }
    let max_write = match config.set_max_write(MAX_WRITE) {
        Ok(_) => MAX_WRITE,
        Err(nearest) => nearest,
    };
    let abi = config.kernel_abi();
    Negotiated {
        abi: (abi.0, abi.1),
        max_write,
        passthrough: agreed.contains(InitFlags::FUSE_PASSTHROUGH),
        no_opendir: agreed.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT),
        cache_symlinks: agreed.contains(InitFlags::FUSE_CACHE_SYMLINKS),
        posix_acl: agreed.contains(InitFlags::FUSE_POSIX_ACL),
        features: agreed.iter_names().map(|(name, _)| name.trim_start_matches("FUSE_").to_owned()).collect(),
    }
}
