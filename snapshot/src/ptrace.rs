//! The ptrace requests that the engine uses (ptrace(2)), each with the error that
//! names it. All must come from the thread that attached.

use std::io;

use libc::{c_int, c_long, c_uint, c_void};
use nix::unistd::Pid;

use crate::arch::Registers;

/// A ptrace request failed.
#[derive(Debug, thiserror::Error)]
#[error("{request} of thread {tid}: {cause}")]
pub(crate) struct PtraceError {
    request: &'static str,
    tid: Pid,
    cause: io::Error,
}

type Result<T> = std::result::Result<T, PtraceError>;

/// `NT_X86_XSTATE` (`linux/elf.h`).
const NT_X86_XSTATE: usize = 0x202;
/// `NT_X86_SHSTK` (`linux/elf.h`).
const NT_X86_SHSTK: usize = 0x204;
/// `PTRACE_GET_RSEQ_CONFIGURATION` (`linux/ptrace.h`, since 5.13).
const GET_RSEQ_CONFIGURATION: c_uint = 0x420f;
const GETSIGMASK: c_uint = 0x420a;
const SETSIGMASK: c_uint = 0x420b;
const PEEKSIGINFO: c_uint = 0x4209;
const PEEKSIGINFO_SHARED: u32 = 1;

/// What the engine wants to hear of, on every thread and process it follows.
const OPTIONS: c_int = libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_EXITKILL;

/// # Safety
/// `data` must be what `request` asks for: a number, or a pointer to memory of the
/// size that the request reads or writes.
unsafe fn request(
    name: &'static str,
    request: c_uint,
    tid: Pid,
    addr: usize,
    data: usize,
) -> Result<c_long> {
    // SAFETY: the caller vouches for `data`; `addr` is never dereferenced in this
    // process for the requests used here, except PEEKSIGINFO's, vouched for there.
    let returned = unsafe {
        libc::ptrace(
            request,
            tid.as_raw(),
            addr as *mut c_void,
            data as *mut c_void,
        )
    };
    if returned == -1 {
        return Err(PtraceError {
            request: name,
            tid,
            cause: io::Error::last_os_error(),
        });
    }
    Ok(returned)
}

/// Attaches without stopping; what the thread creates from now on is attached too.
pub(crate) fn seize(tid: Pid) -> Result<()> {
    // SAFETY: PTRACE_SEIZE takes option bits.
    unsafe { request("PTRACE_SEIZE", libc::PTRACE_SEIZE, tid, 0, OPTIONS as usize) }?;
    Ok(())
}

/// Asks for a stop, which [`wait`](crate::wait) reports.
pub(crate) fn interrupt(tid: Pid) -> Result<()> {
    // SAFETY: takes no data.
    unsafe { request("PTRACE_INTERRUPT", libc::PTRACE_INTERRUPT, tid, 0, 0) }?;
    Ok(())
}

/// Lets a stopped thread go, delivering `signal` if it is not 0.
pub(crate) fn resume(tid: Pid, signal: c_int) -> Result<()> {
    // SAFETY: takes a signal number.
    unsafe { request("PTRACE_CONT", libc::PTRACE_CONT, tid, 0, signal as usize) }?;
    Ok(())
}

/// Leaves a thread in its group stop, listening for what ends it.
pub(crate) fn listen(tid: Pid) -> Result<()> {
    // SAFETY: takes no data.
    unsafe { request("PTRACE_LISTEN", libc::PTRACE_LISTEN, tid, 0, 0) }?;
    Ok(())
}

/// Lets a stopped thread run one instruction.
pub(crate) fn step(tid: Pid) -> Result<()> {
    // SAFETY: takes a signal number, here none.
    unsafe { request("PTRACE_SINGLESTEP", libc::PTRACE_SINGLESTEP, tid, 0, 0) }?;
    Ok(())
}

/// The message of the event that stopped the thread, such as a new thread's id.
pub(crate) fn event_message(tid: Pid) -> Result<u64> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: writes one unsigned long.
    unsafe {
        request(
            "PTRACE_GETEVENTMSG",
            libc::PTRACE_GETEVENTMSG,
            tid,
            0,
            (&raw mut message) as usize,
        )
    }?;
    Ok(message)
}

/// True if the signal that the thread is about to take is its own fault, which nobody else
/// can make it look like (sigaction(2), `si_code`).
pub(crate) fn is_own_fault(tid: Pid, signal: i32) -> Result<bool> {
    let is_fault = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL].contains(&signal);
    Ok(is_fault && is_from_kernel(tid)?)
}

/// True if the signal that the thread is about to take comes from the kernel.
pub(crate) fn is_from_kernel(tid: Pid) -> Result<bool> {
    // SAFETY: all-zero bytes are a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes one siginfo_t.
    unsafe {
        request(
            "PTRACE_GETSIGINFO",
            libc::PTRACE_GETSIGINFO,
            tid,
            0,
            (&raw mut info) as usize,
        )
    }?;
    Ok(info.si_code > 0)
}

/// Reads the general registers.
pub(crate) fn registers(tid: Pid) -> Result<Registers> {
    // SAFETY: all-zero bytes are a valid value of this plain struct.
    let mut regs: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: writes one user_regs_struct.
    unsafe {
        request(
            "PTRACE_GETREGS",
            libc::PTRACE_GETREGS,
            tid,
            0,
            (&raw mut regs) as usize,
        )
    }?;
    Ok(Registers(regs))
}

/// Writes the general registers.
pub(crate) fn set_registers(tid: Pid, registers: &Registers) -> Result<()> {
    // SAFETY: reads one user_regs_struct.
    unsafe {
        request(
            "PTRACE_SETREGS",
            libc::PTRACE_SETREGS,
            tid,
            0,
            (&raw const registers.0) as usize,
        )
    }?;
    Ok(())
}

/// Everything XSAVE keeps: x87, SSE, AVX, AVX-512, PKRU.
#[derive(Clone)]
pub(crate) struct ExtendedState(Vec<u8>);

impl ExtendedState {
    /// In the standard format (Intel SDM volume 1, 13.4).
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Where they first differ, if that is in contents: the header says which parts the
    /// processor had in use, and it may find that out anew each time that it saves them
    /// (Intel SDM volume 1, 13.6). The kernel hands out the others as they are initially.
    pub(crate) fn differs_from(&self, other: &Self) -> Option<usize> {
        /// `XSTATE_BV`.
        const IN_USE: std::ops::Range<usize> = 512..520;
        if self.0.len() != other.0.len() {
            return Some(self.0.len().min(other.0.len()));
        }
        let mut both = self.0.iter().zip(&other.0).enumerate();
        both.find_map(|(at, (one, other))| (one != other && !IN_USE.contains(&at)).then_some(at))
    }
}

/// Reads the extended state.
pub(crate) fn extended_state(tid: Pid) -> Result<ExtendedState> {
    // AMX tiles make it 11 KB; nothing known is larger than this.
    let mut bytes = vec![0u8; 64 * 1024];
    let mut io = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: the iovec describes `bytes`, which outlives the call; the kernel
    // writes at most its length and leaves the length it wrote.
    unsafe {
        request(
            "PTRACE_GETREGSET(NT_X86_XSTATE)",
            libc::PTRACE_GETREGSET,
            tid,
            NT_X86_XSTATE,
            (&raw mut io) as usize,
        )
    }?;
    bytes.truncate(io.iov_len);
    Ok(ExtendedState(bytes))
}

/// Writes the extended state, whole.
pub(crate) fn set_extended_state(tid: Pid, state: &ExtendedState) -> Result<()> {
    let io = libc::iovec {
        iov_base: state.0.as_ptr().cast_mut().cast(),
        iov_len: state.0.len(),
    };
    // SAFETY: the iovec describes the state's bytes; the kernel only reads them.
    unsafe {
        request(
            "PTRACE_SETREGSET(NT_X86_XSTATE)",
            libc::PTRACE_SETREGSET,
            tid,
            NT_X86_XSTATE,
            (&raw const io) as usize,
        )
    }?;
    Ok(())
}

/// True if the thread keeps its return addresses on a shadow stack, too.
pub(crate) fn has_shadow_stack(tid: Pid) -> bool {
    let mut pointer = 0u64;
    let mut io = libc::iovec {
        iov_base: (&raw mut pointer).cast(),
        iov_len: size_of::<u64>(),
    };
    // SAFETY: the iovec describes `pointer`, which outlives the call.
    let asked = unsafe {
        request(
            "PTRACE_GETREGSET(NT_X86_SHSTK)",
            libc::PTRACE_GETREGSET,
            tid,
            NT_X86_SHSTK,
            (&raw mut io) as usize,
        )
    };
    // A thread without one has no such registers.
    asked.is_ok()
}

/// Reads the blocked signals.
pub(crate) fn signal_mask(tid: Pid) -> Result<u64> {
    let mut mask = 0u64;
    // SAFETY: `addr` says 8 bytes, which is what `mask` has.
    unsafe {
        request(
            "PTRACE_GETSIGMASK",
            GETSIGMASK,
            tid,
            size_of::<u64>(),
            (&raw mut mask) as usize,
        )
    }?;
    Ok(mask)
}

/// Writes the blocked signals.
pub(crate) fn set_signal_mask(tid: Pid, mask: u64) -> Result<()> {
    // SAFETY: `addr` says 8 bytes, which is what `mask` has.
    unsafe {
        request(
            "PTRACE_SETSIGMASK",
            SETSIGMASK,
            tid,
            size_of::<u64>(),
            (&raw const mask) as usize,
        )
    }?;
    Ok(())
}

/// Signals that wait for the thread, and for its process.
pub(crate) fn pending_signals(tid: Pid) -> Result<Vec<c_int>> {
    #[repr(C)]
    struct Args {
        offset: u64,
        flags: u32,
        count: i32,
    }
    const BATCH: usize = 16;
    let mut found = Vec::new();
    for flags in [0, PEEKSIGINFO_SHARED] {
        let mut offset = 0;
        loop {
            let args = Args {
                offset,
                flags,
                count: BATCH as i32,
            };
            // SAFETY: all-zero bytes are a valid siginfo_t.
            let mut infos: [libc::siginfo_t; BATCH] = unsafe { std::mem::zeroed() };
            // SAFETY: `addr` points at the argument block and `data` at room for
            // the number of entries that it asks for.
            let got = unsafe {
                request(
                    "PTRACE_PEEKSIGINFO",
                    PEEKSIGINFO,
                    tid,
                    (&raw const args) as usize,
                    infos.as_mut_ptr() as usize,
                )
            }?;
            let got = usize::try_from(got).unwrap_or(0);
            found.extend(infos[..got].iter().map(|info| info.si_signo));
            offset += got as u64;
            if got < BATCH {
                break;
            }
        }
    }
    Ok(found)
}

/// Where a thread registered its restartable-sequences area (rseq(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct RseqConfiguration {
    pub(crate) pointer: u64,
    pub(crate) size: u32,
    pub(crate) signature: u32,
    pub(crate) flags: u32,
    pad: u32,
}

/// Reads the thread's rseq registration; a kernel without rseq has none.
pub(crate) fn rseq_configuration(tid: Pid) -> Option<RseqConfiguration> {
    let mut configuration = RseqConfiguration {
        pointer: 0,
        size: 0,
        signature: 0,
        flags: 0,
        pad: 0,
    };
    // SAFETY: `addr` gives the size of what `data` points at.
    let asked = unsafe {
        request(
            "PTRACE_GET_RSEQ_CONFIGURATION",
            GET_RSEQ_CONFIGURATION,
            tid,
            size_of::<RseqConfiguration>(),
            (&raw mut configuration) as usize,
        )
    };
    (asked.is_ok() && configuration.pointer != 0).then_some(configuration)
}

/// Has a stopped thread be in no critical section of its own (rseq(2)). The kernel
/// sends a thread that is let go inside one to its abort handler, wherever its
/// registers were set to; and nothing keeps a tenant from declaring the engine's code
/// to be one.
pub(crate) fn leave_critical_section(tid: Pid) -> Result<()> {
    /// Where in `struct rseq` the pointer to the section is.
    const SECTION: u64 = 8;
    let Some(rseq) = rseq_configuration(tid) else {
        return Ok(());
    };
    let at = (rseq.pointer + SECTION) as usize;
    let mut section: c_long = 0;
    // SAFETY: the bare system call, unlike glibc's wrapper, stores the word at `data`.
    let peeked = unsafe {
        libc::syscall(
            libc::SYS_ptrace,
            libc::PTRACE_PEEKDATA,
            tid.as_raw(),
            at,
            &raw mut section,
        )
    };
    if peeked == -1 {
        return Err(PtraceError {
            request: "PTRACE_PEEKDATA",
            tid,
            cause: io::Error::last_os_error(),
        });
    }
    if section != 0 {
        // SAFETY: takes a word.
        unsafe { request("PTRACE_POKEDATA", libc::PTRACE_POKEDATA, tid, at, 0) }?;
    }
    Ok(())
}
