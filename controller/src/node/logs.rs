//! What functions printed, wherever they ran: their containers come and go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use refunction_scheduler::FunctionName;

use crate::logs::LogRing;

/// Functions of which lines are kept; the one that was loaded longest ago makes room.
const MOST_FUNCTIONS: usize = 500;

/// Lines and bytes that are kept of one.
const MOST_LINES: usize = 1_000;
const MOST_BYTES: usize = 64 * 1024;

/// The lines of each function.
#[derive(Debug, Default)]
pub(super) struct Logs(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    rings: HashMap<FunctionName, (u64, Arc<LogRing>)>,
    last: u64,
}

impl Logs {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the lines of a function go that is loaded now, or is looked at.
    pub(super) fn of(&self, function: &FunctionName) -> Arc<LogRing> {
        let mut kept = self.lock();
        kept.last += 1;
        let turn = kept.last;
        if let Some((last, ring)) = kept.rings.get_mut(function) {
            *last = turn;
            return Arc::clone(ring);
        }
        if kept.rings.len() >= MOST_FUNCTIONS {
            let oldest = kept.rings.iter().min_by_key(|(_, (turn, _))| *turn);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                kept.forget(&oldest);
            }
        }
        let ring = Arc::new(LogRing::with_bounds(MOST_LINES, MOST_BYTES));
        let entry = (turn, Arc::clone(&ring));
        kept.rings.insert(function.clone(), entry);
        ring
    }

    /// Ends the following of a function that is gone.
    pub(super) fn forget(&self, function: &FunctionName) {
        self.lock().forget(function);
    }
}

impl Kept {
    fn forget(&mut self, function: &FunctionName) {
        if let Some((_, ring)) = self.rings.remove(function) {
            ring.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Source;

    #[test]
    fn the_one_that_was_loaded_longest_ago_makes_room() {
        let logs = Logs::default();
        let name = |number: usize| FunctionName::from(format!("f{number}"));
        for number in 0..MOST_FUNCTIONS {
            let ring = logs.of(&name(number));
            ring.push(Source::Stdout, None, number.to_string(), false);
        }
        logs.of(&name(0));
        logs.of(&name(MOST_FUNCTIONS));
        assert_eq!(logs.of(&name(0)).from(0).lines.len(), 1);
        assert_eq!(logs.of(&name(2)).from(0).lines.len(), 1);
        assert!(logs.of(&name(1)).from(0).lines.is_empty());
    }

    #[tokio::test]
    async fn a_deleted_function_ends_its_followers() {
        let logs = Logs::default();
        let ring = logs.of(&"f".into());
        logs.forget(&"f".into());
        let more = tokio::time::timeout(std::time::Duration::from_secs(10), ring.more(0));
        assert_eq!(more.await, Ok(false));
        assert!(!Arc::ptr_eq(&ring, &logs.of(&"f".into())));
    }
}
