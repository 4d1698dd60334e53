//! A worker that was not forked: a program with threads that wait in all the ways that
//! runtimes wait, frozen where it stands.

use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use refunction_snapshot::inside::Launch;
use refunction_snapshot::{Row, Scan, syscalls};

use crate::guest::BALLAST;
use crate::host::Host;
use crate::mutations::{self, Mutation};
use crate::{RUNTIME, guest, unseen};

/// Tells a worker to do something in a thread of its snapshot.
pub const IN_A_THREAD: &str = "in-a-thread";

/// Each case's name, and what it does.
pub const ALL: &[(&str, fn())] = &[
    ("threads_wait_on_after_a_rewind", threads_wait_on),
    ("a_thread_of_the_snapshot_is_gone", a_thread_is_gone),
    ("a_thread_more_is_ended", a_thread_more),
    (
        "a_thread_takes_the_place_of_another",
        a_thread_in_anothers_place,
    ),
    ("stacks_and_areas_of_all_threads", stacks_and_areas),
    ("signals_for_one_thread", signals_for_one_thread),
    ("a_runtime_that_does_not_rest", a_runtime_that_does_not_rest),
    ("a_runtime_that_was_signalled", a_runtime_that_was_signalled),
    (
        "a_runtime_that_provokes_faults",
        a_runtime_that_provokes_faults,
    ),
    ("a_fault_that_was_sent", a_fault_that_was_sent),
    (
        "a_thread_beside_the_main_one_reads_requests",
        another_thread_reads,
    ),
    ("a_runtime_that_ends", a_runtime_that_ends),
    ("a_launcher_that_gives_up", a_launcher_that_gives_up),
];

/// Mutations that mean something else to a process with threads that was not forked:
/// signals for the process are taken by a thread that does not block them, and the
/// kernel joins mappings again that a fork would keep apart.
pub const OTHERWISE_IN_PLACE: &[&str] = &[
    "queue_signals",
    "leave_signals_pending",
    "leave_every_signal_pending",
    "leave_a_breakpoint_pending",
    "cut_a_mapping_into_pieces",
];

/// Mutations of what is each thread's own, to be tried in another thread than the main
/// one.
pub fn mutations() -> impl Iterator<Item = &'static Mutation> {
    const OWN: &[&str] = &[
        "block_signals",
        "use_an_alternate_stack",
        "unregister_rseq",
        "move_the_robust_list",
        "move_the_tid_address",
        "change_name",
        "change_harmless_attributes",
        "be_nice",
        "pin_to_a_processor",
        "change_io_priority",
        "set_mxcsr",
        "fill_vector_registers",
        "fill_the_x87_stack",
        "fill_every_register",
        "scribble_on_heap",
        "open_files",
        "leave_threads_sleeping",
        "leave_threads_spinning",
        "leave_a_child",
        "handle_a_signal",
        "map_shared_memory",
        "write_protect_template_memory",
        "replace_code",
        "filter_system_calls",
    ];
    for name in OWN {
        assert!(
            mutations::all().any(|mutation| mutation.name == *name),
            "there is no mutation {name}"
        );
    }
    mutations::all().filter(|mutation| OWN.contains(&mutation.name))
}

// --- the program ---------------------------------------------------------------------

pub fn launch(how: &str) -> ! {
    let launch = Launch::adopt().expect("adopted by the engine");
    if how == "give-up" {
        launch.fail("it would rather not");
        std::process::exit(1);
    }
    nix::sys::prctl::set_no_new_privs().expect("no new privileges");
    seccompiler::apply_filter(&syscalls::filter()).expect("filter");
    nix::unistd::chdir("/").expect("chdir");
    launch.announce(b"guest").expect("announced");
    let error = Command::new("/proc/self/exe").args([RUNTIME, how]).exec();
    panic!("{error}");
}

// What the threads wait on, beside what `guest` opens.
const QUIET: i32 = 14;
const SILENCE_READ: i32 = 15;
const SILENCE_WRITE: i32 = 16;

/// What a thread is to do, and what came of it.
static ERRAND: Mutex<(Option<String>, Option<String>)> = Mutex::new((None, None));
static ERRANDS: Condvar = Condvar::new();

/// How often any thread came back from waiting.
static WAKES: AtomicU64 = AtomicU64::new(0);
/// How many threads are on their way to wait for good.
static THREADS: AtomicU64 = AtomicU64::new(0);
/// What one of them waits on, which ends when it is 1.
pub static SLEEPS_ON: AtomicI32 = AtomicI32::new(0);

const MARK: u64 = 0x6d61_726b_6d61_726b;

thread_local! {
    static AREA: std::cell::Cell<u64> = const { std::cell::Cell::new(MARK) };
}

pub fn runtime(how: &str) -> ! {
    *BALLAST.lock().expect("ballast") = vec![0x5a; 1 << 20];
    unseen::in_template();
    guest::wiped_areas();
    unseen::before_ready_point();
    guest::open_descriptors();
    // SAFETY: opens descriptors that this program never closes.
    unsafe {
        assert_eq!(libc::epoll_create1(0), QUIET);
        let mut pair = [0; 2];
        assert_eq!(libc::pipe(pair.as_mut_ptr()), 0);
        assert_eq!(pair, [SILENCE_READ, SILENCE_WRITE]);
    }
    for wait in [
        run_errands,
        wait_for_a_word,
        wait_for_an_hour,
        wait_for_events,
        wait_to_read,
        wait_to_poll,
        wait_asleep,
        wait_to_end,
    ] {
        std::thread::spawn(move || {
            THREADS.fetch_add(1, Ordering::Relaxed);
            // On the thread's own stack, where nothing but a rewind writes it again.
            let mark = std::hint::black_box(MARK);
            AREA.set(MARK);
            MARKS.lock().expect("marks").push((
                &raw const mark as usize,
                AREA.with(std::cell::Cell::as_ptr) as usize,
            ));
            loop {
                wait();
                WAKES.fetch_add(1, Ordering::Relaxed);
                std::hint::black_box(&mark);
            }
        });
    }
    while MARKS.lock().expect("marks").len() < 8 {
        std::thread::yield_now();
    }
    match how {
        "restless" => drop(std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        })),
        // SAFETY: sends a signal that is ignored.
        "signalled" => unsafe {
            libc::signal(libc::SIGUSR1, libc::SIG_IGN);
            libc::signal(libc::SIGURG, libc::SIG_DFL);
            libc::raise(libc::SIGURG);
        },
        "ends" => std::process::exit(0),
        "sluggish" => let_the_sleeper_run_last(),
        "ticking" => drop(std::thread::spawn(tick)),
        "patient" => drop(std::thread::spawn(|| {
            loop {
                std::thread::park_timeout(PATIENCE);
                ENDED_WAITS.fetch_add(1, Ordering::Relaxed);
            }
        })),
        "short-of-time" => unseen::limit_its_time(),
        "faults" => fault(|page| {
            // SAFETY: the page is there; its handler makes it writable.
            unsafe { page.write_volatile(1) };
        }),
        "sent-a-fault" => fault(|_| {
            // SAFETY: sends a signal that is handled.
            unsafe { libc::raise(libc::SIGSEGV) };
        }),
        "behind" => {
            let serving = std::thread::spawn(|| serve());
            let _ = serving.join();
        }
        _ => {}
    }
    serve()
}

fn serve() -> ! {
    // SAFETY: the host gave these.
    let (input, mut output) = unsafe { (File::from_raw_fd(0), File::from_raw_fd(1)) };
    output.write_all(b"ready\n").expect("said");
    guest::serve(input, output)
}

/// A page that may not be written to until SIGSEGV is handled.
static FORBIDDEN: AtomicU64 = AtomicU64::new(0);

extern "C" fn allow(_: i32) {
    let page = FORBIDDEN.load(Ordering::Relaxed) as *mut libc::c_void;
    // SAFETY: changes the rights of the page that was mapped for this.
    unsafe { libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_WRITE) };
}

/// Takes SIGSEGV once, in the way of a runtime that knows what to do about it.
fn fault(provoke: impl FnOnce(*mut u8)) {
    // SAFETY: maps a page that nothing else knows of, and unmaps it; the handler is reset
    // before anything else could fault.
    unsafe {
        let (anonymous, none) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, libc::PROT_NONE);
        let page = libc::mmap(std::ptr::null_mut(), 4096, none, anonymous, -1, 0);
        FORBIDDEN.store(page as u64, Ordering::Relaxed);
        let before = libc::signal(libc::SIGSEGV, allow as *const () as usize);
        provoke(page.cast());
        libc::signal(libc::SIGSEGV, before);
        libc::munmap(page, 4096);
    }
}

/// Where each thread's marks are: on its stack, and in its own variables.
static MARKS: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

fn run_errands() {
    let mut errand = ERRAND.lock().expect("errand");
    loop {
        if let Some(what) = errand.0.take() {
            drop(errand);
            let came_of_it = crate::cases::act(&what);
            errand = ERRAND.lock().expect("errand");
            errand.1 = Some(came_of_it);
            ERRANDS.notify_all();
        }
        errand = ERRANDS.wait(errand).expect("errand");
    }
}

/// Out of the reach of signals, as threads of runtimes are that are to do one thing only.
fn wait_for_a_word() {
    // SAFETY: a full set, for this thread alone.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
    std::thread::park();
}

fn wait_for_an_hour() {
    std::thread::park_timeout(Duration::from_secs(3600));
}

fn wait_for_events() {
    // SAFETY: all-zero bytes are an event; the kernel writes one at most.
    unsafe {
        let mut event: libc::epoll_event = std::mem::zeroed();
        libc::epoll_wait(QUIET, &raw mut event, 1, -1);
    }
}

fn wait_to_read() {
    let mut byte = 0u8;
    // SAFETY: reads a byte into one.
    unsafe { libc::read(SILENCE_READ, (&raw mut byte).cast(), 1) };
}

fn wait_to_poll() {
    let mut poll = libc::pollfd {
        fd: QUIET,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one struct, as it says.
    unsafe { libc::poll(&raw mut poll, 1, 3_600_000) };
}

fn wait_asleep() {
    std::thread::sleep(Duration::from_secs(3600));
}

fn wait_to_end() {
    if SLEEPS_ON.load(Ordering::Relaxed) == 1 {
        // SAFETY: ends this thread; nothing of it is needed any more.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    // SAFETY: asks for this thread's number, and has it block a signal.
    unsafe {
        SLEEPER.store(libc::gettid(), Ordering::Relaxed);
        let mut blocked: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&raw mut blocked, libc::SIGUSR2);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, std::ptr::null_mut());
    }
    futex(libc::FUTEX_WAIT, 0);
}

static SLEEPER: AtomicI32 = AtomicI32::new(0);

/// The thread that waits on [`SLEEPS_ON`].
pub fn sleeper() -> i32 {
    SLEEPER.load(Ordering::Relaxed)
}

/// How long a thread waits each time, that waits until a moment.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How often it came back from that.
static ENDED_WAITS: AtomicU64 = AtomicU64::new(0);

/// Waits for two milliseconds, again and again.
fn tick() {
    static NOBODY: AtomicI32 = AtomicI32::new(0);
    let moment = libc::timespec {
        tv_sec: 0,
        tv_nsec: 2_000_000,
    };
    loop {
        // SAFETY: waits on a static for a time that stands on this stack.
        unsafe {
            let word = &raw const NOBODY;
            libc::syscall(
                libc::SYS_futex,
                word,
                libc::FUTEX_WAIT,
                0,
                &raw const moment,
            );
        }
    }
}

/// As sched_setaffinity(2), for a thread of this process.
pub fn pin_to_the_first_processor(tid: i32) -> i64 {
    let first = 1u64;
    // SAFETY: reads a set of 64 processors.
    unsafe { libc::syscall(libc::SYS_sched_setaffinity, tid, 8, &raw const first) }
}

/// Gives the sleeper to one processor, and there to whatever else wants to run.
fn let_the_sleeper_run_last() {
    // It may be about to say which it is.
    while sleeper() == 0 {
        std::thread::yield_now();
    }
    let parameter = libc::sched_param { sched_priority: 0 };
    assert_eq!(pin_to_the_first_processor(sleeper()), 0);
    // SAFETY: an attribute of a thread of this process.
    unsafe {
        let idle = libc::sched_setscheduler(sleeper(), libc::SCHED_IDLE, &raw const parameter);
        assert_eq!(idle, 0, "runs last");
    }
}

fn futex(operation: i32, value: i32) -> i64 {
    let none = std::ptr::null::<libc::timespec>();
    // SAFETY: waits on, or wakes who waits on, a static.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            &raw const SLEEPS_ON,
            operation,
            value,
            none,
        )
    }
}

/// What a worker with threads does when asked; runs in the worker.
pub fn act(what: &str) -> Option<String> {
    if let Some(errand) = what.strip_prefix(IN_A_THREAD) {
        let mut slot = ERRAND.lock().expect("errand");
        slot.0 = Some(errand.trim().to_string());
        ERRANDS.notify_all();
        loop {
            slot = ERRANDS.wait(slot).expect("errand");
            if let Some(came_of_it) = slot.1.take() {
                return Some(came_of_it);
            }
        }
    }
    Some(match what {
        "wake_all" => wake_all(),
        "wake_the_sleeper" => futex(libc::FUTEX_WAKE, 1).to_string(),
        "ended_waits" => ENDED_WAITS.load(Ordering::Relaxed).to_string(),
        "wakes" => WAKES.load(Ordering::Relaxed).to_string(),
        "pend" => {
            // SAFETY: an empty set is filled; the signals are for this thread alone.
            unsafe {
                let mut all: libc::sigset_t = std::mem::zeroed();
                libc::sigfillset(&raw mut all);
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
                for signal in [
                    libc::SIGUSR1,
                    libc::SIGTRAP,
                    libc::SIGTERM,
                    libc::SIGRTMIN() + 3,
                ] {
                    libc::syscall(libc::SYS_tkill, libc::gettid(), signal);
                }
            }
            "0".into()
        }
        "pending" => {
            let status = std::fs::read_to_string("/proc/thread-self/status").expect("status");
            let lines = status.lines().filter(|it| it.starts_with("Sig"));
            lines.fold(String::new(), |all, line| all + line + "; ")
        }
        "end_a_thread" => end_a_thread(),
        "exchange_a_thread" => {
            end_a_thread();
            std::thread::spawn(wait_asleep);
            "0".into()
        }
        "add_threads" => {
            for _ in 0..5 {
                std::thread::spawn(wait_asleep);
            }
            "0".into()
        }
        "scribble_on_marks" => {
            for (stack, area) in MARKS.lock().expect("marks").iter() {
                for at in [*stack, *area] {
                    // SAFETY: a word of a thread that waits.
                    unsafe { (at as *mut u64).write_volatile(!MARK) };
                }
            }
            "0".into()
        }
        "marks" => {
            let marks = MARKS.lock().expect("marks");
            let are_there = marks.iter().all(|(stack, area)| {
                // SAFETY: as above.
                unsafe {
                    (*stack as *const u64).read_volatile() == MARK
                        && (*area as *const u64).read_volatile() == MARK
                }
            });
            format!("{} {are_there}", marks.len())
        }
        _ => return None,
    })
}

/// Has those threads come back from their waits that something can wake, and waits
/// until they have.
fn wake_all() -> String {
    let before = WAKES.load(Ordering::Relaxed);
    // SAFETY: writes a byte to a pipe of this program's.
    unsafe { libc::write(SILENCE_WRITE, c"x".as_ptr().cast(), 1) };
    // It may be about to wait again.
    while futex(libc::FUTEX_WAKE, 1) == 0 {
        std::thread::yield_now();
    }
    while WAKES.load(Ordering::Relaxed) < before + 2 {
        std::thread::yield_now();
    }
    "0".into()
}

fn end_a_thread() -> String {
    SLEEPS_ON.store(1, Ordering::Relaxed);
    let path = format!("/proc/self/task/{}", SLEEPER.load(Ordering::Relaxed));
    while std::fs::exists(&path).expect("task") {
        futex(libc::FUTEX_WAKE, 1);
        std::thread::yield_now();
    }
    "0".into()
}

// --- the cases -----------------------------------------------------------------------

fn threads_wait_on() {
    let mut host = Host::start_in_place(Scan::Auto);
    assert_eq!(host.in_place().threads(), 9);
    let seen = host.observe();
    for round in 0..50 {
        assert_eq!(
            host.ask("wakes"),
            "0",
            "round {round}: one came back by itself"
        );
        assert_eq!(host.ask("wake_all"), "0");
        let rewound = host.rewind().expect("rewound");
        assert_eq!(rewound.threads_ended, 0);
    }
    assert_eq!(host.observe(), seen);
}

fn a_thread_is_gone() {
    let mut host = Host::start_in_place(Scan::Auto);
    assert_eq!(host.ask("end_a_thread"), "0");
    let refused = host.rewind().expect_err("a thread cannot be made again");
    assert_eq!(refused.taints.len(), 1);
    assert_eq!(refused.taints[0].row, Row::Threads);
    host.replace_worker();
    assert_eq!(host.ask("marks"), "8 true");
}

fn a_thread_in_anothers_place() {
    let mut host = Host::start_in_place(Scan::Auto);
    assert_eq!(host.ask("exchange_a_thread"), "0");
    let refused = host.rewind().expect_err("another thread is not the one");
    assert_eq!(refused.taints[0].row, Row::Threads);
}

fn a_thread_more() {
    let mut host = Host::start_in_place(Scan::Auto);
    let seen = host.observe();
    for _ in 0..10 {
        assert_eq!(host.ask("add_threads"), "0");
        assert_eq!(host.rewind().expect("rewound").threads_ended, 5);
        assert_eq!(host.observe(), seen);
    }
    assert_eq!(host.ask("wake_all"), "0");
}

fn stacks_and_areas() {
    let mut host = Host::start_in_place(Scan::Auto);
    for _ in 0..3 {
        assert_eq!(host.ask("marks"), "8 true");
        assert_eq!(host.ask("scribble_on_marks"), "0");
        assert_eq!(host.ask("marks"), "8 false");
        host.rewind().expect("rewound");
    }
}

fn signals_for_one_thread() {
    let mut host = Host::start_in_place(Scan::Auto);
    let (pend, pending) = (
        format!("{IN_A_THREAD} pend"),
        format!("{IN_A_THREAD} pending"),
    );
    let before = host.ask(&pending);
    for _ in 0..3 {
        assert_eq!(host.ask(&pend), "0");
        assert_ne!(host.ask(&pending), before);
        host.rewind().expect("rewound");
        assert_eq!(host.ask(&pending), before);
    }
}

fn refusal(how: &str) -> String {
    let mut host = Host::start_in_place(Scan::Auto);
    let error = host.boot(how).expect_err("it is no worker");
    error.to_string()
}

fn a_runtime_that_does_not_rest() {
    let refusal = refusal("restless");
    assert!(refusal.contains("runs"), "{refusal}");
}

fn a_runtime_that_was_signalled() {
    let refusal = refusal("signalled");
    assert!(
        refusal.contains(&format!("signal {}", libc::SIGURG)),
        "{refusal}"
    );
}

/// Faults of its own are no signals of somebody else's.
fn a_runtime_that_provokes_faults() {
    let mut host = Host::start_runtime(Scan::Auto, "faults");
    let seen = host.observe();
    host.rewind().expect("rewound");
    assert_eq!(host.observe(), seen);
}

/// Looking like one is not enough.
fn a_fault_that_was_sent() {
    let refusal = refusal("sent-a-fault");
    let signal = format!("signal {}", libc::SIGSEGV);
    assert!(refusal.contains(&signal), "{refusal}");
}

/// The main thread only waits for it to end, as the one of a JVM does.
fn another_thread_reads() {
    let mut host = Host::start_runtime(Scan::Auto, "behind");
    assert_eq!(host.in_place().threads(), 10);
    let seen = host.observe();
    for _ in 0..20 {
        assert_eq!(host.ask("wake_all"), "0");
        host.rewind().expect("rewound");
    }
    assert_eq!(host.observe(), seen);
}

fn a_runtime_that_ends() {
    let refusal = refusal("ends");
    // Whatever was tried first with what is not there any more.
    let whys = ["gone", "ended", "No such process"];
    assert!(whys.iter().any(|why| refusal.contains(why)), "{refusal}");
}

fn a_launcher_that_gives_up() {
    let refusal = refusal("give-up");
    assert!(refusal.contains("it would rather not"), "{refusal}");
}
