//! A worker's descriptors: which numbers are open, and whether each still is what
//! it was.
//!
//! `fdinfo` (proc_pid_fdinfo(5)) gives offset, flags, mount and inode, locks, and
//! for event, epoll, timer and signal descriptors their contents; text that is the
//! same is a descriptor that is the same in all of that.

use std::fs::File;
use std::io::{self, Read};

use nix::unistd::{Gid, Pid, Uid, setfsgid, setfsuid};

use crate::process::Process;
use crate::row::{Row, Taint};
use crate::stub::Program;

/// The descriptors at the ready point.
pub(crate) struct Descriptors {
    /// Ascending.
    expected: Vec<(i32, Vec<u8>)>,
    open: Vec<i32>,
    text: Vec<u8>,
}

impl Descriptors {
    pub(crate) fn capture(process: &Process, owner: (Uid, Gid)) -> io::Result<Self> {
        let mut open = Vec::new();
        process.read_descriptors(&mut open)?;
        open.sort_unstable();
        let _as_owner = AsOwner::switch(owner);
        let expected = open
            .iter()
            .map(|number| {
                let mut text = Vec::new();
                read_info(process.pid, *number, &mut text)?;
                Ok((*number, text))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            expected,
            open,
            text: Vec::new(),
        })
    }

    /// Adds the closing of what the function opened; how many that are.
    ///
    /// # Errors
    /// A descriptor of the ready point is gone or is another one.
    pub(crate) fn mend(
        &mut self,
        process: &Process,
        owner: (Uid, Gid),
        program: &mut Program,
    ) -> Result<u32, Taint> {
        let failed = |doing: &str, error: io::Error| {
            Taint::new(Row::Descriptors, format!("{doing}: {error}"))
        };
        process
            .read_descriptors(&mut self.open)
            .map_err(|error| failed("listing", error))?;
        let mut closed = 0;
        let mut seen = 0;
        for number in &self.open {
            if self
                .expected
                .binary_search_by_key(number, |(number, _)| *number)
                .is_ok()
            {
                seen += 1;
            } else {
                closed += 1;
                program.call(Row::Descriptors, libc::SYS_close, &[*number as u64]);
            }
        }
        if seen != self.expected.len() {
            return Err(Taint::new(
                Row::Descriptors,
                "the function closed one that is not its own",
            ));
        }
        let _as_owner = AsOwner::switch(owner);
        for (number, expected) in &self.expected {
            read_info(process.pid, *number, &mut self.text)
                .map_err(|error| failed("reading fdinfo", error))?;
            if self.text != *expected {
                return Err(Taint::new(
                    Row::Descriptors,
                    format!("descriptor {number} is not what it was"),
                ));
            }
        }
        Ok(closed)
    }
}

fn read_info(pid: Pid, number: i32, text: &mut Vec<u8>) -> io::Result<()> {
    text.clear();
    File::open(format!("/proc/{pid}/fdinfo/{number}"))?.read_to_end(text)?;
    Ok(())
}

/// Opens files as the worker's user: the kernel shows `fdinfo` to who could trace
/// the process, and without `CAP_SYS_PTRACE` that is its own user. Only the
/// filesystem ids change, which give nobody a right over this process.
struct AsOwner(Uid, Gid);

impl AsOwner {
    fn switch((uid, gid): (Uid, Gid)) -> Self {
        let gid = setfsgid(gid);
        Self(setfsuid(uid), gid)
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        setfsuid(self.0);
        setfsgid(self.1);
    }
}
