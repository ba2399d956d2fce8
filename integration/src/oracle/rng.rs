//! Random choices that a seed decides, today and in later versions: SplitMix64, written out, since generators of
//! crates may change their streams and a seed in a report has to mean the same for years.
//!
//! Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014.

/// A stream of random choices.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own, so that more choices made here change none made elsewhere.
    pub fn fork(&mut self, label: &str) -> Self {
        let mut state = self.0;
        for byte in label.bytes() {
            state = state.rotate_left(9) ^ u64::from(byte);
            state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        let mut fork = Self(state);
        fork.next();
        fork
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of these; `None` when there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    /// One of these; the default when there is none.
    pub fn one<T: Copy + Default>(&mut self, of: &[T]) -> T {
        self.pick(of).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_for_ever() {
        // Known answers of the published algorithm for seed 1234567.
        let mut rng = Rng::new(1_234_567);
        let stream: Vec<u64> = (0..3).map(|_| rng.next()).collect();
        assert_eq!(stream, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn a_fork_is_not_moved_by_choices_made_beside_it() {
        let mut one = Rng::new(7);
        let mut other = Rng::new(7);
        let (mut left, mut right) = (one.fork("tree"), other.fork("tree"));
        left.below(10);
        assert_eq!(one.fork("ops").next(), other.fork("ops").next());
        right.below(10);
        assert_eq!(left.next(), right.next());
    }
}
