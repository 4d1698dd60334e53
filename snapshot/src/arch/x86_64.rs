//! x86_64: the registers of a stopped thread, and the few instructions that run
//! inside a tracee.

use core::arch::{asm, global_asm};

use libc::user_regs_struct;

/// General registers of one thread (`struct user_regs_struct`, `sys/user.h`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers(pub(crate) user_regs_struct);

/// Bytes of a `syscall` instruction.
const SYSCALL_BYTES: u64 = 2;

/// What a call returns that was interrupted (`linux/errno.h`): ERESTARTSYS,
/// ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK, and EINTR, which epoll says.
const INTERRUPTED: [i64; 5] = [-512, -513, -514, -516, -(libc::EINTR as i64)];

/// Interrupts on and the always-one bit: direction and trap flags are clear.
const CLEAR_FLAGS: u64 = 0x202;

impl Registers {
    /// The same thread about to run the code at `entry`, with `table` as its
    /// operation table, on no stack of its own and outside any system call.
    pub(crate) fn entering(&self, entry: u64, table: u64) -> Self {
        let mut regs = self.0;
        regs.rip = entry;
        regs.r12 = table;
        regs.rsp = 0;
        regs.eflags = CLEAR_FLAGS;
        // Not inside a system call: nothing to restart.
        regs.orig_rax = u64::MAX;
        Self(regs)
    }

    /// The same thread about to execute the `syscall` instruction at `at`.
    pub(crate) fn calling(&self, at: u64, number: i64, args: [u64; 6]) -> Self {
        let mut regs = self.0;
        regs.rip = at;
        regs.rax = number.cast_unsigned();
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = args;
        regs.orig_rax = u64::MAX;
        Self(regs)
    }

    /// The system call that the thread was called out of before it came to anything, if
    /// there is one: with these registers it has to be made again.
    pub(crate) fn interrupted_call(&self) -> Option<i64> {
        let number = self.0.orig_rax.cast_signed();
        (number >= 0 && INTERRUPTED.contains(&self.returned())).then_some(number)
    }

    /// The same thread about to make the call again that it was called out of. What
    /// the kernel itself remembers of such a call (a timed wait's end) it remembers
    /// once, and a rewind would come too late for it.
    pub(crate) fn calling_again(&self) -> Self {
        let mut regs = self.0;
        if self.interrupted_call().is_some() {
            regs.rip -= SYSCALL_BYTES;
            regs.rax = regs.orig_rax;
            regs.orig_rax = u64::MAX;
        }
        Self(regs)
    }

    /// The call that the thread makes next, if it stands in front of one.
    pub(crate) fn call_to_make(&self) -> (i64, [u64; 6]) {
        let r = &self.0;
        let arguments = [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9];
        (r.rax.cast_signed(), arguments)
    }

    /// The same thread, with the end of its wait in futex(2) to be read at this address.
    pub(crate) fn waiting_until(&self, moment: u64) -> Self {
        let mut regs = self.0;
        regs.r10 = moment;
        Self(regs)
    }

    /// The same without what a single step into a system call leaves: that instruction
    /// copies the flags, the one that asks for the stop among them.
    pub(crate) fn as_if_not_stepped(&self) -> Self {
        const TRAP_FLAG: u64 = 1 << 8;
        let mut regs = self.0;
        regs.r11 &= !TRAP_FLAG;
        Self(regs)
    }

    /// The same in front of the wait whose time was over, if that is where it comes from:
    /// it has not executed anything since.
    pub(crate) fn as_if_still_waiting(&self) -> Self {
        let mut regs = self.0;
        let came_from = regs.orig_rax.cast_signed();
        if came_from == libc::SYS_futex && self.returned() == -i64::from(libc::ETIMEDOUT) {
            regs.rip -= SYSCALL_BYTES;
            regs.rax = regs.orig_rax;
            regs.orig_rax = u64::MAX;
        }
        Self(regs)
    }

    /// True if every register is the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        // The struct is plain words, and Debug prints each of them by name.
        format!("{:?}", self.0) == format!("{:?}", other.0)
    }

    /// What a system call returned.
    pub(crate) fn returned(&self) -> i64 {
        self.0.rax.cast_signed()
    }

    /// Where the thread is.
    pub(crate) fn instruction(&self) -> u64 {
        self.0.rip
    }

    /// True if the thread stands behind a breakpoint of the stub that is mapped at
    /// `code`, and did not stop for something else on its way there.
    pub(crate) fn is_behind_breakpoint(&self, code: u64) -> bool {
        const BREAKPOINT: u8 = 0xcc;
        self.0
            .rip
            .checked_sub(code + 1)
            .and_then(|before| usize::try_from(before).ok())
            .and_then(|before| stub_code().get(before))
            == Some(&BREAKPOINT)
    }

    /// The operation at which the stub stopped, and its verdict.
    pub(crate) fn stub_outcome(&self) -> StubOutcome {
        StubOutcome {
            operation: self.0.r12,
            failed: self.0.r15 != 0,
            value: self.0.r14.cast_signed(),
        }
    }

    /// The number of the call that the thread is stopped at, and its arguments.
    pub(crate) fn system_call(&self) -> (i64, [u64; 6]) {
        let r = &self.0;
        (
            r.orig_rax.cast_signed(),
            [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9],
        )
    }
}

/// What the stub left in its registers when it stopped.
pub(crate) struct StubOutcome {
    /// Address of the operation in hand.
    pub(crate) operation: u64,
    /// True if that operation did not give what it had to.
    pub(crate) failed: bool,
    /// What it gave instead.
    pub(crate) value: i64,
}

// The stub. It lives alone on a page that the tracee maps read-only and shared
// from a sealed memfd, uses no stack, clears all flags, and reads its work from r12: an array of
// `stub::Op` (72 bytes: code u32, what to do with a call's result u32,
// number-or-length u64, six arguments, the result expected or where to store it). It ends in a breakpoint: r15 = 0 all done,
// r15 = 1 the operation at r12 gave r14 where something else was expected.
global_asm!(
    ".pushsection .text.refunction_stub, \"ax\", @progbits",
    ".global refunction_stub_begin",
    ".global refunction_stub_exit",
    ".global refunction_stub_end",
    ".balign 16",
    "refunction_stub_begin:",
    // Processor flags that ptrace does not set (CPUID's).
    "lea rsp, [rip + 80f]",
    "popfq",
    "xor esp, esp",
    "10:",
    "mov eax, dword ptr [r12]",
    "cmp eax, 1",
    "je 20f",
    "cmp eax, 2",
    "je 30f",
    "cmp eax, 3",
    "je 40f",
    "cmp eax, 4",
    "je 50f",
    "cmp eax, 5",
    "je 60f",
    "cmp eax, 6",
    "je 90f",
    "xor r15d, r15d",
    "int3",
    // 1: a system call
    "20:",
    "mov rax, qword ptr [r12 + 8]",
    "mov rdi, qword ptr [r12 + 16]",
    "mov rsi, qword ptr [r12 + 24]",
    "mov rdx, qword ptr [r12 + 32]",
    "mov r10, qword ptr [r12 + 40]",
    "mov r8, qword ptr [r12 + 48]",
    "mov r9, qword ptr [r12 + 56]",
    "syscall",
    "mov ecx, dword ptr [r12 + 4]",
    "cmp ecx, 0",
    "je 15f",
    "mov rdx, qword ptr [r12 + 64]",
    "cmp ecx, 2",
    "je 25f",
    "cmp rax, rdx",
    "jne 70f",
    "jmp 15f",
    "25:",
    "mov qword ptr [rdx], rax",
    "15:",
    "add r12, 72",
    "jmp 10b",
    // 2: copy, page by page; what comes next is looked up meanwhile, in this operation and
    // in the one that follows (whatever stands there: a prefetch cannot fault).
    "30:",
    "mov rdx, qword ptr [r12 + 8]",
    "mov rdi, qword ptr [r12 + 16]",
    "mov rsi, qword ptr [r12 + 24]",
    "mov rax, qword ptr [r12 + 72 + 16]",
    "mov rbx, qword ptr [r12 + 72 + 24]",
    "prefetcht0 byte ptr [rax]",
    "prefetcht0 byte ptr [rbx]",
    "31:",
    "mov ecx, 4096",
    "cmp rdx, rcx",
    "cmovb rcx, rdx",
    "prefetcht0 byte ptr [rdi + 4096]",
    "prefetcht0 byte ptr [rsi + 4096]",
    "sub rdx, rcx",
    "rep movsb",
    "jnz 31b",
    "jmp 15b",
    // 3: fill with zeros
    "40:",
    "mov rcx, qword ptr [r12 + 8]",
    "mov rdi, qword ptr [r12 + 16]",
    "xor eax, eax",
    "rep stosb",
    "jmp 15b",
    // 4: must be equal
    "50:",
    "mov rcx, qword ptr [r12 + 8]",
    "mov rdi, qword ptr [r12 + 16]",
    "mov rsi, qword ptr [r12 + 24]",
    "cmp rcx, rcx",
    "repe cmpsb",
    "je 15b",
    "xor eax, eax",
    "jmp 70f",
    // 5: copy if different, and note that in the byte at the third argument.
    // The length is a multiple of 32.
    "60:",
    "mov rcx, qword ptr [r12 + 8]",
    "mov rdi, qword ptr [r12 + 16]",
    "mov rsi, qword ptr [r12 + 24]",
    "61:",
    "mov rax, qword ptr [rdi]",
    "mov rbx, qword ptr [rdi + 8]",
    "mov r8, qword ptr [rdi + 16]",
    "mov r9, qword ptr [rdi + 24]",
    "xor rax, qword ptr [rsi]",
    "xor rbx, qword ptr [rsi + 8]",
    "xor r8, qword ptr [rsi + 16]",
    "xor r9, qword ptr [rsi + 24]",
    "or rax, rbx",
    "or r8, r9",
    "or rax, r8",
    "jnz 62f",
    "add rdi, 32",
    "add rsi, 32",
    "sub rcx, 32",
    "jnz 61b",
    "jmp 15b",
    "62:",
    "rep movsb",
    "mov rdx, qword ptr [r12 + 32]",
    "mov byte ptr [rdx], 1",
    "jmp 15b",
    // 6: all extended registers, as XSAVE has them; nothing else here uses them. AMD's
    // processors leave where the last x87 instruction was, and its operand, unless an exception
    // is pending: those are this code's then, not a tenant's (Linux does so, too,
    // X86_BUG_FXSAVE_LEAK).
    "90:",
    "fnclex",
    "emms",
    "fild dword ptr [rip + 80f]",
    "mov rdi, qword ptr [r12 + 16]",
    "mov eax, -1",
    "mov edx, -1",
    "xrstor64 [rdi]",
    "jmp 15b",
    "70:",
    "mov r14, rax",
    "mov r15d, 1",
    "int3",
    // A thread sent here ends.
    "refunction_stub_exit:",
    "xor edi, edi",
    "mov eax, 60",
    "syscall",
    "int3",
    "80:",
    ".quad 0x202",
    "refunction_stub_end:",
    ".popsection",
);

unsafe extern "C" {
    static refunction_stub_begin: u8;
    static refunction_stub_exit: u8;
    static refunction_stub_end: u8;
}

/// The stub's machine code.
pub(crate) fn stub_code() -> &'static [u8] {
    let begin = &raw const refunction_stub_begin;
    let end = &raw const refunction_stub_end;
    // SAFETY: both symbols bound one run of this binary's own text, written above.
    unsafe { core::slice::from_raw_parts(begin, end.offset_from_unsigned(begin)) }
}

/// Where in [`stub_code`] a thread that must end is sent.
pub(crate) fn stub_exit_offset() -> u64 {
    let begin = &raw const refunction_stub_begin;
    let exit = &raw const refunction_stub_exit;
    exit as u64 - begin as u64
}

/// Stops here until the tracer lets go: the one place where a process is exactly
/// what its snapshot says. Without a tracer the process dies of SIGTRAP.
///
/// Two instructions follow each other: a breakpoint, then a jump over a `syscall`
/// that only the tracer runs (see [`PARKED_SYSCALL`]).
pub(crate) fn park() {
    // SAFETY: the breakpoint only hands control to the tracer, which puts every
    // register back before it lets the thread go; the clobbers cover what a traced
    // call that the tracer makes here could change in memory.
    unsafe {
        asm!("int3", "jmp 2f", "syscall", "2:", options(nostack));
    }
}

/// Distance from where a parked thread stands (behind the breakpoint) to the
/// `syscall` instruction that its tracer may use: the two-byte jump.
pub(crate) const PARKED_SYSCALL: u64 = 2;
