//! A small generator of random numbers, so that a run that failed can be repeated.

/// xorshift64* (Vigna, 2016).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Seeded from `REFUNCTION_TEST_SEED` if that is set, else from the clock. The
    /// seed is printed: a failed test shows what it printed.
    ///
    /// # Panics
    /// The variable is no number.
    #[must_use]
    pub fn from_environment() -> Self {
        let seed = match std::env::var("REFUNCTION_TEST_SEED") {
            Ok(seed) => seed.parse().expect("REFUNCTION_TEST_SEED is a number"),
            Err(_) => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(1, |since| since.as_nanos() as u64),
        };
        println!("REFUNCTION_TEST_SEED={seed}");
        Self(seed | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Another generator, for a thread of its own.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.number() | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.number() >> 32) % bound
    }

    /// One of them.
    pub fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}
