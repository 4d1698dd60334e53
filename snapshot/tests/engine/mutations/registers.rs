//! Registers, of every kind that a thread has.

use std::arch::{asm, is_x86_feature_detected};
use std::sync::atomic::Ordering;

use refunction_snapshot::Row;

use super::{
    Either, Mutation, Recorded, Refused, Rewound, action, answer, call, on_signal, sleep_forever,
};
use crate::guest::COUNTER;

pub const ALL: &[Mutation] = &[
    Mutation::staying("fill_every_register", Rewound, fill_every_register),
    Mutation::new("fill_the_x87_stack", Rewound, fill_the_x87_stack),
    Mutation::new("load_segment_registers", Rewound, load_segment_registers),
    Mutation::new("move_the_gs_base", Rewound, move_the_gs_base),
    Mutation::staying("move_the_fs_base", Rewound, move_the_fs_base),
    Mutation::staying("forbid_itself_all_access", Either, forbid_itself_all_access),
    Mutation::staying("step_through_itself", Rewound, step_through_itself),
    Mutation::staying("abort_into_its_own_code", Rewound, || {
        abort_into_its_own_code(false)
    }),
    Mutation::staying("abort_a_thread_into_its_own_code", Rewound, || {
        std::thread::spawn(|| abort_into_its_own_code(true));
        sleep_forever();
        unreachable!("nothing wakes it")
    }),
    Mutation::new("define_a_segment", Refused(Row::Registers), || {
        call(libc::SYS_modify_ldt, [1, [0u32; 4].as_ptr() as i64, 16, 0]);
        0
    }),
    Mutation::new("read_the_segments", Refused(Row::Registers), || {
        call(libc::SYS_modify_ldt, [0, [0u64; 4].as_ptr() as i64, 32, 0]);
        0
    }),
    Mutation::new("set_a_thread_area", Refused(Row::Registers), || {
        call(libc::SYS_set_thread_area, [0; 4]);
        0
    }),
    Mutation::new("map_a_shadow_stack", Recorded, || {
        const MAP_SHADOW_STACK: i64 = 453;
        call(MAP_SHADOW_STACK, [0, 4096, 0, 0]);
        0
    }),
];

/// What is looked for: no address, no small number.
const KEY: u64 = 0x5ec2_e75e_c2e7;

const ARCH_SET_GS: i64 = 0x1001;
const ARCH_SET_FS: i64 = 0x1002;
const ARCH_GET_GS: i64 = 0x1004;

/// Answers with the key in every register that the call leaves alone, then fills
/// the others too.
fn fill_every_register() -> ! {
    // SAFETY: nothing returns from here; registers are all that changes.
    unsafe {
        asm!(
            "mov rax, {key}",
            "push rax",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "movq xmm\\n, rax",
            ".endr",
            "test cl, cl",
            "jz 3f",
            "vpbroadcastq zmm0, rax",
            ".irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, \
             21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
            "vmovdqa64 zmm\\n, zmm0",
            ".endr",
            ".irp n, 1, 2, 3, 4, 5, 6, 7",
            "kmovq k\\n, rax",
            ".endr",
            "3:",
            // Backwards, with alignment checked, and as many flags as there are.
            "pushfq",
            "or qword ptr [rsp], {flags}",
            "popfq",
            ".irp n, rbx, rbp, r8, r9, r10, r12, r13, r14, r15",
            "mov \\n, rax",
            ".endr",
            "mov eax, 1",
            "mov edi, 1",
            "mov edx, 2",
            "lea rsi, [rip + 4f]",
            "syscall",
            ".irp n, rax, rcx, rdx, rsi, rdi, r11, rsp",
            "mov \\n, rbx",
            ".endr",
            "2: jmp 2b",
            "4: .ascii \"0\\n\"",
            key = const KEY,
            // Carry, parity, adjust, zero, sign, direction, overflow, alignment check.
            flags = const 0x4_0cd5,
            in("cl") u8::from(is_x86_feature_detected!("avx512bw")),
            options(noreturn),
        )
    }
}

fn fill_the_x87_stack() -> i64 {
    // SAFETY: the stack is left full on purpose; nothing here calculates with it.
    unsafe {
        asm!(
            "fninit", "fldpi", "fldpi", "fldpi", "fldpi", "fldpi", "fldpi", "fldpi", "fldpi",
        );
    }
    0
}

fn load_segment_registers() -> i64 {
    // SAFETY: the flat data segment, which all of them may name.
    unsafe { asm!("mov es, {0:x}", "mov ds, {0:x}", "mov gs, {0:x}", in(reg) 0x2b) };
    0
}

fn move_the_gs_base() -> i64 {
    call(libc::SYS_arch_prctl, [ARCH_SET_GS, KEY as i64, 0, 0])
}

fn move_the_fs_base() -> ! {
    call_answer_and_spin(libc::SYS_arch_prctl, &[ARCH_SET_FS, KEY as i64])
}

/// Makes one system call, which must succeed, answers, and goes round in circles,
/// without touching anything but its own code on the way, which is where its address says.
#[inline(never)]
pub(super) fn call_answer_and_spin(number: libc::c_long, args: &[i64]) -> ! {
    let argument = |index: usize| args.get(index).copied().unwrap_or(0);
    // SAFETY: what the call takes away is not used any more.
    unsafe {
        asm!(
            "syscall",
            "cmp rax, -4096",
            "jb 3f",
            "ud2",
            "3:",
            "mov eax, 1",
            "mov edi, 1",
            "mov edx, 2",
            "lea rsi, [rip + 4f]",
            "syscall",
            "2: jmp 2b",
            "4: .ascii \"0\\n\"",
            in("rax") number,
            in("rdi") argument(0),
            in("rsi") argument(1),
            in("rdx") argument(2),
            in("r10") argument(3),
            in("r8") argument(4),
            options(noreturn),
        )
    }
}

/// Where the processor has protection keys: nothing may be read or written then,
/// by whatever code, the engine's too, which then gives up.
fn forbid_itself_all_access() -> ! {
    let has_keys = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|it| it.contains(" ospke "));
    answer();
    // SAFETY: nothing is read or written after it.
    unsafe {
        asm!(
            "test {has:l}, {has:l}",
            "jz 2f",
            "xor ecx, ecx",
            "xor edx, edx",
            "mov eax, -1",
            "wrpkru",
            "2: jmp 2b",
            has = in(reg_abcd) u32::from(has_keys),
            options(noreturn),
        )
    }
}

/// Has the trap flag set: every instruction is a signal.
fn step_through_itself() -> ! {
    action(libc::SIGTRAP, on_signal as *const () as usize);
    answer();
    // SAFETY: the handler does nothing.
    unsafe {
        asm!(
            "pushfq",
            "or qword ptr [rsp], 0x100",
            "popfq",
            "2: jmp 2b",
            options(noreturn),
        )
    }
}

/// `struct rseq_cs` (rseq(2)).
#[repr(C, align(32))]
struct CriticalSection {
    version: u32,
    flags: u32,
    start: u64,
    length: u64,
    abort: u64,
}

/// Declares the engine's routine to be its own critical section: whenever a thread
/// is let go there the kernel sends it to the abort handler instead, which says in
/// the engine's own way that all is done, or starts a process on its way out.
fn abort_into_its_own_code(as_a_thread: bool) -> ! {
    COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut section = CriticalSection {
        version: 0,
        flags: 0,
        start: super::stub() as u64,
        length: super::PAGE as u64,
        abort: 0,
    };
    // Kept up to date for as long as it runs: the kernel forgets one that the thread
    // is not in.
    // SAFETY: writes one word of the area that glibc registered, which is the
    // program's to write.
    unsafe {
        asm!(
            "lea rax, [rip + 5f]",
            "mov qword ptr [r13 + {abort}], rax",
            "mov eax, 1",
            "mov edi, 1",
            "mov edx, 2",
            "lea rsi, [rip + 4f]",
            "syscall",
            "2: mov qword ptr [r12 + 8], r13",
            "jmp 2b",
            "4: .ascii \"0\\n\"",
            // The signature that glibc registered stands before the handler.
            ".long 0x53053053",
            "5: test r14, r14",
            "jnz 6f",
            "xor r15d, r15d",
            "int3",
            "jmp 5b",
            "6: mov eax, {fork}",
            "syscall",
            "xor edi, edi",
            "mov eax, {exit}",
            "syscall",
            in("r12") super::rseq_area(),
            in("r13") &raw mut section,
            in("r14") u64::from(as_a_thread),
            fork = const libc::SYS_fork,
            exit = const libc::SYS_exit,
            abort = const std::mem::offset_of!(CriticalSection, abort),
            options(noreturn),
        )
    }
}

/// What is left in registers that no ordinary code touches.
pub fn look() -> String {
    let mut gs = 0u64;
    call(
        libc::SYS_arch_prctl,
        [ARCH_GET_GS, &raw mut gs as i64, 0, 0],
    );
    let mut x87 = [0u32; 7];
    let (mut high, mut mask) = (0u64, 0u64);
    // SAFETY: stores 28 bytes, and reads registers if they are there.
    unsafe {
        asm!("fnstenv [{0}]", "fldenv [{0}]", in(reg) &raw mut x87);
        if is_x86_feature_detected!("avx512bw") {
            asm!("vmovq {}, xmm27", "kmovq {}, k7", out(reg) high, out(reg) mask);
        }
    }
    let found = [high, mask].contains(&KEY);
    // The tag word says which x87 registers hold something.
    format!("gs {gs:#x} x87 {:#x} found {found}", x87[2])
}
