//! Threads of a snapshot that are left asleep: what others can do to them meanwhile.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use refunction_snapshot::{Row, Scan};

use crate::host::Host;
use crate::threads::{PATIENCE, SLEEPS_ON, pin_to_the_first_processor, sleeper};

/// Each case's name, and what it does.
pub const ALL: &[(&str, fn())] = &[
    (
        "threads_sleep_through_many_rewinds",
        they_sleep_through_many_rewinds,
    ),
    ("a_sleeper_waits_for_another_word", || {
        is_refused("requeue", Row::Threads);
    }),
    ("a_sleeper_is_less_urgent", || {
        is_refused("be_nice_to_a_sleeper", Row::Scheduling);
    }),
    ("a_sleeper_is_pinned", || {
        is_refused("pin_a_sleeper", Row::Scheduling);
    }),
    ("a_sleeper_reads_less_urgently", || {
        is_refused("change_io_priority_of_a_sleeper", Row::Scheduling);
    }),
    ("signals_wait_for_a_sleeper", signals_wait),
    ("a_threads_end_wakes_a_sleeper", || {
        is_undone("leave_a_thread_that_wakes_at_its_end");
    }),
    ("a_sleeper_is_woken_all_the_time", || {
        is_undone("keep_waking_a_sleeper");
    }),
    ("a_woken_sleeper_has_not_run_yet", woken_but_not_run),
    ("a_sleepers_time_is_over", || {
        let mut host = Host::start_runtime(Scan::Auto, "ticking");
        for _ in 0..300 {
            host.rewind().expect("rewound, whenever its time was over");
        }
    }),
    (
        "a_wait_goes_on_after_its_moment",
        a_wait_goes_on_after_its_moment,
    ),
];

/// What a worker does when asked, if it is one of these; runs in the worker.
pub fn act(what: &str) -> Option<String> {
    let outcome = match what {
        "requeue" => {
            static ELSEWHERE: AtomicI32 = AtomicI32::new(0);
            let [from, to] = [&SLEEPS_ON, &ELSEWHERE].map(|it| &raw const *it);
            // SAFETY: nobody is woken, one has another of two statics to wait on.
            unsafe { libc::syscall(libc::SYS_futex, from, libc::FUTEX_REQUEUE, 0, 1, to, 0) - 1 }
        }
        // SAFETY: an attribute of a thread of this process.
        "be_nice_to_a_sleeper" => unsafe {
            libc::setpriority(libc::PRIO_PROCESS, sleeper().cast_unsigned(), 7).into()
        },
        "pin_a_sleeper" => pin_to_the_first_processor(sleeper()),
        "change_io_priority_of_a_sleeper" => {
            const IDLE: i32 = 3 << 13;
            // SAFETY: an attribute of a thread of this process.
            unsafe { libc::syscall(libc::SYS_ioprio_set, 1, sleeper(), IDLE) }
        }
        "signal_a_sleeper" => {
            let own = std::process::id();
            // SAFETY: a signal that the thread blocks.
            unsafe { libc::syscall(libc::SYS_tgkill, own, sleeper(), libc::SIGUSR2) }
        }
        "leave_a_thread_that_wakes_at_its_end" => {
            std::thread::spawn(|| {
                // SAFETY: a static; it is written to when this thread ends.
                unsafe { libc::syscall(libc::SYS_set_tid_address, &raw const SLEEPS_ON) };
                loop {
                    std::thread::sleep(Duration::from_secs(3600));
                }
            });
            0
        }
        "keep_waking_a_sleeper" => {
            std::thread::spawn(|| {
                loop {
                    // SAFETY: wakes who waits on a static.
                    unsafe {
                        libc::syscall(libc::SYS_futex, &raw const SLEEPS_ON, libc::FUTEX_WAKE, 1)
                    };
                }
            });
            0
        }
        "waits_for_a_sleeper" => return Some(status_of_sleeper("SigPnd")),
        "how_the_sleeper_is" => return Some(status_of_sleeper("State")),
        _ => return None,
    };
    Some(outcome.to_string())
}

fn status_of_sleeper(field: &str) -> String {
    let path = format!("/proc/self/task/{}/status", sleeper());
    let status = std::fs::read_to_string(path).expect("status");
    let line = status.lines().find(|it| it.starts_with(field));
    line.expect("a line of status").to_owned()
}

fn they_sleep_through_many_rewinds() {
    // The second look would wake them.
    let mut host = Host::start_in_place(Scan::Auto).unverified();
    for round in 0..300 {
        assert_eq!(host.ask("wakes"), "0", "round {round}");
        if round % 10 == 9 {
            assert_eq!(host.ask("wake_all"), "0");
        }
        host.rewind().expect("rewound");
    }
    assert_eq!(host.ask("marks"), "8 true");
}

/// The moment until which a thread waited at the snapshot is over some time. It waits all the
/// same when it is put back after that, but not for ever: one that is left asleep comes to its
/// end in some turn.
fn a_wait_goes_on_after_its_moment() {
    let mut host = Host::start_runtime(Scan::Auto, "patient").unverified();
    let over = Instant::now() + PATIENCE;
    let (mut turns, mut ended) = (0, 0);
    while turns < 50 {
        host.rewind().expect("rewound");
        // One that wakes stops, and goes on when the host takes notice.
        host.ask("ended_waits");
        std::thread::sleep(Duration::from_millis(10));
        let has_ended = host.ask("ended_waits") != "0";
        if Instant::now() > over {
            turns += 1;
            ended += i32::from(has_ended);
        }
    }
    assert!(ended < turns / 2, "{ended} times in {turns} turns");
    host.rewind().expect("rewound");
    let deadline = Instant::now() + Duration::from_secs(30);
    while host.ask("ended_waits") == "0" {
        assert!(Instant::now() < deadline, "it waits for ever");
        std::thread::sleep(Duration::from_millis(10));
    }
    host.rewind().expect("rewound");
    assert_eq!(host.ask("ended_waits"), "0");
}

fn is_refused(act: &str, row: Row) {
    let mut host = Host::start_in_place(Scan::Auto).unverified();
    // They sleep from the first rewind on.
    host.rewind().expect("nothing happened");
    host.ask("wakes");
    host.rewind().expect("rewound after a look");
    assert_eq!(host.ask(act), "0");
    let refused = host.rewind().expect_err("this cannot be put back");
    assert!(
        refused.taints.iter().any(|taint| taint.row == row),
        "refused for another reason: {refused}"
    );
}

fn signals_wait() {
    for verified in [false, true] {
        let mut host = Host::start_in_place(Scan::Auto);
        if !verified {
            host = host.unverified();
        }
        let before = host.ask("waits_for_a_sleeper");
        for _ in 0..5 {
            host.rewind().expect("rewound");
            assert_eq!(host.ask("signal_a_sleeper"), "0");
            assert_ne!(host.ask("waits_for_a_sleeper"), before);
            host.rewind().expect("a signal can be dropped");
            assert_eq!(host.ask("waits_for_a_sleeper"), before);
        }
    }
}

fn is_undone(act: &str) {
    for verified in [false, true] {
        let mut host = Host::start_in_place(Scan::Auto);
        if !verified {
            host = host.unverified();
        }
        for round in 0..30 {
            assert_eq!(host.ask(act), "0");
            host.rewind().expect("rewound");
            assert_eq!(host.ask("wakes"), "0", "round {round}: it came back");
            host.rewind().expect("rewound after a look");
        }
        assert_eq!(host.ask("wake_all"), "0");
    }
}

/// The sleeper is woken, and another program keeps it from running until after the
/// rewind: the next tenant would see it come back for no reason.
fn woken_but_not_run() {
    let mut host = Host::start_runtime(Scan::Auto, "sluggish").unverified();
    host.rewind().expect("nothing happened");
    let (is_busy, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(pin_to_the_first_processor(0), 0);
            is_busy.store(true, Ordering::Relaxed);
            while !is_over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        while !is_busy.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..30 {
                let deadline = Instant::now() + Duration::from_secs(10);
                while !host.ask("how_the_sleeper_is").contains("S (sleeping)") {
                    assert!(Instant::now() < deadline, "round {round}: it never waits");
                }
                assert_eq!(host.ask("wakes"), "0", "round {round}: it came back");
                assert_eq!(host.ask("wake_the_sleeper"), "1");
                host.rewind().expect("rewound");
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
