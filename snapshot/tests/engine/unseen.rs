//! State that neither a look from inside nor one from outside shows, one case each:
//! what the handlers of the state table do that nothing else would miss.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use refunction_snapshot::{Engine, Rewound, Row, Scan, inside};

use crate::host::Host;
use crate::mutations;

/// Tells this program to become a template that cannot be one.
pub const SHARING_TEMPLATE: &str = "--sharing-template";

const PAGE: usize = 4096;

/// A page that the worker writes before its ready point, and then may not any more.
static CLOSED_PAGE: OnceLock<usize> = OnceLock::new();

/// A page that forks find empty, which the worker writes before its ready point.
static WIPED_PAGE: OnceLock<usize> = OnceLock::new();

/// A page that nobody has written to.
static EMPTY_PAGE: OnceLock<usize> = OnceLock::new();

/// Each case's name, and what it does.
pub const ALL: &[(&str, fn())] = &[
    (
        "attributes_that_only_calls_show",
        attributes_that_only_calls_show,
    ),
    ("timers_that_do_not_fire", timers_that_do_not_fire),
    ("every_disposition", every_disposition),
    ("a_handler_for_one_signal_only", || {
        is_undone("take_a_signal_once", "dispositions");
    }),
    ("an_alarm_in_an_hour", || {
        is_undone("set_an_alarm", "timers")
    }),
    ("the_kernel_raises_a_limit", the_kernel_raises_a_limit),
    ("times_of_a_pipe", times_of_a_pipe),
    ("another_pipe_just_like_it", another_pipe_just_like_it),
    ("the_peak_of_memory", the_peak_of_memory),
    (
        "a_page_that_was_closed_before_the_ready_point",
        a_closed_page,
    ),
    ("a_file_in_the_place_of_empty_memory", || {
        is_undone("map_a_file_over_empty_memory", "empty_memory");
    }),
    (
        "a_wiped_area_that_was_used_before_the_ready_point",
        a_used_wiped_area,
    ),
    (
        "the_image_cannot_be_written_to",
        the_image_cannot_be_written_to,
    ),
    (
        "a_shared_view_of_private_memory",
        a_shared_view_of_private_memory,
    ),
    ("a_mapping_behind_all_others", a_mapping_behind_all_others),
    ("as_many_pages_but_others", as_many_pages_but_others),
    (
        "a_rewind_of_little_looks_for_nothing",
        a_rewind_of_little_looks_for_nothing,
    ),
    (
        "pages_that_come_back_are_kept",
        pages_that_come_back_are_kept,
    ),
    ("a_rewind_keeps_to_its_budget", a_rewind_keeps_to_its_budget),
    ("a_wait_that_a_rewind_ended", a_wait_that_a_rewind_ended),
    (
        "rights_to_the_engines_own_mappings",
        rights_to_the_engines_own_mappings,
    ),
    (
        "a_template_that_shares_memory",
        a_template_that_shares_memory,
    ),
];

/// What a worker does when asked, if it is one of these; runs in the worker.
pub fn act(what: &str) -> Option<String> {
    let (name, argument) = what.split_once(' ').unwrap_or((what, ""));
    Some(match name {
        "set_attributes" => set_attributes(),
        "attributes" => attributes(),
        "use_up_its_time" => use_up_its_time(),
        "map_a_file_over_empty_memory" => map_a_file_over_empty_memory(),
        // SAFETY: a page of the template's.
        "empty_memory" => unsafe { format!("{:#x}", empty_memory().read_volatile()) },
        // SAFETY: a page of the template's.
        "wiped_area" => unsafe { format!("{:#x}", wiped_area().read_volatile()) },
        "set_timers" => set_timers(),
        "timers" => timers(),
        "set_an_alarm" => {
            // SAFETY: it ends this worker in an hour.
            unsafe { libc::alarm(3600) };
            "done".into()
        }
        "handle_all_signals" => handle_all_signals(),
        "take_a_signal_once" => {
            // SAFETY: it is handled, by what does nothing.
            assert_eq!(unsafe { libc::raise(libc::SIGWINCH) }, 0);
            "done".into()
        }
        "dispositions" => dispositions(),
        "age_a_pipe" => age_a_pipe(),
        "pipe" => pipe_times(),
        "exchange_a_pipe" => exchange_a_pipe(),
        "use_much_memory" => use_much_memory(),
        "write_to_the_closed_page" => write_to_the_closed_page(),
        "closed_page" => closed_page(),
        "write_to_the_image" => write_to_the_image(),
        "write_one_page" => mutations::write_one_page(),
        "write_another_page" => mutations::write_another_page(),
        "pages" => mutations::pages(),
        "share_a_view" => share_a_view(),
        "map_behind_all" => map_behind_all(),
        "wait_for_an_hour" => {
            mutations::answer();
            std::thread::sleep(Duration::from_secs(3600));
            "an hour later".into()
        }
        // SAFETY: waits, if it does anything.
        "take_up_a_wait" => match unsafe { libc::syscall(libc::SYS_restart_syscall) } {
            -1 => std::io::Error::last_os_error().to_string(),
            returned => returned.to_string(),
        },
        "protect" => protect(argument),
        _ => return None,
    })
}

/// In the template, before it is frozen.
pub fn in_template() {
    // The end of the heap is nobody's: tenants may take it away.
    // SAFETY: grows it; malloc sees that somebody did.
    unsafe { libc::sbrk(128 << 10) };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // Between pages that nobody may touch, so that they are no part of their neighbours.
    // SAFETY: new memory.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), 7 * PAGE, 0, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED);
    let at = at as usize + PAGE;
    give_rights(at, libc::PROT_READ | libc::PROT_WRITE);
    CLOSED_PAGE.set(at).expect("set once");
    let wiped = at + 2 * PAGE;
    give_rights(wiped, libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: the same memory.
    let advised = unsafe { libc::madvise(wiped as *mut _, PAGE, libc::MADV_WIPEONFORK) };
    assert_eq!(advised, 0);
    WIPED_PAGE.set(wiped).expect("set once");
    let empty = wiped + 2 * PAGE;
    give_rights(empty, libc::PROT_READ | libc::PROT_WRITE);
    EMPTY_PAGE.set(empty).expect("set once");
    mutations::generate_code();
}

/// In a worker, before its ready point.
pub fn before_ready_point() {
    handle_one_signal_once();
    let at = *CLOSED_PAGE.get().expect("made by the template");
    // SAFETY: a page of its own.
    unsafe { (at as *mut u8).write_bytes(0x2b, PAGE) };
    give_rights(at, libc::PROT_READ);
    // SAFETY: a page of the template's, that nobody else uses.
    unsafe { wiped_area().write(0x44) };
}

fn wiped_area() -> *mut u8 {
    *WIPED_PAGE.get().expect("made by the template") as *mut u8
}

fn empty_memory() -> *mut u64 {
    *EMPTY_PAGE.get().expect("made by the template") as *mut u64
}

/// The whole of it, with the same rights, privately.
fn map_a_file_over_empty_memory() -> String {
    let file = File::open("/proc/self/exe").expect("this program");
    // SAFETY: a page that nobody uses.
    let mapped = unsafe {
        libc::mmap(
            empty_memory().cast(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_FIXED,
            file.as_raw_fd(),
            0,
        )
    };
    assert_eq!(mapped, empty_memory().cast());
    "done".into()
}

/// What a worker keeps where no fork is to find it, no tenant is to find.
fn a_used_wiped_area() {
    let mut host = Host::start(Scan::Auto);
    assert_eq!(host.ask("wiped_area"), "0x44");
    for _ in 0..2 {
        host.rewind().expect("rewound");
        assert_eq!(host.ask("wiped_area"), "0x0");
    }
}

/// By a handler that the kernel takes away when it is called.
fn handle_one_signal_once() {
    extern "C" fn do_nothing(_: i32) {}
    // SAFETY: plain data, and a handler that does nothing.
    unsafe {
        let mut once: libc::sigaction = std::mem::zeroed();
        once.sa_sigaction = do_nothing as *const () as usize;
        once.sa_flags = libc::SA_RESETHAND;
        let set = libc::sigaction(libc::SIGWINCH, &raw const once, std::ptr::null_mut());
        assert_eq!(set, 0);
    }
}

/// A worker that did this and was put back, and what it answers then; before, it
/// answers what it answered at the start.
fn is_undone(act: &str, ask: &str) {
    let mut host = Host::start(Scan::Auto);
    let before = host.ask(ask);
    host.rewind().expect("rewound after a look");
    for _ in 0..2 {
        assert_eq!(host.ask(act), "done");
        assert_ne!(host.ask(ask), before, "the look does not see it");
        host.rewind().expect("this can be put back");
        assert_eq!(host.ask(ask), before);
        host.rewind().expect("rewound after a look");
    }
}

/// A page that every rewind copies back is dropped, and one that none knows is written:
/// the worker has as many of its own as before.
fn as_many_pages_but_others() {
    let mut host = Host::start(Scan::Auto);
    let before = host.ask("pages");
    for _ in 0..4 {
        assert_eq!(host.ask("write_one_page"), "done");
        assert_ne!(host.ask("pages"), before, "the look does not see it");
        host.rewind().expect("rewound");
    }
    assert_eq!(host.ask("write_another_page"), "done");
    assert_ne!(host.ask("pages"), before, "the look does not see it");
    host.rewind().expect("rewound");
    assert_eq!(host.ask("pages"), before);
}

/// Whether it was looked for pages, by the names of what took time.
fn was_looked_for_pages(rewound: &Rewound) -> bool {
    let names = ["scan", "others"];
    rewound.phases.iter().any(|(name, _)| names.contains(&name))
}

/// Rewinds after which another of the same does the same again.
fn settle(host: &mut Host) {
    for _ in 0..6 {
        host.ask("look");
        host.rewind().expect("rewound");
    }
}

fn a_rewind_of_little_looks_for_nothing() {
    let mut host = Host::start(Scan::Auto);
    settle(&mut host);
    looks_seldom(&mut host, "look", 32, 8);
}

/// Of so many turns in which this is done at most so many look for pages.
fn looks_seldom(host: &mut Host, what: &str, turns: u32, at_most: u32) {
    let mut looks = 0;
    let mut counts = 0;
    for _ in 0..turns {
        host.ask(what);
        let rewound = host.rewind().expect("rewound");
        looks += u32::from(was_looked_for_pages(&rewound));
        counts += u32::from(rewound.phases.iter().any(|(name, _)| name == "count"));
    }
    if counts == 0 {
        eprintln!("not run: this kernel does not count a process's pages exactly (6.16)");
        return;
    }
    assert!(
        looks <= at_most,
        "{looks} of {turns} rewinds looked for pages"
    );
}

/// Pages that come back to what they were come again each time that they are dropped, and all at
/// once: that is not to be taken for a heavy function, and not to be looked for in every other turn.
fn pages_that_come_back_are_kept() {
    let mut host = Host::start(Scan::Auto).unverified();
    looks_seldom(&mut host, "write_and_put_back", 80, 19);
}

/// See the file for what is in it, and how it is renewed.
const BUDGET: &str = include_str!("../budget.txt");

/// What a rewind has a worker do that did next to nothing. It depends on nothing that
/// goes on beside, so that a few per cent more are a regression.
fn a_rewind_keeps_to_its_budget() {
    const TOLERANCE: f64 = 1.1;
    let mut host = Host::start(Scan::Auto);
    settle(&mut host);
    let mut works = Vec::new();
    for _ in 0..9 {
        host.ask("look");
        let rewound = host.rewind().expect("rewound");
        let work = rewound.work;
        works.push([work.stops, work.operations, work.calls, work.bytes]);
    }
    for (at, name) in ["stops", "operations", "calls", "bytes"].iter().enumerate() {
        let line = BUDGET.lines().find_map(|line| line.strip_prefix(name));
        let budget: f64 = line
            .and_then(|it| it.trim().parse().ok())
            .expect("the budget names it");
        let mut taken: Vec<u64> = works.iter().map(|work| work[at]).collect();
        taken.sort_unstable();
        let median = taken[taken.len() / 2];
        println!("{name} {median}");
        assert!(
            median as f64 <= budget * TOLERANCE,
            "a rewind takes {median} {name}, and its budget in snapshot/tests/budget.txt is {budget}"
        );
    }
}

fn is_refused(act: &str, row: Row) {
    let mut host = Host::start(Scan::Auto);
    assert_eq!(host.ask(act), "done");
    let refused = host.rewind().expect_err("this cannot be put back");
    assert!(
        refused.taints.iter().any(|taint| taint.row == row),
        "refused for another reason: {refused}"
    );
}

fn attributes_that_only_calls_show() {
    is_undone("set_attributes", "attributes");
}

fn set_attributes() -> String {
    for (option, value) in [
        (libc::PR_SET_PDEATHSIG, i64::from(libc::SIGWINCH)),
        (libc::PR_SET_TIMERSLACK, 123_456),
        (libc::PR_SET_CHILD_SUBREAPER, 1),
    ] {
        // SAFETY: sets a number.
        assert_eq!(unsafe { libc::prctl(option, value, 0, 0, 0) }, 0);
    }
    "done".into()
}

fn attributes() -> String {
    let (mut signal, mut subreaper) = (0i32, 0i32);
    // SAFETY: each stores one number where it is told, or returns it.
    unsafe {
        libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal, 0, 0, 0);
        libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut subreaper, 0, 0, 0);
        let slack = libc::prctl(libc::PR_GET_TIMERSLACK, 0, 0, 0, 0);
        format!("{signal} {slack} {subreaper}")
    }
}

const TIMERS: [i32; 3] = [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF];

fn timers_that_do_not_fire() {
    is_undone("set_timers", "timers");
}

/// In an hour.
fn set_timers() -> String {
    // SAFETY: plain data.
    let mut later: libc::itimerval = unsafe { std::mem::zeroed() };
    later.it_value.tv_sec = 3600;
    for timer in TIMERS {
        // SAFETY: reads one value. The C library's names for the timers have a type.
        let set = unsafe { libc::syscall(libc::SYS_setitimer, timer, &raw const later, 0) };
        assert_eq!(set, 0);
    }
    "done".into()
}

fn timers() -> String {
    let is_set = TIMERS.map(|timer| {
        // SAFETY: plain data, and a call that writes one such value.
        unsafe {
            let mut left: libc::itimerval = std::mem::zeroed();
            libc::syscall(libc::SYS_getitimer, timer, &raw mut left);
            left.it_value.tv_sec + left.it_value.tv_usec > 0
        }
    });
    format!("{is_set:?}")
}

/// Has the kernel send a signal to this program each second that it has run.
pub fn limit_its_time() {
    let limit = libc::rlimit {
        rlim_cur: 1,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: an attribute of this process, and a signal that is ignored.
    unsafe {
        libc::signal(libc::SIGXCPU, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_CPU, &raw const limit), 0);
    }
}

/// Runs until there is another limit.
fn use_up_its_time() -> String {
    loop {
        // SAFETY: plain data, and a call that writes it.
        let limit = unsafe {
            let mut limit: libc::rlimit = std::mem::zeroed();
            assert_eq!(libc::getrlimit(libc::RLIMIT_CPU, &raw mut limit), 0);
            limit.rlim_cur
        };
        if limit != 1 {
            return "done".into();
        }
    }
}

fn the_kernel_raises_a_limit() {
    let mut host = Host::start_runtime(Scan::Auto, "short-of-time").unverified();
    host.rewind().expect("nothing happened");
    assert_eq!(host.ask("use_up_its_time"), "done");
    let refused = host.rewind().expect_err("a limit is another");
    let limits = |it: &refunction_snapshot::Taint| it.row == Row::Limits;
    assert!(refused.taints.iter().any(limits), "{refused}");
}

fn every_disposition() {
    is_undone("handle_all_signals", "dispositions");
}

/// `struct kernel_sigaction`: handler, flags, restorer, mask.
type Action = [u64; 4];

fn disposition(signal: i32, new: Option<&Action>, old: Option<&mut Action>) -> i64 {
    let new = new.map_or(0, |it| it.as_ptr() as i64);
    let old = old.map_or(0, |it| it.as_mut_ptr() as i64);
    // SAFETY: reads and writes such values; ignoring runs no code.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, old, 8) }
}

fn signals() -> impl Iterator<Item = i32> {
    (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal))
}

fn handle_all_signals() -> String {
    for signal in signals() {
        let ignoring = [libc::SIG_IGN as u64, 0, 0, 0];
        assert_eq!(disposition(signal, Some(&ignoring), None), 0);
    }
    "done".into()
}

fn dispositions() -> String {
    let all: Vec<u64> = signals()
        .map(|signal| {
            let mut action = Action::default();
            disposition(signal, None, Some(&mut action));
            action[0]
        })
        .collect();
    format!("{all:?}")
}

/// Its standard error's, which it owns.
const PIPE: i32 = 2;

fn times_of_a_pipe() {
    let mut host = Host::start(Scan::Auto);
    for _ in 0..2 {
        assert_eq!(host.ask("age_a_pipe"), "done");
        assert_eq!(host.ask("pipe"), "1 1");
        host.rewind().expect("this can be put back");
        assert_ne!(host.ask("pipe"), "1 1");
        host.rewind().expect("rewound after a look");
    }
}

fn age_a_pipe() -> String {
    let then = [libc::timespec {
        tv_sec: 1,
        tv_nsec: 0,
    }; 2];
    // SAFETY: reads two values.
    assert_eq!(unsafe { libc::futimens(PIPE, then.as_ptr()) }, 0);
    "done".into()
}

fn pipe_times() -> String {
    // SAFETY: plain data, and a call that fills it.
    let stat = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        assert_eq!(libc::fstat(PIPE, &raw mut stat), 0);
        stat
    };
    format!("{} {}", stat.st_atime, stat.st_mtime)
}

/// Device, mode, owner and flags are the same.
fn another_pipe_just_like_it() {
    is_refused("exchange_a_pipe", Row::Descriptors);
}

fn exchange_a_pipe() -> String {
    let (_, write) = nix::unistd::pipe().expect("pipe");
    // SAFETY: the number is this program's to use.
    assert_eq!(unsafe { libc::dup2(write.as_raw_fd(), PIPE) }, PIPE);
    "done".into()
}

fn the_peak_of_memory() {
    let mut host = Host::start(Scan::Auto);
    let peak = |host: &Host| -> u64 {
        let status = format!("/proc/{}/status", host.worker().pid());
        let status = std::fs::read_to_string(status).expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.expect("a peak").parse().expect("a number")
    };
    assert_eq!(host.ask("use_much_memory"), "done");
    assert!(peak(&host) > 64 << 10, "it was not used");
    host.rewind().expect("rewound");
    assert!(peak(&host) < 64 << 10, "{} KiB", peak(&host));
}

fn use_much_memory() -> String {
    std::hint::black_box(vec![7u8; 64 << 20]);
    "done".into()
}

fn a_closed_page() {
    is_undone("write_to_the_closed_page", "closed_page");
}

fn write_to_the_closed_page() -> String {
    let at = *CLOSED_PAGE.get().expect("made by the template");
    give_rights(at, libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: made writable.
    unsafe { (at as *mut u8).write_bytes(0x77, PAGE) };
    give_rights(at, libc::PROT_READ);
    "done".into()
}

fn closed_page() -> String {
    let at = *CLOSED_PAGE.get().expect("made by the template");
    // SAFETY: mapped and readable.
    unsafe { (at as *const u8).read_volatile() }.to_string()
}

fn give_rights(at: usize, rights: i32) {
    // SAFETY: a page of its own.
    assert_eq!(unsafe { libc::mprotect(at as *mut _, PAGE, rights) }, 0);
}

/// Who could write to it wrote to every worker to come.
fn the_image_cannot_be_written_to() {
    let mut host = Host::start(Scan::Auto);
    let error = format!("Some({})", libc::EPERM);
    assert_eq!(host.ask("write_to_the_image"), error);
    host.rewind().expect("nothing happened");
}

/// The descriptor after those that the host gives.
const IMAGE: i32 = 3;

fn write_to_the_image() -> String {
    // Opened anew: the one there is only reads.
    let path = format!("/proc/self/fd/{IMAGE}");
    let image = match File::options().read(true).write(true).open(path) {
        Ok(image) => image,
        Err(error) => return format!("not opened: {error}"),
    };
    let mut byte = [0];
    image.read_exact_at(&mut byte, 0).expect("a byte");
    // As it was: nobody is to suffer if this can be done.
    let error = image.write_all_at(&byte, 0).err();
    format!("{:?}", error.and_then(|error| error.raw_os_error()))
}

/// Same file, same offset, same rights, and yet another mapping.
fn a_shared_view_of_private_memory() {
    let mut host = Host::start(Scan::Auto);
    let shared = |host: &Host| {
        let maps = format!("/proc/{}/maps", host.worker().pid());
        let maps = std::fs::read_to_string(maps).expect("maps");
        let of_image = maps.lines().filter(|line| line.contains("memfd:snapshot"));
        of_image.filter(|line| line.contains("r--s")).count()
    };
    let before = shared(&host);
    for _ in 0..2 {
        assert_eq!(host.ask("share_a_view"), "done");
        assert_eq!(shared(&host), before + 1, "the look does not see it");
        host.rewind().expect("this can be put back");
        assert_eq!(shared(&host), before);
    }
}

fn share_a_view() -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let line = maps
        .lines()
        .find(|line| line.contains("memfd:snapshot") && line.contains(" r--p "))
        .expect("read-only memory of the template");
    let mut fields = line.split(['-', ' ']);
    let mut hex = || u64::from_str_radix(fields.next().expect("field"), 16);
    let (start, end) = (hex().expect("start"), hex().expect("end"));
    let offset = line.split(' ').nth(2).expect("offset");
    let offset = i64::from_str_radix(offset, 16).expect("offset");
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    let length = (end - start) as usize;
    // SAFETY: the same bytes as before.
    let at = unsafe {
        libc::mmap(
            start as *mut _,
            length,
            libc::PROT_READ,
            flags,
            IMAGE,
            offset,
        )
    };
    assert_eq!(at as u64, start);
    "done".into()
}

fn a_mapping_behind_all_others() {
    let mut host = Host::start(Scan::Auto);
    let seen = host.observe();
    for _ in 0..2 {
        assert_eq!(host.ask("map_behind_all"), "done");
        assert_ne!(host.observe(), seen, "the look does not see it");
        host.rewind().expect("this can be put back");
        assert_eq!(host.observe(), seen);
    }
}

fn map_behind_all() -> String {
    // The last page but one of what a process has (mmap(2): the last is never given).
    let at = ((1u64 << 47) - 2 * PAGE as u64) as *mut _;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: replaces nothing.
    let got = unsafe { libc::mmap(at, PAGE, libc::PROT_READ, flags, -1, 0) };
    assert_eq!(got, at);
    "done".into()
}

/// They are compared before they are used.
/// How long is left of it would be for the next tenant to find out.
fn a_wait_that_a_rewind_ended() {
    for mut host in [Host::start(Scan::Auto), Host::start_in_place(Scan::Auto)] {
        let before = host.ask("take_up_a_wait");
        host.rewind().expect("rewound");
        assert_eq!(host.ask("wait_for_an_hour"), "0");
        // Until it sleeps.
        let asleep = format!("/proc/{}/stat", host.pid());
        while !std::fs::read_to_string(&asleep)
            .expect("stat")
            .contains(") S ")
        {
            std::thread::yield_now();
        }
        host.rewind().expect("rewound");
        assert_eq!(host.ask("take_up_a_wait"), before);
    }
}

fn rights_to_the_engines_own_mappings() {
    for what in ["stub", "view", "table", "scratch"] {
        println!("{what}");
        is_refused(&format!("protect {what}"), Row::Mappings);
    }
}

fn protect(what: &str) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let range = |line: &str| -> (usize, usize) {
        let (start, end) = line
            .split(' ')
            .next()
            .and_then(|range| range.split_once('-'))
            .expect("range");
        let hex = |text| usize::from_str_radix(text, 16).expect("hex");
        (hex(start), hex(end))
    };
    let is_it = |line: &&str| match what {
        "stub" => line.contains("r-xs") && line.contains("memfd:snapshot"),
        "view" => line.contains("r--s") && line.contains("memfd:snapshot"),
        "table" => line.contains("memfd:table"),
        _ => {
            let (start, end) = range(line);
            line.contains("rw-p 00000000 00:00 0") && end - start == 32 << 10
        }
    };
    let (start, end) = range(maps.lines().find(is_it).expect("one of the engine's own"));
    // SAFETY: nobody but the engine uses it.
    let protected = unsafe { libc::mprotect(start as *mut _, end - start, libc::PROT_NONE) };
    assert_eq!(protected, 0);
    "done".into()
}

/// Its workers would write to each other's memory.
fn a_template_that_shares_memory() {
    let mut engine = Engine::new(Scan::Auto).expect("engine");
    let (ours, theirs): (OwnedFd, OwnedFd) = Engine::conversation().expect("conversation");
    #[expect(clippy::zombie_processes, reason = "the engine reaps it")]
    let child = Command::new(std::env::current_exe().expect("own path"))
        .arg(SHARING_TEMPLATE)
        .stdin(Stdio::from(theirs))
        .spawn()
        .expect("template");
    let pid = Pid::from_raw(child.id().cast_signed());
    let booting = engine.adopt(pid, ours).expect("adopt");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut fds = [PollFd::new(booting.socket(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(1u8)).expect("poll") > 0 {
            break;
        }
        while engine.poll().is_some() {}
        assert!(Instant::now() < deadline, "the template does not boot");
    }
    let Err(error) = engine.freeze(booting) else {
        panic!("it was frozen");
    };
    assert!(error.to_string().contains("share"), "{error}");
}

/// Becomes that template.
pub fn sharing_template() -> ! {
    let template = inside::Template::adopt().expect("adopted by the engine");
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: new memory.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, 3, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED);
    // The host kills it, or is done with it.
    let _ = template.serve(b"guest");
    let _ = std::io::stdin().read(&mut [0]);
    std::process::exit(0)
}
