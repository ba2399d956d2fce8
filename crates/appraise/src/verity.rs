//! Collecting fs-verity digests: asked of the kernel where it keeps one, else computed from the content.
//!
//! Threads take units of the file in order, each hashes the blocks of its unit into a buffer of its own, and waits with
//! the digests until those of all units before are in the tree. So the memory used depends on the number of threads and
//! not on the file. The threads are borrowed from one stock for the whole process: however many files are collected at
//! once, at most one thread per core joins those that collect.
//!
//! Lock order: [`Builder`]'s state alone; nothing is read or hashed under it but blocks of the tree.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use ima::verity::{Shape, Tree, algo_of};
use ima::{Digest, HashAlgo};
use rustix::fs::fstatfs;

use crate::collect::{Bounds, CollectError, Collected, of_one_version, read_whole};

/// Bytes a thread hashes before it takes up its next unit; a multiple of every block size.
const UNIT: usize = 512 * 1024;

/// A file of fewer units than this is done before another thread would have started.
const WORTH_HELP: u64 = 4;

/// However many cores there are: more threads only wait for the tree and for the disk.
const MOST_HELPERS: usize = 32;

/// `FUSE_SUPER_MAGIC`, include/uapi/linux/magic.h.
const FUSE_MAGIC: u64 = 0x6573_5546;

/// Where fs-verity digests come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerityDigests {
    /// From the kernel where the file has fs-verity, else computed from the content.
    Computed,
    /// From the kernel alone; other files have none, as with the kernel's own IMA.
    Backing,
}

/// Collects the fs-verity digest of `fd`, which is open for reading; `algo` is what it is computed with, in blocks of
/// 4,096 bytes and without salt, where the kernel has none.
///
/// Follows the rules of [`crate::collect()`] about files that change.
///
/// # Errors
/// [`CollectError`]; nothing may be concluded about the content then.
pub fn collect_verity(
    fd: impl AsFd,
    algo: HashAlgo,
    digests: VerityDigests,
) -> Result<Collected, CollectError> {
    collect_verity_within(fd, algo, digests, &Bounds::NONE)
}

/// The same, within `bounds`.
///
/// # Errors
/// As for [`collect_verity`]; also [`CollectError::GivenUp`] and [`CollectError::TooLarge`].
pub fn collect_verity_within(
    fd: impl AsFd,
    algo: HashAlgo,
    digests: VerityDigests,
    bounds: &Bounds<'_>,
) -> Result<Collected, CollectError> {
    let shape = Shape::plain(algo).map_err(|_| CollectError::Unavailable(algo.name()))?;
    of_one_version(fd.as_fd(), |fd, size| match (kept_by_kernel(fd), digests) {
        (Ok(Some(digest)), _) => Ok(digest),
        (Ok(None) | Err(_), VerityDigests::Computed) => compute(fd, &shape, size, bounds),
        (Ok(None), VerityDigests::Backing) => Err(CollectError::NoVerity),
        (Err(error), VerityDigests::Backing) => Err(error),
    })
}

/// Computes the digest of a file's content with a tree of any shape, whatever the kernel knows of it.
///
/// # Errors
/// As for [`collect_verity`].
pub fn compute_verity(fd: impl AsFd, shape: &Shape) -> Result<Collected, CollectError> {
    of_one_version(fd.as_fd(), |fd, size| compute(fd, shape, size, &Bounds::NONE))
}

/// The digest the kernel keeps and holds each read against; none for a file without fs-verity.
///
/// A filesystem in user space can answer what it likes and read as it likes: its word is not the kernel's.
fn kept_by_kernel(fd: BorrowedFd<'_>) -> Result<Option<Digest>, CollectError> {
    let measured = match sys::verity::measure(fd) {
        Ok(measured) => measured,
        Err(rustix::io::Errno::OVERFLOW) => return Err(CollectError::InvalidVerity),
        Err(_) => return Ok(None),
    };
    let magic = fstatfs(fd).map_err(CollectError::Stat)?.f_type;
    if u64::try_from(magic).is_ok_and(|magic| magic == FUSE_MAGIC) {
        return Ok(None);
    }
    let algo = algo_of(measured.algorithm).ok_or(CollectError::InvalidVerity)?;
    Digest::new(algo, &measured.digest).map(Some).map_err(|_| CollectError::InvalidVerity)
}

fn compute(
    fd: BorrowedFd<'_>,
    shape: &Shape,
    size: u64,
    bounds: &Bounds<'_>,
) -> Result<Digest, CollectError> {
    bounds.allow(size)?;
    let builder = Builder::new(fd, shape, size, bounds);
    let units = size.div_ceil(UNIT as u64);
    let wanted = if units < WORTH_HELP { 0 } else { usize::try_from(units - 1).unwrap_or(usize::MAX) };
    let helpers = Helpers::borrow(wanted);
    thread::scope(|scope| {
        for _ in 0..helpers.count {
            // Without a thread it takes longer, and that is all.
            if thread::Builder::new().name("verity".to_owned()).spawn_scoped(scope, || builder.run()).is_err()
            {
                break;
            }
        }
        builder.run();
    });
    drop(helpers);
    builder.finish()
}

/// One tree being built by several threads.
struct Builder<'a> {
    fd: BorrowedFd<'a>,
    shape: &'a Shape,
    size: u64,
    bounds: &'a Bounds<'a>,
    /// The next unit that nobody has taken.
    next: AtomicU64,
    state: Mutex<State<'a>>,
    /// A unit has gone into the tree, or something has failed.
    moved: Condvar,
}

struct State<'a> {
    tree: Tree<'a>,
    /// The unit the tree waits for.
    due: u64,
    failed: Option<CollectError>,
}

impl<'a> Builder<'a> {
    fn new(fd: BorrowedFd<'a>, shape: &'a Shape, size: u64, bounds: &'a Bounds<'a>) -> Self {
        let state = Mutex::new(State { tree: Tree::new(shape), due: 0, failed: None });
        Self { fd, shape, size, bounds, next: AtomicU64::new(0), state, moved: Condvar::new() }
    }

    /// Works off units until none is left.
    fn run(&self) {
        let _watch = Watch(self);
        let mut buffer = vec![0_u8; usize::try_from(self.size).unwrap_or(UNIT).min(UNIT)];
        let mut digests = Vec::with_capacity(buffer.len().div_ceil(self.shape.block_size()));
        loop {
            // Only the number counts, and each is given once; what it stands for is read from the file.
            let unit = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(offset) = unit.checked_mul(UNIT as u64).filter(|offset| *offset < self.size) else {
                return;
            };
            let length = usize::try_from(self.size - offset).unwrap_or(UNIT).min(UNIT);
            let Some(window) = buffer.get_mut(..length) else { return };
            let read = self.bounds.go_on().and_then(|()| read_whole(self.fd, window, offset, self.size));
            digests.clear();
            digests.extend(window.chunks(self.shape.block_size()).map(|block| self.shape.hash_block(block)));
            if !self.add(unit, read.map(|()| digests.as_slice())) {
                return;
            }
        }
    }

    /// Puts a unit's digests in their place; false when the tree will never be whole.
    ///
    /// Units are taken in order, so whoever has the one that is due is never waiting here.
    fn add(&self, unit: u64, digests: Result<&[Digest], CollectError>) -> bool {
        let digests = match digests {
            Ok(digests) => digests,
            Err(error) => {
                self.fail(error);
                return false;
            }
        };
        let mut state = self.state();
        while state.due != unit && state.failed.is_none() {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.failed.is_some() {
            return false;
        }
        digests.iter().for_each(|digest| state.tree.push(digest));
        state.due += 1;
        self.moved.notify_all();
        true
    }

    /// Says that the tree will never be whole.
    fn fail(&self, error: CollectError) {
        self.state().failed.get_or_insert(error);
        self.moved.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(self) -> Result<Digest, CollectError> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = state.failed {
            return Err(error);
        }
        let algo = self.shape.algo();
        state.tree.finish(self.size).map_err(|_| CollectError::Unavailable(algo.name()))
    }
}

/// A thread that ends by a panic must not leave the others waiting for its unit.
struct Watch<'b, 'a>(&'b Builder<'a>);

impl Drop for Watch<'_, '_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(CollectError::Read { offset: 0, source: rustix::io::Errno::IO });
        }
    }
}

/// Threads borrowed from the process's stock; given back when dropped.
struct Helpers {
    count: usize,
}

impl Helpers {
    /// As many as are wanted and there. Never waits: whoever collects is itself a thread.
    fn borrow(wanted: usize) -> Self {
        let mut count = 0;
        // A number of threads and nothing else: what they do is ordered by starting and joining them.
        let taken = stock().fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            count = left.min(wanted);
            Some(left - count)
        });
        Self { count: if taken.is_ok() { count } else { 0 } }
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        stock().fetch_add(self.count, Ordering::Relaxed);
    }
}

/// The helpers not at work: one fewer than there are cores.
fn stock() -> &'static AtomicUsize {
    static STOCK: OnceLock<AtomicUsize> = OnceLock::new();
    STOCK.get_or_init(|| {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        AtomicUsize::new((cores - 1).min(MOST_HELPERS))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_are_given_back_and_never_more_than_there_are() {
        let all = Helpers::borrow(usize::MAX);
        assert!(all.count <= MOST_HELPERS);
        drop(all);
        let one = Helpers::borrow(1);
        assert!(one.count <= 1);
    }

    /// Threads that hand in their units in the worst order, the last one first.
    #[test]
    fn units_go_into_the_tree_in_the_order_of_the_file() {
        let shape = Shape::plain(HashAlgo::Sha256).unwrap();
        let digests: Vec<Digest> = (0..6_u8).map(|n| shape.hash_block(&[n])).collect();
        let file = tempfile::tempfile().unwrap();
        let builder = Builder::new(file.as_fd(), &shape, 6, &Bounds::NONE);
        thread::scope(|scope| {
            for unit in (0..6).rev() {
                let (builder, digest) = (&builder, digests.get(unit..=unit).unwrap());
                scope.spawn(move || assert!(builder.add(unit as u64, Ok(digest))));
                thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        let mut tree = Tree::new(&shape);
        digests.iter().for_each(|digest| tree.push(digest));
        assert_eq!(builder.finish().unwrap(), tree.finish(6).unwrap());
    }

    #[test]
    fn whoever_waits_is_told_that_a_unit_before_has_failed() {
        let shape = Shape::plain(HashAlgo::Sha256).unwrap();
        let file = tempfile::tempfile().unwrap();
        let builder = Builder::new(file.as_fd(), &shape, 6, &Bounds::NONE);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| builder.add(1, Ok(&[])));
            assert!(!builder.add(0, Err(CollectError::Short { read: 0, expected: 6 })));
            assert!(!waiting.join().unwrap());
        });
        assert!(matches!(builder.finish(), Err(CollectError::Short { .. })));
    }

    #[test]
    fn whoever_waits_is_told_that_the_thread_before_is_gone() {
        let shape = Shape::plain(HashAlgo::Sha256).unwrap();
        let file = tempfile::tempfile().unwrap();
        let builder = Builder::new(file.as_fd(), &shape, 6, &Bounds::NONE);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| builder.add(1, Ok(&[])));
            let gone = scope.spawn(|| {
                let _watch = Watch(&builder);
                panic!("as a fault would");
            });
            assert!(gone.join().is_err());
            assert!(!waiting.join().unwrap());
        });
        assert!(builder.finish().is_err());
    }
}
