//! What a worker can do to itself, one piece of state each, and what the engine
//! must make of it.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::mem::forget;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use libc::c_void;
use refunction_snapshot::Row;

use crate::guest::{BALLAST, COUNTER};

/// What is to become of a worker that did this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Put back.
    Rewound,
    /// Refused, for this row.
    Refused(Row),
    /// Refused, for whichever row the table of system calls has for what it did.
    Recorded,
    /// Put back, or refused: it depends on what the worker was caught at.
    Either,
    /// The call itself fails with this error, and the worker is put back.
    Denied(i32),
    /// This news comes instead of an answer, and the worker is not put back.
    Lost(&'static str),
}

use Expect::{Denied, Either, Lost, Recorded, Refused, Rewound};

#[derive(Debug)]
pub struct Mutation {
    pub name: &'static str,
    pub act: fn() -> i64,
    pub expect: Expect,
    /// It answers by itself and never comes back from what it does then.
    pub stays: bool,
    /// What the engine does instead of what is expected, where that is known.
    pub known: Option<&'static str>,
}

impl Mutation {
    const fn new(name: &'static str, expect: Expect, act: fn() -> i64) -> Self {
        Self {
            name,
            act,
            expect,
            stays: false,
            known: None,
        }
    }

    /// That does not come back.
    const fn staying(name: &'static str, expect: Expect, act: fn() -> !) -> Self {
        Self {
            name,
            // SAFETY: a function that never returns may be said to return anything.
            act: unsafe { std::mem::transmute::<fn() -> !, fn() -> i64>(act) },
            expect,
            stays: true,
            known: None,
        }
    }

    /// With which the engine does not yet do what is expected.
    const fn known(self, what: &'static str) -> Self {
        Self {
            known: Some(what),
            ..self
        }
    }
}

macro_rules! mutations {
    ($($name:ident => $expect:expr),* $(,)?) => {
        const BASIC: &[Mutation] = &[$(Mutation::new(stringify!($name), $expect, $name)),*];
    };
}

mod attributes;
mod descriptors;
mod mappings;
mod memory;
mod processes;
mod registers;
mod signals;

pub use memory::MAP_DROPPABLE;

/// Every mutation.
pub fn all() -> impl Iterator<Item = &'static Mutation> {
    [
        BASIC,
        registers::ALL,
        memory::ALL,
        mappings::ALL,
        descriptors::ALL,
        signals::ALL,
        processes::ALL,
        attributes::ALL,
    ]
    .into_iter()
    .flatten()
}

mutations! {
    scribble_on_heap => Rewound,
    leak_small_blocks => Rewound,
    leak_a_large_block => Rewound,
    trim_the_heap => Rewound,
    move_the_break_up => Rewound,
    move_the_break_down => Rewound,
    move_the_break_by_a_word => Rewound,
    unmap_template_memory => Rewound,
    replace_template_memory => Rewound,
    move_template_memory => Rewound,
    write_protect_template_memory => Rewound,
    drop_template_memory => Rewound,
    drop_the_overlay => Rewound,
    patch_code => Denied(libc::EACCES),
    patch_code_through_proc => Denied(libc::EIO),
    patch_generated_code => Rewound,
    patch_generated_code_through_proc => Rewound,
    write_to_read_only_data => Rewound,
    patch_the_vdso => Rewound,
    lock_a_mapping => Refused(Row::Mappings),
    switch_a_processor_feature => Refused(Row::Registers),
    grow_the_stack => Rewound,
    map_shared_memory => Rewound,
    replace_code => Refused(Row::Mappings),
    unmap_the_stub => Refused(Row::Mappings),
    unmap_the_table => Refused(Row::Mappings),
    leave_a_secret_in_scratch => Rewound,
    set_mxcsr => Rewound,
    fill_vector_registers => Rewound,
    open_files => Rewound,
    open_many_files => Rewound,
    listen_on_a_port => Rewound,
    close_standard_error => Refused(Row::Descriptors),
    replace_a_pipe => Refused(Row::Descriptors),
    unblock_a_pipe => Rewound,
    own_a_pipe => Refused(Row::Descriptors),
    clear_close_on_exec => Rewound,
    seek_in_the_image => Rewound,
    change_a_pipes_mode => Refused(Row::Descriptors),
    change_a_pipes_times => Rewound,
    lock_inherited_files => Rewound,
    give_pages_away => Denied(libc::ENOSYS),
    send_without_copying => Denied(libc::EOPNOTSUPP),
    handle_a_signal => Rewound,
    ignore_a_signal => Rewound,
    block_signals => Rewound,
    leave_signals_pending => Rewound,
    use_an_alternate_stack => Rewound,
    start_interval_timers => Rewound,
    start_a_posix_timer => Refused(Row::Timers),
    leave_threads_sleeping => Rewound,
    leave_threads_spinning => Rewound,
    leave_a_thread_that_forks => Rewound,
    leave_a_child => Rewound,
    leave_a_zombie => Rewound,
    leave_a_daemon => Rewound,
    leave_a_stopped_child => Rewound,
    run_a_program => Rewound,
    leave_many_children => Rewound,
    change_umask => Rewound,
    change_directory => Rewound,
    change_name => Rewound,
    change_harmless_attributes => Rewound,
    move_the_robust_list => Rewound,
    move_the_tid_address => Rewound,
    unregister_rseq => Refused(Row::ThreadAreas),
    hide_from_the_tracer => Refused(Row::Attributes),
    start_a_session => Refused(Row::Attributes),
    lower_a_limit => Refused(Row::Limits),
    have_a_child_lower_a_limit => Refused(Row::Limits),
    be_nice => Refused(Row::Scheduling),
    pin_to_a_processor => Refused(Row::Scheduling),
    change_io_priority => Refused(Row::Scheduling),
    lock_memory => Refused(Row::MemoryAdvice),
    advise_on_memory => Refused(Row::MemoryAdvice),
    make_shared_memory => Denied(libc::ENOSYS),
    make_a_message_queue => Denied(libc::ENOSYS),
    filter_system_calls => Refused(Row::Credentials),
    call_the_unknown => Refused(Row::Unknown),
    trace_a_child => Denied(libc::EPERM),
    leave_the_namespace => Denied(libc::EPERM),
    clone_into_a_namespace => Denied(libc::EPERM),
    use_io_uring => Denied(libc::ENOSYS),
    keep_a_key => Denied(libc::EPERM),
    free_lazily => Denied(libc::EINVAL),
}

const PAGE: usize = 4096;

/// A whole page in the middle of the ballast.
fn ballast_page() -> *mut u8 {
    let ballast = BALLAST.lock().expect("ballast");
    let at = ballast.as_ptr() as usize + ballast.len() / 2;
    (at & !(PAGE - 1)) as *mut u8
}

/// Far enough from [`ballast_page`] to be in no run of pages with it.
fn another_ballast_page() -> *mut u8 {
    ballast_page().wrapping_add(64 * PAGE)
}

pub fn write_one_page() -> String {
    // SAFETY: within the ballast.
    unsafe { ballast_page().write_volatile(0x11) };
    "done".into()
}

pub fn write_another_page() -> String {
    let (page, other) = (ballast_page(), another_ballast_page());
    // SAFETY: within the ballast, which is plain bytes, whatever they are.
    unsafe {
        assert_eq!(libc::madvise(page.cast(), PAGE, libc::MADV_DONTNEED), 0);
        other.write_volatile(0x22);
    }
    "done".into()
}

/// What begins those two.
pub fn pages() -> String {
    // SAFETY: within the ballast.
    let bytes = unsafe {
        [
            ballast_page().read_volatile(),
            another_ballast_page().read_volatile(),
        ]
    };
    format!("{bytes:x?}")
}

fn code_page() -> *mut u8 {
    (scribble_on_heap as *const () as usize & !(PAGE - 1)) as *mut u8
}

/// The error of the call that just failed, or 0.
fn outcome(returned: i64) -> i64 {
    if returned == -1 {
        i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        0
    }
}

fn must(returned: i64) -> i64 {
    let error = outcome(returned);
    assert_eq!(error, 0, "{}", std::io::Error::last_os_error());
    0
}

fn call(number: libc::c_long, args: [i64; 4]) -> i64 {
    // SAFETY: mutations are this process's to make; the engine's job is to survive.
    unsafe { libc::syscall(number, args[0], args[1], args[2], args[3]) }
}

/// What a mutation says that does not come back.
pub fn answer() {
    must(call(libc::SYS_write, [1, c"0\n".as_ptr() as i64, 2, 0]) - 2);
}

fn scribble_on_heap() -> i64 {
    COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    for page in BALLAST.lock().expect("ballast").chunks_mut(PAGE) {
        page[17] = 1;
    }
    0
}

fn leak_small_blocks() -> i64 {
    for index in 0..40_000u32 {
        forget(vec![index as u8; 100]);
    }
    0
}

fn leak_a_large_block() -> i64 {
    forget(vec![7u8; 48 << 20]);
    0
}

fn trim_the_heap() -> i64 {
    leak_small_blocks();
    // SAFETY: as in `call`.
    unsafe { libc::malloc_trim(0) };
    0
}

fn move_the_break_up() -> i64 {
    // SAFETY: as in `call`.
    let at = unsafe { libc::sbrk(3 << 20) };
    // SAFETY: just got.
    unsafe { at.cast::<u8>().write_bytes(9, 3 << 20) };
    0
}

fn move_the_break_down() -> i64 {
    // Beyond what the template had, so the end of its heap goes, which is nobody's.
    // SAFETY: as in `call`.
    unsafe { libc::sbrk(-(64 << 10)) };
    0
}

/// Within its page: no mapping shows it.
fn move_the_break_by_a_word() -> i64 {
    // SAFETY: as in `call`.
    unsafe { libc::sbrk(-8) };
    0
}

fn unmap_template_memory() -> i64 {
    must(call(
        libc::SYS_munmap,
        [ballast_page() as i64, PAGE as i64, 0, 0],
    ))
}

fn map_over(at: *mut u8, protection: i32) -> i64 {
    // SAFETY: as in `call`.
    let got = unsafe {
        libc::mmap(
            at.cast(),
            PAGE,
            protection,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    assert_eq!(got, at.cast());
    0
}

fn replace_template_memory() -> i64 {
    let at = ballast_page();
    map_over(at, libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: just mapped.
    unsafe { at.write_bytes(3, PAGE) };
    0
}

fn move_template_memory() -> i64 {
    // SAFETY: as in `call`.
    let got = unsafe { libc::mremap(ballast_page().cast(), PAGE, 8 * PAGE, libc::MREMAP_MAYMOVE) };
    must(got as i64)
}

fn write_protect_template_memory() -> i64 {
    must(call(
        libc::SYS_mprotect,
        [
            ballast_page() as i64,
            PAGE as i64,
            libc::PROT_READ.into(),
            0,
        ],
    ))
}

fn drop_template_memory() -> i64 {
    must(call(
        libc::SYS_madvise,
        [
            ballast_page() as i64,
            PAGE as i64,
            libc::MADV_DONTNEED.into(),
            0,
        ],
    ))
}

fn drop_the_overlay() -> i64 {
    // The stack's upper end was written before the ready point: its arguments go.
    let text = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let stack = text
        .lines()
        .find(|line| line.ends_with("[stack]"))
        .expect("stack");
    let end = stack.split(['-', ' ']).nth(1).expect("end");
    let end = i64::from_str_radix(end, 16).expect("hex");
    must(call(
        libc::SYS_madvise,
        [
            end - PAGE as i64,
            PAGE as i64,
            libc::MADV_DONTNEED.into(),
            0,
        ],
    ))
}

fn write_at(at: *mut u8) -> i64 {
    let both = i64::from(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC);
    let page = at as i64 & -(PAGE as i64);
    must(call(libc::SYS_mprotect, [page, PAGE as i64, both, 0]));
    // SAFETY: made writable; nobody uses what is there.
    unsafe { at.write_volatile(!at.read_volatile()) };
    let back = i64::from(libc::PROT_READ | libc::PROT_EXEC);
    must(call(libc::SYS_mprotect, [page, PAGE as i64, back, 0]))
}

/// A file's: it is mapped so that nobody can write to it.
fn patch_code() -> i64 {
    let both = i64::from(libc::PROT_READ | libc::PROT_WRITE);
    let page = code_page() as i64;
    outcome(call(libc::SYS_mprotect, [page, PAGE as i64, both, 0]))
}

fn patch_code_through_proc() -> i64 {
    write_through_proc(code_page())
}

fn patch_generated_code() -> i64 {
    write_at(generated_code())
}

fn patch_generated_code_through_proc() -> i64 {
    write_through_proc(generated_code())
}

/// Changes what is there, which nobody uses.
fn write_through_proc(at: *mut u8) -> i64 {
    let mut memory = File::options()
        .write(true)
        .open("/proc/self/mem")
        .expect("mem");
    memory.seek(SeekFrom::Start(at as u64)).expect("seek");
    // SAFETY: code is readable.
    match memory.write_all(&[unsafe { !at.read_volatile() }]) {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().expect("the kernel's").into(),
    }
}

/// The loader writes addresses to it, and takes the right to do so away (ld(1), relro).
static READ_ONLY: [&str; PAGE / 8] = ["relocated"; PAGE / 8];

fn write_to_read_only_data() -> i64 {
    let at = ((READ_ONLY.as_ptr() as usize + PAGE - 1) & !(PAGE - 1)) as *mut u8;
    write_at(at)
}

/// A page of code that no file has, as a compiler makes that runs with the program.
static GENERATED: OnceLock<usize> = OnceLock::new();

fn generated_code() -> *mut u8 {
    *GENERATED.get().expect("made by the template") as *mut u8
}

/// In the template, before it is frozen.
pub fn generate_code() {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: new memory.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, rights, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED);
    // SAFETY: just mapped; nobody runs it.
    unsafe { at.cast::<u8>().write_bytes(0xc3, PAGE) };
    let rights = i64::from(libc::PROT_READ | libc::PROT_EXEC);
    must(call(
        libc::SYS_mprotect,
        [at as i64, PAGE as i64, rights, 0],
    ));
    GENERATED.set(at as usize).expect("set once");
}

fn patch_the_vdso() -> i64 {
    let at = mapping("[vdso]");
    let writable = i64::from(libc::PROT_READ | libc::PROT_WRITE);
    if call(libc::SYS_mprotect, [at, PAGE as i64, writable, 0]) == -1 {
        // Newer kernels do not let it be written to: nothing to put back.
        return 0;
    }
    // Of the header's padding (elf(5), EI_PAD).
    write_at((at + 9) as *mut u8)
}

fn lock_a_mapping() -> i64 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_LOCKED;
    call(
        libc::SYS_mmap,
        [0, PAGE as i64, libc::PROT_READ.into(), flags.into()],
    );
    0
}

fn switch_a_processor_feature() -> i64 {
    // Its state as it is: that it was asked is enough.
    const ARCH_SET_CPUID: i64 = 0x1012;
    call(libc::SYS_arch_prctl, [ARCH_SET_CPUID, 1, 0, 0]);
    0
}

fn grow_the_stack() -> i64 {
    fn deep(levels: u32) -> u64 {
        let mut frame = [levels as u8; 32 << 10];
        std::hint::black_box(&mut frame);
        if levels == 0 {
            0
        } else {
            deep(levels - 1) + u64::from(frame[77])
        }
    }
    std::hint::black_box(deep(150));
    0
}

fn map_shared_memory() -> i64 {
    // SAFETY: as in `call`.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            1 << 20,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    // SAFETY: just mapped.
    unsafe { at.cast::<u8>().write_bytes(1, 1 << 20) };
    0
}

/// The start of the mapping that has this in its line.
fn mapping(what: &str) -> i64 {
    let text = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let line = text
        .lines()
        .find(|line| line.contains(what))
        .expect("mapping");
    i64::from_str_radix(line.split('-').next().expect("start"), 16).expect("hex")
}

fn stub() -> i64 {
    let text = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let is_it = |line: &&str| line.contains("r-xs") && line.contains("memfd:snapshot");
    let line = text.lines().find(is_it).expect("the stub's code");
    i64::from_str_radix(line.split('-').next().expect("start"), 16).expect("hex")
}

fn replace_code() -> i64 {
    // The program's own head, which is the lowest.
    map_over(mapping("r--s 00000000") as *mut u8, libc::PROT_READ)
}

fn unmap_the_stub() -> i64 {
    must(call(libc::SYS_munmap, [stub(), PAGE as i64, 0, 0]))
}

fn unmap_the_table() -> i64 {
    must(call(
        libc::SYS_munmap,
        [mapping("memfd:table"), PAGE as i64, 0, 0],
    ))
}

fn leave_a_secret_in_scratch() -> i64 {
    // The engine's scratch area is the tenant's to read and write, like all else.
    let text = std::fs::read_to_string("/proc/self/maps").expect("maps");
    for line in text
        .lines()
        .filter(|line| line.contains("rw-p 00000000 00:00 0"))
    {
        let (start, end) = line
            .split(' ')
            .next()
            .and_then(|it| it.split_once('-'))
            .expect("range");
        let start = usize::from_str_radix(start, 16).expect("hex");
        let end = usize::from_str_radix(end, 16).expect("hex");
        if end - start == 32 << 10 {
            // SAFETY: mapped and writable.
            unsafe { (start as *mut u8).write_bytes(0x77, end - start) };
        }
    }
    0
}

fn set_mxcsr() -> i64 {
    let value = 0x1f80u32 | 0x8040;
    // SAFETY: flush-to-zero is a valid setting.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const value) };
    0
}

fn fill_vector_registers() -> i64 {
    // SAFETY: the registers are declared as changed.
    unsafe {
        std::arch::asm!(
            "mov {t}, 0x5ec2e75ec2e7",
            "movq xmm15, {t}",
            "movq xmm14, {t}",
            t = out(reg) _, out("xmm15") _, out("xmm14") _,
        );
    }
    0
}

fn open_files() -> i64 {
    forget(File::open("/etc/passwd").expect("open"));
    forget(std::os::unix::net::UnixStream::pair().expect("pair"));
    must(call(libc::SYS_eventfd2, [3, 0, 0, 0]));
    must(call(libc::SYS_epoll_create1, [0; 4]));
    must(call(libc::SYS_timerfd_create, [1, 0, 0, 0]));
    must(call(libc::SYS_inotify_init1, [0; 4]))
}

fn open_many_files() -> i64 {
    for _ in 0..300 {
        forget(File::open("/dev/null").expect("open"));
    }
    0
}

fn listen_on_a_port() -> i64 {
    forget(std::net::TcpListener::bind("127.0.0.1:0").expect("bind"));
    0
}

fn close_standard_error() -> i64 {
    must(call(libc::SYS_close, [2, 0, 0, 0]))
}

fn replace_a_pipe() -> i64 {
    let other = File::open("/dev/null").expect("open");
    must(call(libc::SYS_dup3, [other.as_raw_fd().into(), 2, 0, 0]))
}

fn fcntl(number: i64, command: i32, argument: i64) -> i64 {
    must(call(libc::SYS_fcntl, [number, command.into(), argument, 0]))
}

fn unblock_a_pipe() -> i64 {
    fcntl(2, libc::F_SETFL, (libc::O_WRONLY | libc::O_NONBLOCK).into())
}

fn own_a_pipe() -> i64 {
    fcntl(2, libc::F_SETOWN, std::process::id().into())
}

fn clear_close_on_exec() -> i64 {
    fcntl(3, libc::F_SETFD, 0)
}

fn seek_in_the_image() -> i64 {
    must(call(libc::SYS_lseek, [3, 100, libc::SEEK_SET.into(), 0]))
}

fn change_a_pipes_mode() -> i64 {
    must(call(libc::SYS_fchmod, [2, 0o200, 0, 0]))
}

fn change_a_pipes_times() -> i64 {
    let long_ago = [libc::timespec {
        tv_sec: 1,
        tv_nsec: 0,
    }; 2];
    must(call(
        libc::SYS_utimensat,
        [2, 0, &raw const long_ago as i64, 0],
    ))
}

fn lock_inherited_files() -> i64 {
    // SAFETY: plain data.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_RDLCK as i16;
    fcntl(3, libc::F_SETLK, &raw const lock as i64);
    fcntl(3, libc::F_OFD_SETLK, &raw const lock as i64);
    must(call(libc::SYS_flock, [3, libc::LOCK_SH.into(), 0, 0]))
}

fn give_pages_away() -> i64 {
    let piece = libc::iovec {
        iov_base: ballast_page().cast(),
        iov_len: PAGE,
    };
    outcome(call(libc::SYS_vmsplice, [2, &raw const piece as i64, 1, 0]))
}

fn send_without_copying() -> i64 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("socket");
    let on = 1i32;
    // Five arguments, one more than `call` has.
    // SAFETY: as in `call`.
    outcome(unsafe {
        libc::syscall(
            libc::SYS_setsockopt,
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ZEROCOPY,
            &raw const on,
            4,
        )
    })
}

extern "C" fn on_signal(_: i32) {}

fn action(signal: i32, handler: usize) -> i64 {
    // SAFETY: a handler that does nothing.
    must(unsafe { libc::signal(signal, handler) } as i64)
}

fn handle_a_signal() -> i64 {
    action(libc::SIGUSR1, on_signal as *const () as usize)
}

fn ignore_a_signal() -> i64 {
    action(libc::SIGTRAP, libc::SIG_IGN);
    action(libc::SIGTERM, libc::SIG_IGN)
}

fn block_all() {
    // SAFETY: plain data.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

fn block_signals() -> i64 {
    block_all();
    0
}

fn leave_signals_pending() -> i64 {
    block_all();
    for signal in [
        libc::SIGUSR1,
        libc::SIGTERM,
        libc::SIGRTMIN() + 3,
        libc::SIGCHLD,
    ] {
        let own = std::process::id().into();
        must(call(libc::SYS_kill, [own, signal.into(), 0, 0]));
        must(call(libc::SYS_tgkill, [own, own, signal.into(), 0]));
    }
    0
}

fn use_an_alternate_stack() -> i64 {
    let stack = libc::stack_t {
        ss_sp: Box::leak(vec![0u8; 64 << 10].into_boxed_slice())
            .as_mut_ptr()
            .cast::<c_void>(),
        ss_flags: 0,
        ss_size: 64 << 10,
    };
    // SAFETY: leaked memory.
    must(unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) }.into())
}

fn start_interval_timers() -> i64 {
    // Would kill the next tenant a moment later.
    start_interval_timers_of(20_000)
}

fn start_interval_timers_of(microseconds: i64) -> i64 {
    let period = libc::timeval {
        tv_sec: 0,
        tv_usec: microseconds,
    };
    let soon = libc::itimerval {
        it_interval: period,
        it_value: period,
    };
    for timer in [libc::ITIMER_REAL, libc::ITIMER_PROF, libc::ITIMER_VIRTUAL] {
        must(call(
            libc::SYS_setitimer,
            [timer.into(), &raw const soon as i64, 0, 0],
        ));
    }
    0
}

fn start_a_posix_timer() -> i64 {
    let mut id = 0i32;
    must(call(
        libc::SYS_timer_create,
        [libc::CLOCK_MONOTONIC.into(), 0, &raw mut id as i64, 0],
    ))
}

fn leave_threads_sleeping() -> i64 {
    for _ in 0..8 {
        std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(3600)));
    }
    0
}

fn leave_threads_spinning() -> i64 {
    for _ in 0..3 {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    0
}

fn leave_a_thread_that_forks() -> i64 {
    std::thread::spawn(|| {
        loop {
            // SAFETY: the child only exits.
            unsafe {
                match libc::fork() {
                    0 => libc::_exit(0),
                    child => libc::waitpid(child, std::ptr::null_mut(), 0),
                };
            }
        }
    });
    0
}

fn forked(child: impl FnOnce()) -> i32 {
    // SAFETY: the child runs what is given and ends.
    match unsafe { libc::fork() } {
        0 => {
            child();
            // SAFETY: ends this process.
            unsafe { libc::_exit(0) }
        }
        pid => pid,
    }
}

fn sleep_forever() {
    loop {
        // SAFETY: waits.
        unsafe { libc::pause() };
    }
}

fn leave_a_child() -> i64 {
    forked(sleep_forever);
    0
}

fn leave_a_zombie() -> i64 {
    let pid = forked(|| {});
    // Until it is one; not reaped.
    // SAFETY: zeroed siginfo is valid; WNOWAIT leaves the zombie.
    unsafe {
        let mut info = std::mem::zeroed();
        libc::waitid(
            libc::P_PID,
            pid.unsigned_abs(),
            &raw mut info,
            libc::WEXITED | libc::WNOWAIT,
        );
    }
    0
}

fn leave_a_daemon() -> i64 {
    let pid = forked(|| {
        // SAFETY: a new session for a new process.
        unsafe { libc::setsid() };
        forked(|| {
            block_all();
            sleep_forever();
        });
    });
    // SAFETY: waits for the one in between.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    0
}

fn leave_a_stopped_child() -> i64 {
    let pid = forked(sleep_forever);
    must(call(
        libc::SYS_kill,
        [pid.into(), libc::SIGSTOP.into(), 0, 0],
    ))
}

fn run_a_program() -> i64 {
    let status = std::process::Command::new("/bin/true")
        .status()
        .expect("run");
    i64::from(!status.success())
}

fn leave_many_children() -> i64 {
    for _ in 0..40 {
        forked(sleep_forever);
    }
    0
}

fn change_umask() -> i64 {
    call(libc::SYS_umask, [0o777, 0, 0, 0]);
    0
}

fn change_directory() -> i64 {
    std::env::set_current_dir("/tmp").expect("chdir");
    0
}

fn prctl(option: i32, argument: i64) -> i64 {
    must(call(libc::SYS_prctl, [option.into(), argument, 0, 0]))
}

fn change_name() -> i64 {
    prctl(libc::PR_SET_NAME, c"impostor".as_ptr() as i64)
}

fn change_harmless_attributes() -> i64 {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL.into());
    prctl(libc::PR_SET_TIMERSLACK, 123_456);
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

fn move_the_robust_list() -> i64 {
    let head = Box::leak(Box::new([0u64; 3])).as_ptr();
    must(call(libc::SYS_set_robust_list, [head as i64, 24, 0, 0]))
}

fn move_the_tid_address() -> i64 {
    let at = Box::leak(Box::new(0u64)) as *mut u64;
    call(libc::SYS_set_tid_address, [at as i64, 0, 0, 0]);
    0
}

/// Where glibc registered the calling thread.
fn rseq_area() -> isize {
    unsafe extern "C" {
        static __rseq_offset: isize;
    }
    let thread: isize;
    // SAFETY: the thread pointer stands at fs:0; glibc says how far from it its
    // area is (2.35).
    unsafe {
        std::arch::asm!("mov {}, fs:0", out(reg) thread);
        thread + __rseq_offset
    }
}

fn unregister_rseq() -> i64 {
    must(call(
        libc::SYS_rseq,
        [rseq_area() as i64, 32, 1, 0x5305_3053],
    ))
}

fn hide_from_the_tracer() -> i64 {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

fn start_a_session() -> i64 {
    must(call(libc::SYS_setsid, [0; 4]))
}

fn lower_a_limit() -> i64 {
    let limit = libc::rlimit {
        rlim_cur: 100,
        rlim_max: 100,
    };
    must(call(
        libc::SYS_setrlimit,
        [libc::RLIMIT_NOFILE.into(), &raw const limit as i64, 0, 0],
    ))
}

/// Whose processes may do that, too.
fn have_a_child_lower_a_limit() -> i64 {
    let limit = libc::rlimit {
        rlim_cur: 100,
        rlim_max: 100,
    };
    let own = std::process::id() as i32;
    // SAFETY: the child makes one call, and ends.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let none = std::ptr::null_mut();
            libc::_exit(libc::prlimit(
                own,
                libc::RLIMIT_NOFILE,
                &raw const limit,
                none,
            ));
        }
        let mut status = 0;
        must(libc::waitpid(child, &raw mut status, 0).into());
        status.into()
    }
}

fn be_nice() -> i64 {
    must(call(libc::SYS_setpriority, [0, 0, 7, 0]))
}

fn pin_to_a_processor() -> i64 {
    let first = 1u64;
    must(call(
        libc::SYS_sched_setaffinity,
        [0, 8, &raw const first as i64, 0],
    ))
}

fn change_io_priority() -> i64 {
    const IDLE: i64 = 3 << 13;
    must(call(libc::SYS_ioprio_set, [1, 0, IDLE, 0]))
}

fn lock_memory() -> i64 {
    call(libc::SYS_mlock, [ballast_page() as i64, PAGE as i64, 0, 0]);
    0
}

fn advise_on_memory() -> i64 {
    must(call(
        libc::SYS_madvise,
        [
            ballast_page() as i64,
            PAGE as i64,
            libc::MADV_DONTDUMP.into(),
            0,
        ],
    ))
}

fn make_shared_memory() -> i64 {
    outcome(call(libc::SYS_shmget, [0, 4096, 0o600, 0]))
}

fn make_a_message_queue() -> i64 {
    outcome(call(libc::SYS_msgget, [0, 0o600, 0, 0]))
}

fn filter_system_calls() -> i64 {
    // Fails for want of a program; that it was tried is enough.
    call(libc::SYS_seccomp, [1, 0, 0, 0]);
    0
}

fn call_the_unknown() -> i64 {
    call(9999, [0; 4]);
    0
}

fn trace_a_child() -> i64 {
    let pid = forked(sleep_forever);
    outcome(call(
        libc::SYS_ptrace,
        [libc::PTRACE_SEIZE.into(), pid.into(), 0, 0],
    ))
}

fn leave_the_namespace() -> i64 {
    outcome(call(
        libc::SYS_unshare,
        [libc::CLONE_NEWUSER.into(), 0, 0, 0],
    ))
}

fn clone_into_a_namespace() -> i64 {
    outcome(call(
        libc::SYS_clone,
        [(libc::CLONE_NEWUSER | libc::SIGCHLD).into(), 0, 0, 0],
    ))
}

fn use_io_uring() -> i64 {
    outcome(call(libc::SYS_io_uring_setup, [8, 0, 0, 0]))
}

fn keep_a_key() -> i64 {
    outcome(call(libc::SYS_add_key, [0; 4]))
}

fn free_lazily() -> i64 {
    outcome(call(
        libc::SYS_madvise,
        [
            ballast_page() as i64,
            PAGE as i64,
            libc::MADV_FREE.into(),
            0,
        ],
    ))
}

/// What a tenant can see of itself that no file shows.
pub fn look() -> String {
    let ballast = BALLAST.lock().expect("ballast");
    let sum: u64 = ballast.iter().map(|byte| u64::from(*byte)).sum();
    let mut mxcsr = 0u32;
    let high: u64;
    // SAFETY: stores one word; reads registers.
    unsafe {
        std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr);
        std::arch::asm!("movq {}, xmm15", out(reg) high);
    }
    let counter = COUNTER.load(std::sync::atomic::Ordering::Relaxed);
    let secret = if high == 0x5ec2_e75e_c2e7 {
        " leaked"
    } else {
        ""
    };
    let cwd = std::env::current_dir().expect("cwd");
    // Still opens, so the numbers start where they did.
    let next = File::open("/dev/null").expect("open").as_raw_fd();
    format!(
        "{counter} {sum} {mxcsr:#x}{secret} {} {next} {} {} {}",
        cwd.display(),
        registers::look(),
        memory::look(),
        descriptors::look(),
    )
}
