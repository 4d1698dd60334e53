//! Signals that wait, and signals that come at the wrong time.

use super::{
    Either, Lost, Mutation, Rewound, action, answer, block_all, call, forked, must, on_signal,
};

pub const ALL: &[Mutation] = &[
    Mutation::new(
        "leave_a_breakpoint_pending",
        Rewound,
        leave_a_breakpoint_pending,
    ),
    Mutation::new("queue_signals", Rewound, queue_signals),
    Mutation::new(
        "leave_every_signal_pending",
        Rewound,
        leave_every_signal_pending,
    ),
    Mutation::staying(
        "handle_a_signal_for_ever",
        Rewound,
        handle_a_signal_for_ever,
    ),
    Mutation::staying("signal_itself_without_end", Rewound, || {
        action(libc::SIGUSR1, on_signal as *const () as usize);
        answer();
        let own = std::process::id().into();
        loop {
            call(libc::SYS_kill, [own, libc::SIGUSR1.into(), 0, 0]);
        }
    }),
    Mutation::new("stop_while_threads_spin", Lost("WorkerStopped"), || {
        super::leave_threads_spinning();
        let own = std::process::id().into();
        call(libc::SYS_kill, [own, libc::SIGSTOP.into(), 0, 0]);
        // Another thread may be the one that takes it.
        loop {
            call(libc::SYS_pause, [0; 4]);
        }
    }),
    Mutation::new("be_stopped_and_continued", Either, be_stopped_and_continued),
    Mutation::new(
        "have_timers_fire_all_the_time",
        Rewound,
        have_timers_fire_all_the_time,
    ),
    Mutation::new("be_signalled_by_a_child", Rewound, || {
        action(libc::SIGUSR1, on_signal as *const () as usize);
        let own = std::process::id().into();
        forked(|| {
            loop {
                call(libc::SYS_kill, [own, libc::SIGUSR1.into(), 0, 0]);
            }
        });
        0
    }),
];

/// Signals that a handler was told of in a way that no program is.
const SI_KERNEL: i32 = 0x80;

fn own() -> i64 {
    std::process::id().into()
}

/// The very signal by which the engine's routine says that it is done, so many
/// times as one can wait.
fn leave_a_breakpoint_pending() -> i64 {
    super::scribble_on_heap();
    block_all();
    must(queue(libc::SIGTRAP, SI_KERNEL));
    must(call(
        libc::SYS_tgkill,
        [own(), own(), libc::SIGTRAP.into(), 0],
    ))
}

/// Sends one to this process, with an origin and a value of its own choice.
fn queue(signal: i32, code: i32) -> i64 {
    // siginfo_t: number, error, code, padding, sender, user, value.
    let mut info = [0i32; 32];
    (info[0], info[2], info[6]) = (signal, code, 0x5ec2);
    let at = info.as_ptr() as i64;
    call(libc::SYS_rt_sigqueueinfo, [own(), signal.into(), at, 0])
}

fn queue_signals() -> i64 {
    block_all();
    for _ in 0..1000 {
        must(queue(libc::SIGRTMIN() + 1, libc::SI_QUEUE));
    }
    queue(libc::SIGRTMAX(), libc::SI_QUEUE)
}

fn leave_every_signal_pending() -> i64 {
    block_all();
    for signal in 1..=64 {
        if ![libc::SIGKILL, libc::SIGSTOP].contains(&signal) {
            // libc keeps two for itself, which the kernel knows nothing of.
            must(call(libc::SYS_kill, [own(), signal.into(), 0, 0]));
            must(call(libc::SYS_tgkill, [own(), own(), signal.into(), 0]));
        }
    }
    0
}

extern "C" fn spin_in_a_handler(_: i32) {
    answer();
    loop {
        std::hint::spin_loop();
    }
}

/// Is caught on the alternate stack, with signals blocked by its handler.
fn handle_a_signal_for_ever() -> ! {
    super::use_an_alternate_stack();
    // SAFETY: plain data; the handler touches nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = spin_in_a_handler as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK;
        libc::sigfillset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
        libc::raise(libc::SIGUSR1);
    }
    unreachable!("the handler does not return")
}

/// While the worker stands still and is put back, too.
fn have_timers_fire_all_the_time() -> i64 {
    for signal in [libc::SIGALRM, libc::SIGVTALRM, libc::SIGPROF] {
        action(signal, on_signal as *const () as usize);
    }
    // Faster than a tracer that shares its core lets it go, and it gets nowhere.
    super::start_interval_timers_of(1000)
}

fn be_stopped_and_continued() -> i64 {
    let own = own();
    // Not for ever: a process that is signalled faster than its tracer lets it go gets
    // nowhere, and would not answer.
    forked(|| {
        for _ in 0..100_000 {
            call(libc::SYS_kill, [own, libc::SIGSTOP.into(), 0, 0]);
            call(libc::SYS_kill, [own, libc::SIGCONT.into(), 0, 0]);
        }
    });
    0
}
