//! Whose turn it is to do what others wait for.

use parking_lot::{Condvar, Mutex};

/// One at a time, and everybody who waits looks again whenever a turn ends.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    taken: Mutex<bool>,
    ended: Condvar,
}

/// A turn; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for a turn; `None` if `done` says, before or while waiting, that there is nothing left to do.
    pub(crate) fn take(&self, done: impl Fn() -> bool) -> Option<Turn<'_>> {
        let mut taken = self.taken.lock();
        while *taken && !done() {
            self.ended.wait(&mut taken);
        }
        if done() {
            return None;
        }
        *taken = true;
        Some(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock() = false;
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_works_for_all_and_nobody_is_forgotten() {
        let (turns, asked, done, works) =
            (Turns::default(), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let mine = asked.fetch_add(1, Ordering::SeqCst) + 1;
                        if let Some(_turn) = turns.take(|| done.load(Ordering::SeqCst) >= mine) {
                            let all = asked.load(Ordering::SeqCst);
                            std::thread::yield_now();
                            done.store(all, Ordering::SeqCst);
                            works.fetch_add(1, Ordering::SeqCst);
                        }
                        assert!(done.load(Ordering::SeqCst) >= mine);
                    }
                });
            }
        });
        assert!(works.into_inner() <= 1600);
    }
}
