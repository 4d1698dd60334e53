//! Threads and processes, made as no library makes them.

use std::sync::atomic::{AtomicU32, Ordering};

use libc::{
    CLONE_FILES, CLONE_FS, CLONE_PARENT, CLONE_SIGHAND, CLONE_THREAD, CLONE_UNTRACED, CLONE_VFORK,
    CLONE_VM, SIGCHLD, c_int, c_void,
};
use refunction_snapshot::Row;

use super::{
    Denied, Either, Lost, Mutation, PAGE, Refused, Rewound, answer, ballast_page, call, outcome,
    sleep_forever,
};

pub const ALL: &[Mutation] = &[
    Mutation::new("leave_a_sibling", Rewound, || {
        fork_with(CLONE_PARENT | SIGCHLD)
    }),
    Mutation::new("leave_a_silent_sibling", Rewound, || {
        fork_with(CLONE_PARENT)
    }),
    Mutation::new("leave_a_silent_child", Rewound, || fork_with(0)),
    Mutation::new("share_memory_with_a_child", Rewound, || {
        start(CLONE_VM | SIGCHLD, write_without_end)
    }),
    Mutation::new("share_memory_with_a_sibling", Rewound, || {
        start(CLONE_VM | CLONE_PARENT, write_without_end)
    }),
    Mutation::new("share_everything_with_a_child", Rewound, || {
        start(
            CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | SIGCHLD,
            change_without_end,
        )
    }),
    Mutation::new("share_descriptors_with_a_child", Rewound, || {
        start(CLONE_FS | CLONE_FILES | SIGCHLD, change_without_end)
    }),
    Mutation::new("leave_a_thread_with_a_table_of_its_own", Rewound, || {
        start(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD, change_without_end)
    }),
    Mutation::new("have_a_child_set_flags", Rewound, || {
        // Its table is its own; what the descriptor leads to is not.
        have_done(|| {
            call(libc::SYS_fcntl, [2, libc::F_SETFL.into(), SHARED_FLAGS, 0]);
        })
    }),
    Mutation::new(
        "have_a_program_make_it_less_urgent",
        Refused(Row::Scheduling),
        || {
            let worker = std::process::id().to_string();
            let nice = std::process::Command::new("renice")
                .args(["-n", "3", "-p", &worker])
                .stdout(std::process::Stdio::null())
                .status();
            i64::from(!nice.is_ok_and(|it| it.success()))
        },
    ),
    Mutation::new("leave_an_untraced_child", Denied(libc::EPERM), || {
        outcome(call(
            libc::SYS_clone,
            [(CLONE_UNTRACED | SIGCHLD).into(), 0, 0, 0],
        ))
    }),
    Mutation::new("clone_the_new_way", Denied(libc::ENOSYS), || {
        outcome(call(libc::SYS_clone3, [0; 4]))
    }),
    Mutation::staying("hang_in_a_vfork", Rewound, || {
        start(CLONE_VM | CLONE_VFORK | SIGCHLD, answer_and_sleep);
        unreachable!("the child does not let go")
    }),
    Mutation::new(
        "hang_a_thread_in_a_vfork",
        Rewound,
        hang_a_thread_in_a_vfork,
    ),
    Mutation::new(
        "make_two_thousand_threads",
        Rewound,
        make_two_thousand_threads,
    ),
    Mutation::new("leave_a_thousand_zombies", Rewound, || {
        start_many(1000);
        0
    }),
    Mutation::new("start_too_many_processes", Refused(Row::Children), || {
        // One more than a rewind reaps.
        start_many(4097);
        0
    }),
    Mutation::staying(
        "end_the_main_thread",
        Refused(Row::Worker),
        end_the_main_thread,
    ),
    Mutation::new("execute_from_a_thread", Lost("WorkerExecuted"), || {
        std::thread::spawn(execute);
        sleep_forever();
        0
    }),
    Mutation::new("execute_a_little_later", Either, || {
        std::thread::spawn(execute);
        0
    }),
    Mutation::new("execute_nothing_from_a_thread", Rewound, || {
        std::thread::spawn(|| call(libc::SYS_execve, [c"/nothing".as_ptr() as i64, 0, 0, 0]))
            .join()
            .map_or(1, |_| 0)
    }),
];

/// Like fork(2), with these flags.
/// Of the descriptor that a worker prints to.
const SHARED_FLAGS: i64 = (libc::O_WRONLY | libc::O_NONBLOCK) as i64;

/// Has a child do something, and waits for its end.
fn have_done(what: impl FnOnce()) -> i64 {
    let child = super::forked(what);
    // SAFETY: waits for a child of its own.
    i64::from(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) } != child)
}

fn fork_with(flags: c_int) -> i64 {
    match call(libc::SYS_clone, [flags.into(), 0, 0, 0]) {
        0 => {
            sleep_forever();
            unreachable!()
        }
        -1 => outcome(-1),
        _ => 0,
    }
}

/// Starts something on a stack of its own, whatever it then is.
fn start(flags: c_int, run: extern "C" fn(*mut c_void) -> c_int) -> i64 {
    const STACK: usize = 16 * PAGE;
    let stack = Box::leak(vec![0u128; STACK / 16].into_boxed_slice());
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: the stack is never freed.
    outcome(unsafe { libc::clone(run, top.cast(), flags, std::ptr::null_mut()) }.into())
}

extern "C" fn write_without_end(_: *mut c_void) -> c_int {
    let page = ballast_page();
    for value in 0.. {
        // SAFETY: the ballast is writable; nothing else writes to it meanwhile.
        unsafe { page.write_volatile(value as u8) };
    }
    0
}

/// Without a call to the C library, whose state belongs to the main thread.
extern "C" fn change_without_end(_: *mut c_void) -> c_int {
    let set = u64::MAX << 40;
    loop {
        // SAFETY: calls that change what this process shares, and no memory.
        unsafe {
            std::arch::asm!("syscall", inlateout("rax") libc::SYS_umask => _, in("rdi") 0o777,
                out("rcx") _, out("r11") _);
            std::arch::asm!("syscall", inlateout("rax") libc::SYS_chdir => _,
                in("rdi") c"/tmp".as_ptr(), out("rcx") _, out("r11") _);
            std::arch::asm!("syscall", inlateout("rax") libc::SYS_dup => _, in("rdi") 0,
                out("rcx") _, out("r11") _);
            std::arch::asm!("syscall", inlateout("rax") libc::SYS_rt_sigprocmask => _,
                in("rdi") libc::SIG_BLOCK, in("rsi") &raw const set, in("rdx") 0, in("r10") 8,
                out("rcx") _, out("r11") _);
        }
    }
}

extern "C" fn answer_and_sleep(_: *mut c_void) -> c_int {
    answer();
    sleep_forever();
    0
}

extern "C" fn note_and_sleep(_: *mut c_void) -> c_int {
    HANGING.store(1, Ordering::Release);
    sleep_forever();
    0
}

extern "C" fn end(_: *mut c_void) -> c_int {
    0
}

static HANGING: AtomicU32 = AtomicU32::new(0);

fn hang_a_thread_in_a_vfork() -> i64 {
    std::thread::spawn(|| start(CLONE_VM | CLONE_VFORK | SIGCHLD, note_and_sleep));
    while HANGING.load(Ordering::Acquire) == 0 {
        std::thread::yield_now();
    }
    0
}

fn make_two_thousand_threads() -> i64 {
    for _ in 0..2000 {
        std::thread::Builder::new()
            .stack_size(16 << 10)
            .spawn(sleep_forever)
            .expect("thread");
    }
    0
}

/// Processes that end at once, and are left to be reaped. They share this one's
/// memory until then, which spares copying it.
fn start_many(count: u32) {
    for _ in 0..count {
        assert_eq!(start_small(), 0);
    }
}

fn start_small() -> i64 {
    let mut stack = [0u128; 64];
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: the parent waits until the child, which needs little, is gone.
    outcome(
        unsafe {
            libc::clone(
                end,
                top.cast(),
                CLONE_VM | CLONE_VFORK | SIGCHLD,
                std::ptr::null_mut(),
            )
        }
        .into(),
    )
}

/// Ends the thread that is the process to everybody else, while another runs on.
fn end_the_main_thread() -> ! {
    std::thread::spawn(|| {
        let stat = format!("/proc/self/task/{}/stat", std::process::id());
        while !std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z ")) {
            std::thread::yield_now();
        }
        answer();
        sleep_forever();
    });
    call(libc::SYS_exit, [0; 4]);
    unreachable!("it is gone")
}

fn execute() {
    let arguments = [c"/bin/sleep".as_ptr(), c"3600".as_ptr(), std::ptr::null()];
    let path = arguments[0] as i64;
    call(libc::SYS_execve, [path, arguments.as_ptr() as i64, 0, 0]);
}
