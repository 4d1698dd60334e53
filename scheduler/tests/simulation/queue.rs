//! What happens when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Things to come, those of one moment in the order in which they were planned.
#[derive(Debug)]
pub struct Queue<T> {
    heap: BinaryHeap<Reverse<(u64, u64, T)>>,
    planned: u64,
}

impl<T: Ord> Queue<T> {
    pub fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            planned: 0,
        }
    }

    pub fn plan(&mut self, at: u64, what: T) {
        self.planned += 1;
        self.heap.push(Reverse((at, self.planned, what)));
    }

    pub fn next(&mut self) -> Option<(u64, T)> {
        self.heap.pop().map(|Reverse((at, _, what))| (at, what))
    }
}
