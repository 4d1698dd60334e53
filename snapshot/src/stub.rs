//! Work for the stub: the routine that runs *inside* a stopped tracee and does
//! every fix-up in one stop, instead of a stop for each.
//!
//! Its code is a page of the sealed image memfd, mapped shared and read-only: a
//! tenant can unmap it (the mapping list shows that) but not change it. Its
//! operation table is a page run of a memfd that the tracee maps read-only and
//! the engine fills while every thread of the worker is stopped.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::report::Work;
use crate::row::Row;
use crate::span::Span;

/// One operation, as the assembly reads it.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Op {
    code: u32,
    /// Of a call's result: 0 nothing, 1 it must be `expected`, 2 store it there.
    result: u32,
    /// A system call's number, or a length in bytes.
    number: u64,
    args: [u64; 6],
    expected: i64,
}

const _: () = assert!(size_of::<Op>() == OP_BYTES);
const _: () = assert!(4 + 4 + 8 + 6 * 8 + 8 == OP_BYTES);
const OP_BYTES: usize = 72;

const END: u32 = 0;
const CALL: u32 = 1;
const COPY: u32 = 2;
const ZERO: u32 = 3;
const EQUAL: u32 = 4;
const REFRESH: u32 = 5;
const EXTENDED: u32 = 6;

const EXPECT: u32 = 1;
const STORE: u32 = 2;

/// Where in a tracee the engine's own mappings are; the same in every worker of a
/// template.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Annex {
    /// The stub's code: the image's first page, executable.
    pub(crate) code: u64,
    /// The whole image, readable.
    pub(crate) view: Span,
    /// The worker's table: operations, then constants, then the overlay.
    pub(crate) table: Span,
    /// Private memory for what system calls write; wiped after use.
    pub(crate) scratch: Span,
}

/// Bytes of the table that hold operations.
const OPS_BYTES: usize = 1 << 20;
/// Bytes of the table that hold constants.
const CONSTANTS_BYTES: usize = 64 << 10;
/// Where in the table the overlay begins.
pub(crate) const OVERLAY_OFFSET: u64 = (OPS_BYTES + CONSTANTS_BYTES) as u64;
/// Bytes of overlay that a worker may have.
pub(crate) const OVERLAY_BYTES: u64 = 64 << 20;
/// Bytes of the whole table; the overlay's part is a hole until used.
pub(crate) const TABLE_BYTES: u64 = OVERLAY_OFFSET + OVERLAY_BYTES;

/// Bytes of scratch that results of system calls may use.
pub(crate) const SCRATCH_RESULTS: u64 = 8 << 10;
/// Pages whose refreshing may be tracked in one program: a byte each.
pub(crate) const SCRATCH_MARKS: usize = 24 << 10;
/// Bytes of scratch.
pub(crate) const SCRATCH_BYTES: u64 = SCRATCH_RESULTS + SCRATCH_MARKS as u64;

/// Operations one batch may have; a longer program runs in several.
pub(crate) const BATCH: usize = OPS_BYTES / OP_BYTES - 1;

/// A list of operations, each with the row it serves.
#[derive(Default)]
pub(crate) struct Program {
    ops: Vec<Op>,
    rows: Vec<Row>,
}

impl Program {
    fn push(&mut self, row: Row, op: Op) {
        self.ops.push(op);
        self.rows.push(row);
    }

    pub(crate) fn clear(&mut self) {
        self.ops.clear();
        self.rows.clear();
    }

    pub(crate) fn append(&mut self, other: &Self) {
        self.ops.extend_from_slice(&other.ops);
        self.rows.extend_from_slice(&other.rows);
    }

    /// A system call whose result does not matter.
    pub(crate) fn call(&mut self, row: Row, number: libc::c_long, args: &[u64]) {
        self.push(row, call(number, args));
    }

    /// A system call that must return `expected`.
    pub(crate) fn checked_call(
        &mut self,
        row: Row,
        number: libc::c_long,
        args: &[u64],
        expected: i64,
    ) {
        self.push(
            row,
            Op {
                result: EXPECT,
                expected,
                ..call(number, args)
            },
        );
    }

    /// A system call whose result is stored at `at`.
    pub(crate) fn stored_call(&mut self, row: Row, number: libc::c_long, args: &[u64], at: u64) {
        self.push(
            row,
            Op {
                result: STORE,
                expected: at.cast_signed(),
                ..call(number, args)
            },
        );
    }

    pub(crate) fn copy(&mut self, row: Row, to: u64, from: u64, bytes: u64) {
        // A run that goes on where the last one ended is one operation.
        if let Some(last) = self.ops.last_mut()
            && last.code == COPY
            && last.args[0] + last.number == to
            && last.args[1] + last.number == from
        {
            last.number += bytes;
            return;
        }
        self.push(
            row,
            Op {
                code: COPY,
                number: bytes,
                args: [to, from, 0, 0, 0, 0],
                ..Op::default()
            },
        );
    }

    pub(crate) fn zero(&mut self, row: Row, at: u64, bytes: u64) {
        self.push(
            row,
            Op {
                code: ZERO,
                number: bytes,
                args: [at, 0, 0, 0, 0, 0],
                ..Op::default()
            },
        );
    }

    /// The bytes at `at` must be those at `as_at`.
    pub(crate) fn must_equal(&mut self, row: Row, at: u64, as_at: u64, bytes: u64) {
        self.push(
            row,
            Op {
                code: EQUAL,
                number: bytes,
                args: [at, as_at, 0, 0, 0, 0],
                ..Op::default()
            },
        );
    }

    /// Copies only if different, and sets the byte at `mark` then.
    pub(crate) fn refresh(&mut self, row: Row, to: u64, from: u64, bytes: u64, mark: u64) {
        debug_assert!(bytes.is_multiple_of(32));
        self.push(
            row,
            Op {
                code: REFRESH,
                number: bytes,
                args: [to, from, mark, 0, 0, 0],
                ..Op::default()
            },
        );
    }

    /// Gives the thread these extended registers, which stand at `from` in the standard format
    /// (Intel SDM volume 1, 13.4), aligned as XRSTOR wants it.
    pub(crate) fn set_extended(&mut self, row: Row, from: u64) {
        debug_assert!(from.is_multiple_of(EXTENDED_ALIGNMENT as u64));
        self.push(
            row,
            Op {
                code: EXTENDED,
                args: [from, 0, 0, 0, 0, 0],
                ..Op::default()
            },
        );
    }

    /// Leaves out what the chosen handler is.
    #[cfg(feature = "sabotage")]
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(Row, Step) -> bool) {
        let both: Vec<(Op, Row)> = (self.ops.iter().copied())
            .zip(self.rows.iter().copied())
            .filter(|(op, row)| stays(*row, Step::of(op)))
            .collect();
        (self.ops, self.rows) = both.into_iter().unzip();
    }

    /// Adds what it has the worker do.
    pub(crate) fn add_work(&self, work: &mut Work) {
        work.stops += self.batches() as u64;
        work.operations += self.ops.len() as u64;
        for op in &self.ops {
            match op.code {
                CALL => work.calls += 1,
                _ => work.bytes += op.number,
            }
        }
    }

    /// How many batches it takes.
    pub(crate) fn batches(&self) -> usize {
        self.ops.len().div_ceil(BATCH)
    }

    /// Writes one batch and its end into the table; the bytes written.
    pub(crate) fn write_batch(
        &self,
        batch: usize,
        table: &File,
        buffer: &mut Vec<u8>,
    ) -> io::Result<()> {
        buffer.clear();
        self.encode(batch, buffer);
        table.write_all_at(buffer, 0)
    }

    /// Adds one batch and its end to what is to stand in the table.
    pub(crate) fn encode(&self, batch: usize, buffer: &mut Vec<u8>) {
        let from = batch * BATCH;
        let to = self.ops.len().min(from + BATCH);
        let ops = &self.ops[from..to];
        // SAFETY: plain numbers in an order fixed by `repr(C)`, without padding (their sizes
        // add up to `OP_BYTES`), and any bytes are bytes.
        let bytes = unsafe { std::slice::from_raw_parts(ops.as_ptr().cast(), size_of_val(ops)) };
        buffer.extend_from_slice(bytes);
        buffer.extend_from_slice(&u64::from(END).to_ne_bytes());
    }

    /// Bytes that [`encode`](Self::encode) adds for a program of one batch.
    pub(crate) fn encoded_bytes(&self) -> u64 {
        (self.ops.len() * OP_BYTES + size_of::<u64>()) as u64
    }

    /// What the operation at this table address was for.
    pub(crate) fn failure(&self, batch: usize, annex: &Annex, at: u64, got: i64) -> (Row, String) {
        let index = batch * BATCH + at.saturating_sub(annex.table.start) as usize / OP_BYTES;
        let (Some(op), Some(row)) = (self.ops.get(index), self.rows.get(index)) else {
            return (
                Row::Worker,
                format!("the stub stopped outside its table, at {at:#x}"),
            );
        };
        let what = match op.code {
            CALL => format!(
                "system call {} returned {got} instead of {}",
                op.number, op.expected
            ),
            EQUAL => format!(
                "it differs from the snapshot ({} bytes compared)",
                op.number
            ),
            other => format!("operation {other} failed"),
        };
        (*row, what)
    }
}

fn call(number: libc::c_long, args: &[u64]) -> Op {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    Op {
        code: CALL,
        number: number.cast_unsigned(),
        args: all,
        ..Op::default()
    }
}

/// An operation as sabotage sees it.
#[cfg(feature = "sabotage")]
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) kind: Kind,
    pub(crate) args: [u64; 6],
    /// It must return something.
    pub(crate) is_checked: bool,
}

#[cfg(feature = "sabotage")]
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Call(libc::c_long),
    Copy,
    Zero,
    Equal,
    Refresh,
    Extended,
}

#[cfg(feature = "sabotage")]
impl Step {
    fn of(op: &Op) -> Self {
        Self {
            kind: match op.code {
                COPY => Kind::Copy,
                ZERO => Kind::Zero,
                EQUAL => Kind::Equal,
                REFRESH => Kind::Refresh,
                EXTENDED => Kind::Extended,
                _ => Kind::Call(op.number.cast_signed()),
            },
            args: op.args,
            is_checked: op.result == EXPECT,
        }
    }
}

/// Of an area that XRSTOR reads.
const EXTENDED_ALIGNMENT: usize = 64;

/// Bytes that operations point at, laid out in the table behind them.
#[derive(Default)]
pub(crate) struct Constants(Vec<u8>);

impl Constants {
    /// Where in the tracee `bytes` will stand.
    pub(crate) fn add(&mut self, annex: &Annex, bytes: &[u8]) -> u64 {
        self.add_aligned(annex, bytes, 8)
    }

    /// The same, for an area that XRSTOR is to read.
    pub(crate) fn add_extended(&mut self, annex: &Annex, bytes: &[u8]) -> u64 {
        self.add_aligned(annex, bytes, EXTENDED_ALIGNMENT)
    }

    fn add_aligned(&mut self, annex: &Annex, bytes: &[u8], to: usize) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
        let at = annex.table.start + OPS_BYTES as u64 + self.0.len() as u64;
        self.0.extend_from_slice(bytes);
        at
    }

    pub(crate) fn write(&self, table: &File) -> io::Result<()> {
        if self.0.len() > CONSTANTS_BYTES {
            return Err(io::Error::other("the stub's constants outgrow their place"));
        }
        table.write_all_at(&self.0, OPS_BYTES as u64)
    }
}
