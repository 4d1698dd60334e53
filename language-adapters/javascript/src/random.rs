//! What is drawn at random. QuickJS keeps a generator in each context, seeded with the
//! time when the context is made, which is in the template: each tenant would draw the
//! same. So `Math.random` is this one.

use std::cell::Cell;

use getrandom::Error;

/// xoshiro256++ (<https://prng.di.unimi.it>), seeded by the kernel at each restore.
pub(crate) struct Generator {
    state: Cell<[u64; 4]>,
}

impl Generator {
    /// A generator that the kernel seeded.
    pub(crate) fn new() -> Result<Self, Error> {
        let generator = Self {
            state: Cell::default(),
        };
        generator.reseed()?;
        Ok(generator)
    }

    /// Forgets everything and begins anew.
    pub(crate) fn reseed(&self) -> Result<(), Error> {
        let mut state = [0; 4];
        for word in &mut state {
            *word = getrandom::u64()?;
        }
        // All zeros would stay so; one in 2^256 seeds is this one.
        state[0] |= u64::from(state == [0; 4]);
        self.state.set(state);
        Ok(())
    }

    /// A number from 0 to 1, which it is not, in steps of 2^-53.
    pub(crate) fn next(&self) -> f64 {
        const STEP: f64 = 1.0 / (1u64 << 53) as f64;
        let [a, b, c, d] = self.state.get();
        let drawn = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state
            .set([a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)]);
        (drawn >> 11) as f64 * STEP
    }
}

/// So many bytes of the kernel's.
pub(crate) fn bytes(length: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_draws_what_the_reference_draws() {
        let generator = Generator {
            state: Cell::new([1, 2, 3, 4]),
        };
        // The first results of the authors' C for this state.
        for expected in [41_943_041_u64, 58_720_359, 3_588_806_011_781_223] {
            let drawn = generator.next() * (1u64 << 53) as f64;
            assert_eq!(drawn as u64, expected >> 11);
        }
    }

    #[test]
    fn numbers_lie_between_zero_and_one_and_are_spread() {
        let generator = Generator::new().expect("the kernel's randomness");
        let drawn: Vec<f64> = (0..10_000).map(|_| generator.next()).collect();
        assert!(drawn.iter().all(|it| (0.0..1.0).contains(it)));
        for tenth in 0..10 {
            let from = f64::from(tenth) / 10.0;
            let count = drawn
                .iter()
                .filter(|it| (from..from + 0.1).contains(*it))
                .count();
            assert!((800..1200).contains(&count), "{count} from {from}");
        }
    }

    #[test]
    fn two_seeds_draw_differently() {
        let generator = Generator::new().expect("the kernel's randomness");
        let first = generator.next().to_bits();
        generator.reseed().expect("the kernel's randomness");
        assert_ne!(first, generator.next().to_bits());
    }
}
