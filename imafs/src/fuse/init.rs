//! INIT: what is agreed on with the kernel.

use super::abi::{Capabilities, MAJOR, MINOR, MINOR_MIN};
use super::request::{Dialect, Offer};
use super::wire::InitOut;
use crate::fs::{CacheMode, FsOptions, Negotiated};

/// RELEASE is sent as a background request. Were it held back by this limit, a later OPEN would overtake it and a
/// writer that is gone would look present.
const MAX_BACKGROUND: u16 = u16::MAX;

/// Larger writes gain nothing; the buffer is touched only as far as a request reaches.
pub(super) const MAX_WRITE: u32 = 1 << 20;

/// What the kernel counts pages in, at least.
const PAGE: u32 = 4096;

/// One filesystem may be stacked on this one (an overlay in the container); the backing one may not be a stack.
const STACK_DEPTH: u32 = 1;

/// Wanted in every mount.
///
/// Not among them, on purpose: ATOMIC_O_TRUNC (the check comes before the truncation), WRITEBACK_CACHE (excludes
/// lending), HANDLE_KILLPRIV and _V2 (the kernel then leaves set-id bits to us), POSIX_LOCKS and FLOCK_LOCKS (the
/// kernel's own are right for a local filesystem), EXPORT_SUPPORT.
///
/// Nor is ASYNC_READ. With it the kernel holds a file open until the reply to its last read-ahead has been worked off,
/// which is after the reader got its pages: a reader that reads, closes and opens again for writing then has its RELEASE
/// behind its own OPEN, and looks like a reader that is still there (a false ToMToU, about one in 20,000 loops of 8
/// processes). Without it reads of the page cache are answered in the reader's own time, and RELEASE is in its place.
/// Only small files are read this way.
const ALWAYS: Capabilities = Capabilities::BIG_WRITES
    .union(Capabilities::MAX_PAGES)
    .union(Capabilities::INIT_EXT)
    .union(Capabilities::DONT_MASK)
    .union(Capabilities::POSIX_ACL)
    // With it an access list says whether its setter may keep S_ISGID.
    .union(Capabilities::SETXATTR_EXT)
    .union(Capabilities::PARALLEL_DIROPS)
    .union(Capabilities::DO_READDIRPLUS)
    .union(Capabilities::READDIRPLUS_AUTO)
    .union(Capabilities::HAS_IOCTL_DIR)
    .union(Capabilities::ASYNC_DIO);

/// Wanted when nobody else writes the source.
const EXCLUSIVE: Capabilities = Capabilities::CACHE_SYMLINKS.union(Capabilities::NO_OPENDIR_SUPPORT);

/// Wanted when the host does.
const SHARED: Capabilities = Capabilities::AUTO_INVAL_DATA;

/// What comes of an offer.
#[derive(Debug)]
pub(super) struct Agreement {
    /// The answer.
    pub answer: InitOut,
    /// How requests are read from now on.
    pub dialect: Dialect,
    /// What the filesystem and `status` are told.
    pub negotiated: Negotiated,
}

/// What is to be done about an offer.
#[derive(Debug)]
pub(super) enum Response {
    /// To go on, on these terms.
    Agree(Box<Agreement>),
    /// To name our version and wait for another offer: the kernel's major version is a later one.
    NameVersion,
    /// Nothing: the kernel is too old.
    Refuse,
}

/// Decides what to agree to of what the kernel offers.
pub(super) fn respond(options: &FsOptions, offer: &Offer) -> Response {
    if offer.major > MAJOR {
        return Response::NameVersion;
    }
    if offer.major < MAJOR || offer.minor < MINOR_MIN {
        return Response::Refuse;
    }
    let mut wanted = ALWAYS
        | match options.cache {
            CacheMode::Exclusive => EXCLUSIVE,
            CacheMode::Shared => SHARED,
        };
    wanted.set(Capabilities::PASSTHROUGH, options.passthrough);
    let agreed = wanted & Capabilities::from_bits_retain(offer.capabilities);
    let has = |capability| agreed.contains(capability);
    let pages = MAX_WRITE / PAGE;
    let answer = InitOut {
        max_readahead: offer.max_readahead,
        capabilities: agreed.bits(),
        max_background: MAX_BACKGROUND,
        congestion_threshold: MAX_BACKGROUND / 4 * 3,
        max_write: MAX_WRITE,
        max_pages: if has(Capabilities::MAX_PAGES) { u16::try_from(pages).unwrap_or(u16::MAX) } else { 0 },
        max_stack_depth: if has(Capabilities::PASSTHROUGH) { STACK_DEPTH } else { 0 },
    };
    let negotiated = Negotiated {
        abi: (offer.major, offer.minor.min(MINOR)),
        max_write: MAX_WRITE,
        passthrough: has(Capabilities::PASSTHROUGH),
        no_opendir: has(Capabilities::NO_OPENDIR_SUPPORT),
        cache_symlinks: has(Capabilities::CACHE_SYMLINKS),
        posix_acl: has(Capabilities::POSIX_ACL),
        features: (agreed - Capabilities::INIT_EXT).iter_names().map(|(name, _)| name.to_owned()).collect(),
    };
    let dialect = Dialect { setxattr_ext: has(Capabilities::SETXATTR_EXT) };
    Response::Agree(Box::new(Agreement { answer, dialect, negotiated }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: FsOptions = FsOptions {
        cache: CacheMode::Exclusive,
        passthrough: true,
        page_cache_limit: 0,
        hash_threads: 1,
        read_only: false,
    };

    fn offer(major: u32, minor: u32, capabilities: Capabilities) -> Offer {
        Offer { major, minor, max_readahead: 131_072, capabilities: capabilities.bits() }
    }

    fn agree(options: &FsOptions, offered: Capabilities) -> Agreement {
        match respond(options, &offer(7, 45, offered)) {
            Response::Agree(agreement) => *agreement,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_agreed_to_that_was_not_offered() {
        assert_eq!(agree(&OPTIONS, Capabilities::empty()).answer.capabilities, 0);
        let some = Capabilities::PASSTHROUGH | Capabilities::POSIX_ACL | Capabilities::ASYNC_READ;
        let agreement = agree(&OPTIONS, some);
        assert_eq!(agreement.answer.capabilities, (some - Capabilities::ASYNC_READ).bits());
        assert_eq!((agreement.answer.max_pages, agreement.answer.max_stack_depth), (0, STACK_DEPTH));
    }

    #[test]
    fn what_would_let_checks_be_skipped_is_declined_whatever_is_offered() {
        for cache in [CacheMode::Exclusive, CacheMode::Shared] {
            let agreement = agree(&FsOptions { cache, ..OPTIONS }, Capabilities::all());
            let agreed = Capabilities::from_bits_retain(agreement.answer.capabilities);
            let declined = Capabilities::ASYNC_READ
                | Capabilities::ATOMIC_O_TRUNC
                | Capabilities::WRITEBACK_CACHE
                | Capabilities::HANDLE_KILLPRIV
                | Capabilities::POSIX_LOCKS
                | Capabilities::FLOCK_LOCKS;
            assert!(!agreed.intersects(declined), "{agreed:?}");
            let exclusive = cache == CacheMode::Exclusive;
            assert_eq!(agreed.contains(EXCLUSIVE), exclusive);
            assert_eq!(agreed.contains(Capabilities::AUTO_INVAL_DATA), !exclusive);
        }
        let kept = agree(&FsOptions { passthrough: false, ..OPTIONS }, Capabilities::all());
        assert!(!kept.negotiated.passthrough && kept.answer.max_stack_depth == 0);
    }

    #[test]
    fn other_versions_get_the_answer_the_protocol_has_for_them() {
        let all = Capabilities::all();
        assert!(matches!(respond(&OPTIONS, &offer(8, 0, all)), Response::NameVersion));
        assert!(matches!(respond(&OPTIONS, &offer(6, 45, all)), Response::Refuse));
        assert!(matches!(respond(&OPTIONS, &offer(7, MINOR_MIN - 1, all)), Response::Refuse));
        assert!(matches!(respond(&OPTIONS, &offer(7, 99, all)), Response::Agree(_)));
    }
}
