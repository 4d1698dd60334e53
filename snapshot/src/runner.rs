//! Runs programs for the stub in one stopped process.

use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::unistd::Pid;

use crate::arch::Registers;
use crate::image::Image;
use crate::ptrace;
use crate::row::{Row, Taint};
use crate::stub::Program;
use crate::tracer::Tracer;

/// All signals but the breakpoint's: nothing interrupts the stub.
pub(crate) const ALL_BUT_TRAP: u64 = !(1 << (libc::SIGTRAP - 1));

/// Signals of the breakpoint's number that can wait: one for the thread, one for its
/// process.
pub(crate) const PENDING_TRAPS: usize = 2;

/// Runs programs in one stopped process.
pub(crate) struct Runner<'a> {
    pub(crate) tracer: &'a mut Tracer,
    pub(crate) pid: Pid,
    pub(crate) registers: &'a Registers,
    pub(crate) table: &'a File,
    pub(crate) image: &'a Image,
    pub(crate) bytes: &'a mut Vec<u8>,
}

impl Runner<'_> {
    pub(crate) fn run(&mut self, program: &Program) -> Result<(), Taint> {
        let failed = |doing: &str, error: &dyn std::fmt::Display| {
            Taint::new(Row::Worker, format!("{doing}: {error}"))
        };
        ptrace::set_signal_mask(self.pid, ALL_BUT_TRAP)
            .map_err(|error| failed("holding signals back", &error))?;
        ptrace::leave_critical_section(self.pid)
            .map_err(|error| Taint::new(Row::ThreadAreas, error.to_string()))?;
        let annex = &self.image.annex;
        let entry = self.registers.entering(annex.code, annex.table.start);
        for batch in 0..program.batches() {
            program
                .write_batch(batch, self.table, self.bytes)
                .map_err(|error| failed("writing the table", &error))?;
            ptrace::set_registers(self.pid, &entry)
                .map_err(|error| failed("entering the stub", &error))?;
            let outcome = self.run_to_breakpoint()?.stub_outcome();
            // The addresses in it say what the last tenant touched.
            self.bytes.fill(0);
            self.table
                .write_all_at(self.bytes, 0)
                .map_err(|error| failed("clearing the table", &error))?;
            if outcome.failed {
                let (row, what) = program.failure(batch, annex, outcome.operation, outcome.value);
                return Err(Taint::new(row, what));
            }
        }
        Ok(())
    }

    /// Lets the process go until it stands at the stub's end. A tenant can leave the
    /// breakpoint's signal pending, which stops it once more before that.
    fn run_to_breakpoint(&mut self) -> Result<Registers, Taint> {
        let failed =
            |error: &dyn std::fmt::Display| Taint::new(Row::Worker, format!("the stub: {error}"));
        for _ in 0..=PENDING_TRAPS {
            self.tracer
                .run_until_trap(self.pid, "running the stub")
                .map_err(|error| failed(&error))?;
            let registers = ptrace::registers(self.pid).map_err(|error| failed(&error))?;
            if registers.is_behind_breakpoint(self.image.annex.code) {
                return Ok(registers);
            }
        }
        Err(failed(&"it did not get to its end"))
    }
}
