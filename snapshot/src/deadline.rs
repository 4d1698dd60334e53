//! Waits until some moment, of threads that make them again when they are put back.
//!
//! `FUTEX_WAIT_BITSET` (futex(2)) takes a moment, not a length of time, and some time after the
//! snapshot the moment that stands there is over: the thread would wake at once, in each turn.
//! When it is put back it is given as much time as it had left at the snapshot instead. Then it
//! sleeps as it did, and need not be put back for as long (see [`sleeper`](crate::sleeper)).
//! The moment stands in the worker's table, to which only the engine can write.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::arch::Registers;
use crate::process::Process;
use crate::stub::{Annex, Constants};

/// A `struct timespec`.
const BYTES: usize = 16;

/// What a thread has left at least. A wait may always end late, and one that had next to
/// nothing left at the snapshot would otherwise end in the middle of each turn.
const LEAST: Duration = Duration::from_millis(100);

/// How long a thread waits at most.
pub(crate) struct Deadline {
    clock: ClockId,
    left: Duration,
    /// Of the moment, in the table.
    offset: u64,
}

impl Deadline {
    /// That of a thread with these registers, if it is about to wait until some moment; the
    /// registers then have the moment where it is to be [renewed](Self::renew).
    pub(crate) fn of(
        process: &Process,
        registers: &mut Registers,
        annex: &Annex,
        constants: &mut Constants,
    ) -> io::Result<Option<Self>> {
        let (number, [_, operation, _, moment, ..]) = registers.call_to_make();
        let operation = operation as i32;
        let command = operation & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
        if number != libc::SYS_futex || command != libc::FUTEX_WAIT_BITSET || moment == 0 {
            return Ok(None);
        }
        let clock = match operation & libc::FUTEX_CLOCK_REALTIME {
            0 => ClockId::CLOCK_MONOTONIC,
            _ => ClockId::CLOCK_REALTIME,
        };
        let mut bytes = [0; BYTES];
        process.read_memory(moment, &mut bytes)?;
        let left = moment_of(bytes).saturating_sub(now(clock)?).max(LEAST);
        let at = constants.add(annex, &[0; BYTES]);
        *registers = registers.waiting_until(at);
        Ok(Some(Self {
            clock,
            left,
            offset: at - annex.table.start,
        }))
    }

    /// Has the wait, which is about to be made again, last as long as it would have.
    pub(crate) fn renew(&self, table: &File) -> io::Result<()> {
        let moment = now(self.clock)? + self.left;
        table.write_all_at(&bytes_of(moment), self.offset)
    }
}

fn now(clock: ClockId) -> io::Result<Duration> {
    Ok(clock_gettime(clock)?.into())
}

/// One that no clock will come to is as good as any that is far off.
fn moment_of(bytes: [u8; BYTES]) -> Duration {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        i64::from_ne_bytes(word)
    };
    let seconds = u64::try_from(word(0)).unwrap_or(0);
    Duration::from_secs(seconds.min(i64::MAX as u64 / 2))
        + Duration::from_nanos(u64::try_from(word(8)).unwrap_or(0))
}

fn bytes_of(moment: Duration) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&moment.as_secs().to_ne_bytes());
    bytes[8..].copy_from_slice(&u64::from(moment.subsec_nanos()).to_ne_bytes());
    bytes
}
