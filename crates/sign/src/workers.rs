//! One thread finds work, several do it, the caller's takes the results.
//!
//! Queues are bounded, so a tree of millions of files costs no more memory than one of hundreds.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    thread::{available_parallelism, scope},
};

use crossbeam_channel::bounded;

/// How far the finder may run ahead of the workers.
const AHEAD: usize = 1024;

/// One worker per core.
pub fn default_jobs() -> NonZeroUsize {
    available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Runs `find` in a thread, `work` in `jobs` threads, and `take` for each result in this one.
///
/// Results arrive in the order of the finds. `find` hands over its finds one by one and stops when
/// handing over returns `false`, which happens once `take` has returned `false`.
pub fn run<T: Send, R: Send>(
    jobs: NonZeroUsize,
    find: impl FnOnce(&mut dyn FnMut(T) -> bool) + Send,
    work: impl Fn(T) -> R + Sync,
    mut take: impl FnMut(R) -> bool,
) {
    let (found, to_do) = bounded::<(u64, T)>(AHEAD);
    let (done, results) = bounded::<(u64, R)>(AHEAD);
    scope(|threads| {
        threads.spawn(move || {
            let mut number = 0..;
            find(&mut |item| number.next().is_some_and(|n| found.send((n, item)).is_ok()));
        });
        for _ in 0..jobs.get() {
            let (to_do, done, work) = (to_do.clone(), done.clone(), &work);
            threads.spawn(move || {
                for (number, item) in to_do {
                    if done.send((number, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop((to_do, done));
        let mut early = BTreeMap::new();
        let mut next = 0;
        for (number, result) in results {
            early.insert(number, result);
            while let Some(result) = early.remove(&next) {
                next += 1;
                if !take(result) {
                    return;
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_find_becomes_one_result_in_order() {
        let mut results = Vec::new();
        run(
            NonZeroUsize::new(4).unwrap(),
            |give| assert!((0..10_000_u64).all(give)),
            |n| n * 2,
            |n| {
                results.push(n);
                true
            },
        );
        assert!(results.iter().copied().eq((0..10_000).map(|n| n * 2)));
    }

    #[test]
    fn refusing_a_result_stops_the_finder() {
        let mut taken = 0;
        run(
            NonZeroUsize::MIN,
            |give| while give(1) {},
            |n| n,
            |n| {
                taken += n;
                taken < 5
            },
        );
        assert_eq!(taken, 5);
    }
}
