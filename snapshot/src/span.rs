//! Page-aligned stretches of an address space.

use std::fmt;

/// Bytes of a page on every processor that the engine knows.
pub const PAGE: u64 = 4096;

/// The addresses from `start` up to, not including, `end`; both page-aligned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first.
    pub start: u64,
    /// The one behind the last.
    pub end: u64,
}

impl Span {
    /// From `start` to `end`.
    #[must_use]
    pub fn new(start: u64, end: u64) -> Self {
        debug_assert!(start <= end && start.is_multiple_of(PAGE) && end.is_multiple_of(PAGE));
        Self { start, end }
    }

    /// In bytes.
    #[must_use]
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    pub(crate) fn pages(self) -> u64 {
        self.len() / PAGE
    }

    /// True if there is no address in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// True if this address is in it.
    #[must_use]
    pub fn contains(self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    /// What both have; empty if nothing.
    pub(crate) fn intersection(self, other: Self) -> Self {
        let start = self.start.max(other.start);
        Self {
            start,
            end: self.end.min(other.end).max(start),
        }
    }

    /// Each page's address.
    pub fn page_addresses(self) -> impl Iterator<Item = u64> {
        (self.start..self.end).step_by(PAGE as usize)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.start, self.end)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.start, self.end)
    }
}
