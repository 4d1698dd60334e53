//! What becomes of each system call, said once more and independently of the table: a
//! call that is no longer denied or recorded there is to be noticed, whether or not
//! the kernel would have refused it for a reason of its own.

#![cfg(target_arch = "x86_64")]

use std::collections::BTreeSet;

use refunction_snapshot::syscalls::filter;
use seccompiler::sock_filter;
use syscalls::x86_64::Sysno;

/// There is no such call, as far as programs can tell.
const NOT_THERE: &[&str] = &[
    "_sysctl",
    "afs_syscall",
    "clone3",
    "create_module",
    "epoll_ctl_old",
    "epoll_wait_old",
    "get_kernel_syms",
    "getpmsg",
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_pgetevents",
    "io_setup",
    "io_submit",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "mq_getsetattr",
    "mq_notify",
    "mq_open",
    "mq_timedreceive",
    "mq_timedsend",
    "mq_unlink",
    "msgctl",
    "msgget",
    "msgrcv",
    "msgsnd",
    "nfsservctl",
    "putpmsg",
    "query_module",
    "security",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
    "tuxcall",
    "uselib",
    "vmsplice",
    "vserver",
];

/// Not for this user.
const FORBIDDEN: &[&str] = &[
    "acct",
    "add_key",
    "adjtimex",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "fanotify_init",
    "fanotify_mark",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "lsm_set_self_attr",
    "migrate_pages",
    "mount",
    "mount_setattr",
    "move_mount",
    "move_pages",
    "open_by_handle_at",
    "open_tree",
    "open_tree_attr",
    "perf_event_open",
    "personality",
    "pidfd_getfd",
    "pivot_root",
    "process_madvise",
    "process_mrelease",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "umount2",
    "unshare",
    "userfaultfd",
    "vhangup",
];

/// Allowed and remembered.
const RECORDED: &[&str] = &[
    "arch_prctl",
    "capset",
    "chroot",
    "fcntl",
    "file_setattr",
    "fremovexattr",
    "fsetxattr",
    "futex_requeue",
    "ioctl",
    "landlock_restrict_self",
    "lremovexattr",
    "lsetxattr",
    "madvise",
    "map_shadow_stack",
    "mbind",
    "membarrier",
    "memfd_secret",
    "mlock",
    "mlock2",
    "mlockall",
    "modify_ldt",
    "mseal",
    "munlock",
    "munlockall",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "prctl",
    "remap_file_pages",
    "removexattr",
    "removexattrat",
    "seccomp",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "set_thread_area",
    "setfsgid",
    "setfsuid",
    "setxattr",
    "setxattrat",
    "timer_create",
    "timer_delete",
    "timer_settime",
    "uprobe",
    "uretprobe",
];

/// Allowed, and the engine looks after what they change: limits, timers, locks, signals
/// for one thread, scheduling and sessions, names and directories, descriptors and rights,
/// by the number that the filter says.
const NOTED: [(&[&str], u32); 7] = [
    (&["setrlimit"], 2),
    (&["alarm", "setitimer"], 3),
    (&["flock"], 6),
    (
        &["tkill", "tgkill", "rt_tgsigqueueinfo", "pidfd_send_signal"],
        4,
    ),
    (
        &[
            "ioprio_set",
            "sched_setaffinity",
            "sched_setattr",
            "sched_setparam",
            "sched_setscheduler",
            "setpgid",
            "setpriority",
            "setsid",
        ],
        7,
    ),
    (&["chdir", "fchdir", "umask"], 8),
    (
        &[
            "chmod",
            "chown",
            "fchmod",
            "fchmodat",
            "fchmodat2",
            "fchown",
            "fchownat",
            "lchown",
        ],
        9,
    ),
];

/// Noted of the descriptors that a worker is born with; here, of what functions open.
const OF_ANY_BUT_THE_FIRST: [&str; 4] = ["close", "close_range", "dup2", "dup3"];

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const RECORD: u32 = libc::SECCOMP_RET_TRACE;

const fn refuse(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

/// `AUDIT_ARCH_X86_64` (`linux/audit.h`).
const NATIVE: u32 = 0xc000_003e;
/// `__X32_SYSCALL_BIT` (asm/unistd.h).
const X32: u32 = 0x4000_0000;

/// The kernel's machine, as far as the filter uses it (linux/filter.h).
fn run(program: &[sock_filter], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut accumulator = 0;
    let mut at = 0;
    loop {
        let it = &program[at];
        at += 1;
        let holds = match u32::from(it.code) {
            // BPF_LD | BPF_W | BPF_ABS, of struct seccomp_data.
            0x20 => {
                accumulator = match it.k {
                    0 => number,
                    4 => architecture,
                    offset if offset % 8 == 0 => arguments[(offset as usize - 16) / 8] as u32,
                    offset => (arguments[(offset as usize - 20) / 8] >> 32) as u32,
                };
                continue;
            }
            // BPF_JMP | BPF_JA
            0x05 => {
                at += it.k as usize;
                continue;
            }
            // BPF_RET
            0x06 => return it.k,
            // BPF_JEQ, BPF_JGE, BPF_JSET
            0x15 => accumulator == it.k,
            0x35 => accumulator >= it.k,
            0x45 => accumulator & it.k != 0,
            code => panic!("unknown instruction {code:#x}"),
        };
        at += usize::from(if holds { it.jt } else { it.jf });
    }
}

fn number(name: &str) -> u32 {
    let call: Sysno = name.parse().unwrap_or_else(|_| panic!("no call {name}"));
    call.id() as u32
}

/// What becomes of a call with these arguments, the others being zero.
fn verdict(name: &str, arguments: &[(usize, u64)]) -> u32 {
    let mut all = [0; 6];
    for (index, value) in arguments {
        all[*index] = *value;
    }
    run(&filter(), NATIVE, number(name), all)
}

#[test]
fn each_call_has_the_verdict_that_stands_here() {
    let program = filter();
    let mut named = BTreeSet::new();
    for (names, expected) in [
        (NOT_THERE, refuse(libc::ENOSYS)),
        (FORBIDDEN, refuse(libc::EPERM)),
        (&["restart_syscall"], refuse(libc::EINTR)),
        (RECORDED, RECORD),
    ] {
        for name in names {
            assert!(named.insert(number(name)), "{name} stands here twice");
            // What arguments decide is below; of these no list knows any.
            let made = run(&program, NATIVE, number(name), [u64::MAX; 6]);
            assert_eq!(made, expected, "{name}: {made:#x}");
        }
    }
    for (names, message) in NOTED {
        for name in names {
            assert!(named.insert(number(name)), "{name} stands here twice");
            assert_eq!(verdict(name, &[]), RECORD | message, "{name}");
        }
    }
    for call in Sysno::iter().filter(|call| !named.contains(&(call.id() as u32))) {
        // Of close_range they are no flags.
        let descriptor = if OF_ANY_BUT_THE_FIRST.contains(&call.name()) {
            6
        } else {
            0
        };
        let arguments = [descriptor, descriptor, 0, 0, 0, 0];
        let made = run(&program, NATIVE, call.id() as u32, arguments);
        assert_eq!(made, ALLOW, "{call}: {made:#x}");
    }
}

#[test]
fn what_nobody_knows_is_recorded() {
    let program = filter();
    let known: BTreeSet<u32> = Sysno::iter().map(|call| call.id() as u32).collect();
    for number in (0..2000).chain([0x3fff_ffff]) {
        if !known.contains(&number) {
            assert_eq!(run(&program, NATIVE, number, [0; 6]), RECORD, "{number}");
        }
    }
}

#[test]
fn other_conventions_have_no_calls() {
    let program = filter();
    // AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64
    for architecture in [0x4000_0003, 0xc000_00b7] {
        for number in 0..600 {
            let made = run(&program, architecture, number, [0; 6]);
            assert_eq!(made, refuse(libc::ENOSYS), "{architecture:#x} {number}");
        }
    }
    for number in 0..600 {
        let made = run(&program, NATIVE, X32 | number, [0; 6]);
        assert_eq!(made, refuse(libc::ENOSYS), "{number} of x32");
    }
}

#[test]
fn arguments_decide() {
    for flag in [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_UNTRACED,
    ] {
        let flags = (flag | libc::SIGCHLD) as u64;
        assert_eq!(
            verdict("clone", &[(0, flags)]),
            refuse(libc::EPERM),
            "{flag:#x}"
        );
    }
    const GUARD_INSTALL: i32 = 102;
    const GUARD_REMOVE: i32 = 103;
    for advice in [
        libc::MADV_FREE,
        libc::MADV_DONTFORK,
        libc::MADV_MERGEABLE,
        libc::MADV_HWPOISON,
        libc::MADV_SOFT_OFFLINE,
        GUARD_INSTALL,
        GUARD_REMOVE,
    ] {
        let made = verdict("madvise", &[(2, advice as u64)]);
        assert_eq!(made, refuse(libc::EINVAL), "advice {advice}");
    }
    for advice in [
        libc::MADV_DONTDUMP,
        libc::MADV_HUGEPAGE,
        libc::MADV_WIPEONFORK,
    ] {
        assert_eq!(
            verdict("madvise", &[(2, advice as u64)]),
            RECORD,
            "advice {advice}"
        );
    }
    for request in [libc::TIOCSTI, libc::TIOCLINUX] {
        let made = verdict("ioctl", &[(1, request)]);
        assert_eq!(made, refuse(libc::EPERM), "request {request:#x}");
    }
    let zero_copy = [(1, libc::SOL_SOCKET as u64), (2, libc::SO_ZEROCOPY as u64)];
    assert_eq!(verdict("setsockopt", &zero_copy), refuse(libc::EOPNOTSUPP));
    const DROPPABLE: i32 = 0x08;
    const PROT_MTE: u64 = 0x20;
    for flag in [
        libc::MAP_LOCKED,
        libc::MAP_GROWSDOWN,
        libc::MAP_HUGETLB,
        DROPPABLE,
    ] {
        let flags = (flag | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        assert_eq!(verdict("mmap", &[(3, flags)]), RECORD, "flag {flag:#x}");
    }
    assert_eq!(verdict("mmap", &[(2, PROT_MTE)]), RECORD);
    for operation in 0..14 {
        let requeues = [
            libc::FUTEX_REQUEUE,
            libc::FUTEX_CMP_REQUEUE,
            libc::FUTEX_CMP_REQUEUE_PI,
        ];
        let expected = if requeues.contains(&operation) {
            RECORD
        } else {
            ALLOW
        };
        for how in [
            0,
            libc::FUTEX_PRIVATE_FLAG,
            libc::FUTEX_CLOCK_REALTIME,
            libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME,
        ] {
            let made = verdict("futex", &[(1, (operation | how) as u64)]);
            assert_eq!(made, expected, "futex {operation:#x} {how:#x}");
        }
    }
    assert_eq!(verdict("mprotect", &[(2, PROT_MTE)]), RECORD);
    for command in [
        libc::F_SETLK,
        libc::F_SETLKW,
        libc::F_OFD_SETLK,
        libc::F_OFD_SETLKW,
    ] {
        let made = verdict("fcntl", &[(1, command as u64)]);
        assert_eq!(made, RECORD | 6, "command {command}");
    }
    for command in [
        libc::F_SETLEASE,
        libc::F_NOTIFY,
        libc::F_SETOWN,
        libc::F_SETPIPE_SZ,
        libc::F_ADD_SEALS,
    ] {
        assert_eq!(
            verdict("fcntl", &[(1, command as u64)]),
            RECORD,
            "command {command}"
        );
    }
    for command in [libc::F_SETFD, libc::F_SETFL] {
        let made = verdict("fcntl", &[(0, 9), (1, command as u64)]);
        assert_eq!(made, RECORD | 9, "command {command}");
    }
    for request in [libc::FIONBIO, libc::FIOASYNC, libc::FIOCLEX, libc::FIONCLEX] {
        let made = verdict("ioctl", &[(0, 9), (1, request)]);
        assert_eq!(made, RECORD | 9, "request {request:#x}");
    }
    for (call, index) in [("close", 0), ("close_range", 0), ("dup2", 1), ("dup3", 1)] {
        for descriptor in 0..6 {
            assert_eq!(verdict(call, &[(index, descriptor)]), RECORD | 9, "{call}");
        }
        // The kernel looks at the lower half alone.
        assert_eq!(verdict(call, &[(index, 1 << 32)]), RECORD | 9, "{call}");
        assert_eq!(verdict(call, &[(0, 6), (index, 6)]), ALLOW, "{call}");
    }
    let parting = u64::from(libc::CLOSE_RANGE_UNSHARE);
    assert_eq!(verdict("close_range", &[(0, 6), (2, parting)]), RECORD | 9);
    for option in [
        libc::PR_SET_NAME,
        libc::PR_SET_PDEATHSIG,
        libc::PR_SET_TIMERSLACK,
        libc::PR_SET_CHILD_SUBREAPER,
    ] {
        let made = verdict("prctl", &[(0, option as u64)]);
        assert_eq!(made, RECORD | 8, "option {option}");
    }
    let dumpable = |value| verdict("prctl", &[(0, libc::PR_SET_DUMPABLE as u64), (1, value)]);
    assert_eq!(dumpable(1), RECORD | 8);
    assert_eq!(dumpable(0), RECORD);
    assert_eq!(
        verdict("prctl", &[(0, libc::PR_SET_SECCOMP as u64)]),
        RECORD
    );
    assert_eq!(verdict("arch_prctl", &[(0, 0x1012)]), RECORD);
    // A pointer may have nothing in either half.
    for given in [1, 1 << 12, 1 << 32, 0x7fff_0000_0000_0000] {
        assert_eq!(verdict("rt_sigaction", &[(1, given)]), RECORD | 1);
        assert_eq!(verdict("prlimit64", &[(2, given)]), RECORD | 2);
    }
    assert_eq!(verdict("rt_sigaction", &[(0, 9), (2, 1 << 12)]), ALLOW);
    assert_eq!(verdict("prlimit64", &[(1, 9), (3, 1 << 12)]), ALLOW);
    let (shared, thread) = (libc::CLONE_SIGHAND as u64, libc::CLONE_THREAD as u64);
    let memory = libc::CLONE_VM as u64;
    assert_eq!(verdict("clone", &[(0, shared | memory)]), RECORD | 5);
    assert_eq!(verdict("clone", &[(0, shared | memory | thread)]), ALLOW);
    assert_eq!(verdict("clone", &[(0, memory)]), ALLOW);
    // A request that no list has.
    assert_eq!(verdict("ioctl", &[(1, 0xdead_beef)]), RECORD);
}
