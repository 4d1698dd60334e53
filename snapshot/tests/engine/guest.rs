//! The template and its workers: a program with some memory, that runs one named
//! mutation after another on request and answers what it sees.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, OnceLock};

use nix::unistd::Pid;
use refunction_snapshot::{inside, syscalls};

use crate::mutations::MAP_DROPPABLE;
use crate::{cases, unseen};

/// A megabyte of template memory that mutations scribble on.
pub static BALLAST: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// A number in the data segment.
pub static COUNTER: AtomicU64 = AtomicU64::new(7);

/// A page that the kernel empties in forks.
pub static WIPED: OnceLock<usize> = OnceLock::new();
/// A page that the kernel may empty any time; kernels since 6.11 have such.
pub static DROPPABLE: OnceLock<usize> = OnceLock::new();

// What a worker has open at its ready point beside what the host gives it, which is
// numbered 0 to 2, and the image. No runtime has all of these, some have most.
/// An event counter at 3.
pub const COUNTER_OF_EVENTS: i32 = 4;
/// An epoll set with the counter in it.
pub const INTEREST: i32 = 5;
/// A timer, not running.
pub const CLOCK: i32 = 6;
/// A descriptor that signals come through.
pub const SIGNALS: i32 = 7;
/// A file that nobody can write to.
pub const PAPER: i32 = 8;
/// Tells when that is read.
pub const NOTICES: i32 = 9;
/// A pair of sockets.
pub const SOCKET: i32 = 10;
/// Its other end.
pub const SOCKET_PEER: i32 = 11;
/// The worker's own pipe.
pub const PIPE_READ: i32 = 12;
/// Its other end.
pub const PIPE_WRITE: i32 = 13;

/// The user of the workers under this host: one of their own, so that a case sees
/// nobody else's processes.
pub fn id_under(host: Pid) -> u32 {
    1_000_000 + host.as_raw().unsigned_abs()
}

pub fn main() -> ! {
    let template = inside::Template::adopt().expect("adopted by the engine");
    *BALLAST.lock().expect("ballast") = vec![0x5a; 1 << 20];
    unseen::in_template();
    wiped_areas();
    let Ok(inside::Born::Worker(newborn)) = template.serve(b"guest") else {
        // The host is done with it.
        std::process::exit(0)
    };
    unseen::before_ready_point();
    open_descriptors();
    privileges();
    inside::ready_point();
    serve_newborn(newborn)
}

/// Serves through the pipes that the host gave.
pub fn serve_newborn(newborn: inside::Newborn) -> ! {
    let mut descriptors = newborn.descriptors.into_iter().map(File::from);
    let (Some(input), Some(output)) = (descriptors.next(), descriptors.next()) else {
        panic!("the host gave no pipes");
    };
    descriptors.for_each(std::mem::forget);
    serve(input, output)
}

/// Does what it is told and says what came of it.
pub fn serve(input: File, mut output: File) -> ! {
    let mut lines = BufReader::new(input).lines();
    while let Some(Ok(line)) = lines.next() {
        // In one piece: the host does not expect to be kept waiting for the rest.
        let answer = cases::act(&line) + "\n";
        output.write_all(answer.as_bytes()).expect("answered");
    }
    std::process::exit(0)
}

/// Gives up what workers do.
pub fn privileges() {
    // Workers are the host's children, as the template is.
    let id = id_under(Pid::parent());
    nix::unistd::setgroups(&[]).expect("setgroups");
    nix::unistd::setresgid(id.into(), id.into(), id.into()).expect("setresgid");
    nix::unistd::setresuid(id.into(), id.into(), id.into()).expect("setresuid");
    nix::sys::prctl::set_dumpable(true).expect("dumpable");
    nix::unistd::chdir("/").expect("chdir");
    seccompiler::apply_filter(&syscalls::filter()).expect("filter");
}

/// Areas with something in them that no worker may ever see.
pub fn wiped_areas() {
    let map = |flags: i32| {
        // SAFETY: new memory.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_ANONYMOUS | flags,
                -1,
                0,
            )
        };
        (at != libc::MAP_FAILED).then_some(at)
    };
    let wiped = map(libc::MAP_PRIVATE).expect("memory");
    // SAFETY: just mapped.
    let advised = unsafe { libc::madvise(wiped, 4096, libc::MADV_WIPEONFORK) };
    assert_eq!(advised, 0);
    let droppable = map(MAP_DROPPABLE);
    for area in [Some(wiped), droppable].into_iter().flatten() {
        // SAFETY: just mapped.
        unsafe { area.cast::<u8>().write_bytes(0x33, 4096) };
    }
    WIPED.set(wiped as usize).expect("set once");
    if let Some(droppable) = droppable {
        DROPPABLE.set(droppable as usize).expect("set once");
    }
}

pub fn open_descriptors() {
    use libc::c_int;
    let is = |number: c_int, expected: c_int| assert_eq!(number, expected, "another number");
    // SAFETY: opens descriptors that this program never closes; pointers are to live
    // values of the sizes given.
    unsafe {
        is(libc::eventfd(3, 0), COUNTER_OF_EVENTS);
        is(libc::epoll_create1(0), INTEREST);
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 7,
        };
        let add = libc::EPOLL_CTL_ADD;
        is(
            libc::epoll_ctl(INTEREST, add, COUNTER_OF_EVENTS, &raw mut event),
            0,
        );
        is(libc::timerfd_create(libc::CLOCK_MONOTONIC, 0), CLOCK);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGUSR2);
        is(libc::signalfd(-1, &raw const set, 0), SIGNALS);
        is(
            libc::memfd_create(c"paper".as_ptr(), libc::MFD_ALLOW_SEALING),
            PAPER,
        );
        is(libc::ftruncate(PAPER, 4096), 0);
        is(libc::fcntl(PAPER, libc::F_ADD_SEALS, libc::F_SEAL_WRITE), 0);
        is(libc::inotify_init1(0), NOTICES);
        let paper = format!("/proc/self/fd/{PAPER}\0");
        is(
            libc::inotify_add_watch(NOTICES, paper.as_ptr().cast(), libc::IN_ACCESS),
            1,
        );
        let mut pair = [0; 2];
        is(
            libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()),
            0,
        );
        is(pair[1], SOCKET_PEER);
        is(libc::pipe(pair.as_mut_ptr()), 0);
        is(pair[1], PIPE_WRITE);
    }
}
