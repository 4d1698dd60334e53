//! The operations of a rewinding program by the handlers that they are.
//!
//! Programs that only read, at the ready point and when a rewind is verified, stay
//! whole: verifying is one of the things that should notice.

use std::mem::offset_of;

use libc::c_long;

use super::chosen::leaves_out;
use crate::row::Row;
use crate::stub::{Annex, Kind, Program, Step};

/// Takes the operations of the chosen handler out of a program.
///
/// # Panics
/// An operation belongs to no handler: it would never be tried.
pub(crate) fn leave_out(program: &mut Program, annex: &Annex) {
    let mut before = 0;
    let mut prelude = true;
    program.retain(|row, step| {
        if let Kind::Call(number) = step.kind {
            // Timers are disarmed first of all, then pending signals are dropped by
            // dispositions of their own, which their handler's own name stands for.
            prelude &= [libc::SYS_setitimer, libc::SYS_rt_sigaction].contains(&number);
            if prelude && number == libc::SYS_rt_sigaction {
                return true;
            }
        }
        let names = names(row, &step, before, annex)
            .unwrap_or_else(|| panic!("no handler has the operation {step:?} of {row}"));
        if let Kind::Call(number) = step.kind {
            before = number;
        }
        // Each is asked for, whichever is chosen.
        names.iter().filter(|name| leaves_out(name)).count() == 0
    });
}

fn names(row: Row, step: &Step, before: c_long, annex: &Annex) -> Option<&'static [&'static str]> {
    Some(match step.kind {
        Kind::Copy if annex.table.contains(step.args[1]) => &["pages:overlay"],
        Kind::Copy if step.args[1] == annex.view.start + crate::span::PAGE => &["pages:copy-zeros"],
        Kind::Copy => &["pages:copy-from-the-image"],
        Kind::Refresh => &["pages:refresh"],
        Kind::Extended => &["registers:extended"],
        Kind::Zero => &["pages:scratch"],
        Kind::Equal => compared(before, step.args[0] - annex.scratch.start)?,
        Kind::Call(number) => called(row, number, step)?,
    })
}

/// What is compared that the call before it wrote, this far into the scratch area.
fn compared(before: c_long, offset: u64) -> Option<&'static [&'static str]> {
    const MODE: u64 = offset_of!(libc::stat, st_mode) as u64;
    Some(match before {
        libc::SYS_prlimit64 => &["limits"],
        libc::SYS_sched_getattr => &["scheduling:policy"],
        libc::SYS_sched_getaffinity => &["scheduling:affinity"],
        libc::SYS_ioctl => &["descriptors:unread"],
        libc::SYS_fstat if offset == MODE => &["descriptors:mode"],
        // Device, inode, owner and group, which vouch for each other.
        libc::SYS_fstat => &["descriptors:identity"],
        _ => return None,
    })
}

fn called(row: Row, number: c_long, step: &Step) -> Option<&'static [&'static str]> {
    let [first, second, third, fourth, ..] = step.args;
    Some(match (row, number) {
        // What is read for a comparison goes with the comparison.
        (Row::Limits, libc::SYS_prlimit64)
        | (Row::Scheduling, libc::SYS_sched_getattr | libc::SYS_sched_getaffinity)
        | (Row::Descriptors, libc::SYS_fstat) => &[],
        (Row::Scheduling, libc::SYS_ioprio_get) => &["scheduling:io-priority"],
        // A session of one's own has a group of its own.
        (Row::Attributes, libc::SYS_getsid) => &["attributes:session-and-group"],
        (Row::Attributes, libc::SYS_getpgid) => {
            &["attributes:process-group", "attributes:session-and-group"]
        }
        (Row::Attributes, libc::SYS_umask) => &["attributes:umask"],
        (Row::Attributes, libc::SYS_chdir) => &["attributes:directory"],
        (Row::Attributes, libc::SYS_prctl) => match first as i32 {
            libc::PR_SET_NAME => &["attributes:name"],
            libc::PR_SET_PDEATHSIG => &["attributes:death-signal"],
            libc::PR_SET_TIMERSLACK => &["attributes:timer-slack"],
            libc::PR_SET_CHILD_SUBREAPER => &["attributes:subreaper"],
            // Nothing clears it but what is recorded.
            libc::PR_SET_DUMPABLE => &[],
            _ => return None,
        },
        (Row::Children, libc::SYS_wait4) => &["children:reap"],
        (Row::Break, libc::SYS_brk) if step.is_checked => &["break"],
        (Row::Break, libc::SYS_brk) => &["break:first"],
        (Row::Mappings, libc::SYS_munmap) => &["mappings:unmap"],
        (Row::Mappings, libc::SYS_mprotect) if third & libc::PROT_GROWSDOWN as u64 != 0 => {
            &["mappings:stack-grows"]
        }
        (Row::Mappings, libc::SYS_mprotect) => &["mappings:protect"],
        (Row::Mappings, libc::SYS_mmap) if fourth & libc::MAP_ANONYMOUS as u64 != 0 => {
            &["mappings:map-anonymous"]
        }
        (Row::Mappings, libc::SYS_mmap) => &["mappings:map-from-the-image"],
        (Row::Pages, libc::SYS_madvise) => &["pages:drop"],
        (Row::Pages, libc::SYS_mprotect) => &["pages:open-read-only-overlay"],
        (Row::Descriptors, libc::SYS_close) => &["descriptors:close"],
        (Row::Descriptors, libc::SYS_setsockopt) => &["descriptors:cut-connections-off"],
        // Counts of events, and what is in a pipe.
        (Row::Descriptors, libc::SYS_read | libc::SYS_write) => &["descriptors:counts"],
        (Row::Descriptors, libc::SYS_ioctl) => &[],
        (Row::Descriptors, libc::SYS_lseek) => &["descriptors:offset"],
        (Row::Descriptors, libc::SYS_flock) => &["descriptors:flock"],
        (Row::Descriptors, libc::SYS_utimensat) => &["descriptors:times"],
        (Row::Descriptors, libc::SYS_fcntl) => match second as i32 {
            libc::F_SETFL => &["descriptors:flags"],
            libc::F_GETFL => &["descriptors:direction"],
            libc::F_SETFD | libc::F_GETFD => &["descriptors:close-on-exec"],
            libc::F_SETLK => &["descriptors:posix-locks"],
            libc::F_OFD_SETLK => &["descriptors:description-locks"],
            _ => return None,
        },
        (Row::Signals, libc::SYS_rt_sigaction) if first < 32 => &["signals:standard-dispositions"],
        (Row::Signals, libc::SYS_rt_sigaction) => &["signals:real-time-dispositions"],
        (Row::Signals, libc::SYS_sigaltstack) => &["signals:alternate-stack"],
        (Row::Timers, libc::SYS_setitimer) => match first as i32 {
            libc::ITIMER_REAL => &["timers:real"],
            libc::ITIMER_VIRTUAL => &["timers:virtual"],
            libc::ITIMER_PROF => &["timers:profiling"],
            _ => return None,
        },
        (Row::ThreadAreas, libc::SYS_rseq) if step.args[2] == RSEQ_FLAG_UNREGISTER => {
            &["rseq:unregister", "rseq:both"]
        }
        (Row::ThreadAreas, libc::SYS_rseq) => &["rseq:register", "rseq:both"],
        (Row::ThreadAreas, libc::SYS_set_robust_list) => &["robust-list"],
        (Row::ThreadAreas, libc::SYS_set_tid_address) => &["tid-address"],
        _ => return None,
    })
}

const RSEQ_FLAG_UNREGISTER: u64 = 1;
