//! The table itself. Nothing here but data: what may be argued about is whether a
//! call belongs in its class, and the comment beside it says why it does.

use libc::c_long;

use crate::row::Row;

/// A condition on one argument's low 32 bits.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    /// Always.
    Any,
    /// The argument of this index is one of these.
    Is(u8, &'static [u64]),
    /// Some of these bits are set.
    Has(u8, &'static [u64]),
    /// The argument of this index is that, and the other's that.
    IsAnd(u8, u64, u8, u64),
}

use When::{Any, Has, Is, IsAnd};

const CLONE_NEW: &[u64] = &[
    libc::CLONE_NEWNS as u64,
    libc::CLONE_NEWCGROUP as u64,
    libc::CLONE_NEWUTS as u64,
    libc::CLONE_NEWIPC as u64,
    libc::CLONE_NEWUSER as u64,
    libc::CLONE_NEWPID as u64,
    libc::CLONE_NEWNET as u64,
    libc::CLONE_UNTRACED as u64,
];

const MADV_GUARD_INSTALL: u64 = 102;
const MADV_GUARD_REMOVE: u64 = 103;

/// Advice that leaves no trace beyond the page contents, which are restored.
const FREE_ADVICE: &[u64] = &[
    libc::MADV_DONTNEED as u64,
    libc::MADV_WILLNEED as u64,
    libc::MADV_COLD as u64,
    libc::MADV_PAGEOUT as u64,
    libc::MADV_POPULATE_READ as u64,
    libc::MADV_POPULATE_WRITE as u64,
];

/// Refused: pages may vanish later (allocators fall back), be merged with another
/// tenant's, or be poisoned.
const DENIED_ADVICE: &[u64] = &[
    libc::MADV_FREE as u64,
    libc::MADV_MERGEABLE as u64,
    libc::MADV_HWPOISON as u64,
    libc::MADV_SOFT_OFFLINE as u64,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
];

/// Options of prctl(2) that only read, or whose value every rewind puts back.
const FREE_PRCTL: &[u64] = &[
    libc::PR_GET_PDEATHSIG as u64,
    libc::PR_SET_PDEATHSIG as u64,
    libc::PR_GET_DUMPABLE as u64,
    libc::PR_GET_KEEPCAPS as u64,
    libc::PR_GET_TIMING as u64,
    libc::PR_SET_NAME as u64,
    libc::PR_GET_NAME as u64,
    libc::PR_GET_SECCOMP as u64,
    libc::PR_CAPBSET_READ as u64,
    libc::PR_GET_TSC as u64,
    libc::PR_GET_SECUREBITS as u64,
    libc::PR_SET_TIMERSLACK as u64,
    libc::PR_GET_TIMERSLACK as u64,
    libc::PR_MCE_KILL_GET as u64,
    libc::PR_GET_CHILD_SUBREAPER as u64,
    libc::PR_SET_CHILD_SUBREAPER as u64,
    libc::PR_SET_NO_NEW_PRIVS as u64,
    libc::PR_GET_NO_NEW_PRIVS as u64,
    libc::PR_GET_TID_ADDRESS as u64,
    libc::PR_GET_THP_DISABLE as u64,
    libc::PR_GET_SPECULATION_CTRL as u64,
];

/// `ARCH_SET_GS`, `ARCH_SET_FS`, `ARCH_GET_FS`, `ARCH_GET_GS` (arch_prctl(2)):
/// registers, which are restored. Others switch processor features for good.
const FREE_ARCH_PRCTL: &[u64] = &[0x1001, 0x1002, 0x1003, 0x1004];

/// Kinds of mapping whose nature no mapping list shows.
const RECORDED_MMAP: &[u64] = &[
    libc::MAP_LOCKED as u64,
    libc::MAP_GROWSDOWN as u64,
    libc::MAP_HUGETLB as u64,
    MAP_DROPPABLE,
];
const MAP_DROPPABLE: u64 = 0x08;

/// ioctl(2) requests that change a description shared with nobody, or nothing.
/// Whatever they change in a descriptor of the ready point, its fdinfo shows.
const DENIED_IOCTL: &[u64] = &[libc::TIOCSTI, libc::TIOCLINUX];

/// Signal numbers at which `F_SETSIG` and the like do nothing lasting are all:
/// owners and signals go with the descriptor, or show up as another fdinfo. What
/// does not: leases and notifications on files that outlive the tenant, and the
/// owner or capacity of a pipe of the ready point.
const RECORDED_FCNTL: &[u64] = &[
    libc::F_SETLEASE as u64,
    libc::F_NOTIFY as u64,
    libc::F_SETOWN as u64,
    F_SETOWN_EX,
    F_SETSIG,
    libc::F_SETPIPE_SZ as u64,
    libc::F_ADD_SEALS as u64,
];
const F_SETOWN_EX: u64 = 15;
const F_SETSIG: u64 = 10;

/// Free, always.
pub(super) const FREE: &[c_long] = &[
    // Memory: the rewind compares mappings and restores contents.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_memfd_create,
    // Files and descriptors: descriptors are closed, writable directories emptied.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_creat,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_stat,
    libc::SYS_fstat,
    libc::SYS_lstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_tee,
    libc::SYS_copy_file_range,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_pipe,
    libc::SYS_pipe2,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_getdents,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rmdir,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_utimensat,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_umask,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_pselect6,
    libc::SYS_epoll_create,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd,
    libc::SYS_eventfd2,
    libc::SYS_signalfd,
    libc::SYS_signalfd4,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_inotify_init,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    libc::SYS_ioctl,
    libc::SYS_fcntl,
    // Sockets: they close with their descriptors.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    // Time.
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_time,
    libc::SYS_times,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    // Timers that every rewind disarms.
    libc::SYS_alarm,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    // Signals: dispositions, mask, alternate stack and pending ones are restored.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_rt_sigsuspend,
    libc::SYS_sigaltstack,
    libc::SYS_pause,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_restart_syscall,
    // Threads and processes: both are traced, and ended.
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_clone,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    // An exec in the worker itself is seen as one; its children may.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Compared at every rewind.
    libc::SYS_getrlimit,
    libc::SYS_setrlimit,
    libc::SYS_prlimit64,
    libc::SYS_getpriority,
    libc::SYS_setpriority,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_setparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_getattr,
    libc::SYS_sched_setattr,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_rr_get_interval,
    libc::SYS_ioprio_get,
    libc::SYS_ioprio_set,
    libc::SYS_setsid,
    libc::SYS_setpgid,
    libc::SYS_getsid,
    libc::SYS_getpgid,
    libc::SYS_getpgrp,
    // Reading who and where one is.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_capget,
    libc::SYS_getcpu,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getrandom,
    // An unprivileged process can set its ids only to what they all are.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
];

/// Free if the argument says so.
pub(super) const FREE_WHEN: &[(c_long, When)] = &[
    (libc::SYS_madvise, Is(2, FREE_ADVICE)),
    (libc::SYS_prctl, Is(0, FREE_PRCTL)),
    (libc::SYS_arch_prctl, Is(0, FREE_ARCH_PRCTL)),
    (
        libc::SYS_prctl,
        IsAnd(0, libc::PR_SET_DUMPABLE as u64, 1, 1),
    ),
];

/// Recorded although the call as such is free.
pub(super) const RECORDED_WHEN: &[(c_long, When)] = &[
    (libc::SYS_fcntl, Is(1, RECORDED_FCNTL)),
    (libc::SYS_mmap, Has(3, RECORDED_MMAP)),
];

/// Why recorded calls refuse a rewind; what is not here is [`Row::Unknown`].
pub(super) const RECORDED: &[(c_long, &str, Row)] = &[
    (libc::SYS_madvise, "madvise", Row::MemoryAdvice),
    (libc::SYS_mlock, "mlock", Row::MemoryAdvice),
    (libc::SYS_mlock2, "mlock2", Row::MemoryAdvice),
    (libc::SYS_munlock, "munlock", Row::MemoryAdvice),
    (libc::SYS_mlockall, "mlockall", Row::MemoryAdvice),
    (libc::SYS_munlockall, "munlockall", Row::MemoryAdvice),
    (libc::SYS_mbind, "mbind", Row::MemoryAdvice),
    (libc::SYS_set_mempolicy, "set_mempolicy", Row::MemoryAdvice),
    (libc::SYS_get_mempolicy, "get_mempolicy", Row::MemoryAdvice),
    (libc::SYS_pkey_alloc, "pkey_alloc", Row::MemoryAdvice),
    (libc::SYS_pkey_free, "pkey_free", Row::MemoryAdvice),
    (libc::SYS_pkey_mprotect, "pkey_mprotect", Row::MemoryAdvice),
    (
        libc::SYS_remap_file_pages,
        "remap_file_pages",
        Row::Mappings,
    ),
    (libc::SYS_membarrier, "membarrier", Row::ThreadAreas),
    (libc::SYS_mmap, "mmap", Row::Mappings),
    (libc::SYS_arch_prctl, "arch_prctl", Row::Registers),
    (libc::SYS_modify_ldt, "modify_ldt", Row::Registers),
    (libc::SYS_set_thread_area, "set_thread_area", Row::Registers),
    (libc::SYS_prctl, "prctl", Row::Attributes),
    (libc::SYS_chroot, "chroot", Row::Attributes),
    (libc::SYS_capset, "capset", Row::Credentials),
    (libc::SYS_seccomp, "seccomp", Row::Credentials),
    (
        libc::SYS_landlock_restrict_self,
        "landlock_restrict_self",
        Row::Credentials,
    ),
    (libc::SYS_setfsuid, "setfsuid", Row::Credentials),
    (libc::SYS_setfsgid, "setfsgid", Row::Credentials),
    (libc::SYS_timer_create, "timer_create", Row::Timers),
    (libc::SYS_fcntl, "fcntl", Row::Descriptors),
    (libc::SYS_setxattr, "setxattr", Row::Files),
    (libc::SYS_lsetxattr, "lsetxattr", Row::Files),
    (libc::SYS_fsetxattr, "fsetxattr", Row::Files),
];

/// Denied, with what programs expect of a kernel that does not have it, or of a
/// user that may not.
pub(super) const DENIED: &[(libc::c_int, &[(c_long, When)])] = &[
    (
        libc::ENOSYS,
        &[
            (libc::SYS_io_uring_setup, Any),
            (libc::SYS_io_uring_enter, Any),
            (libc::SYS_io_uring_register, Any),
            // glibc falls back to clone(2), whose flags can be looked at.
            (libc::SYS_clone3, Any),
            (libc::SYS_io_setup, Any),
            // Its pages would stay in somebody else's pipe, and a rewind writes the
            // next tenant's into them.
            (libc::SYS_vmsplice, Any),
            // Objects without an owner process, for the next tenant to find. What
            // is shared through /dev/shm is a file, and goes with the files.
            (libc::SYS_shmget, Any),
            (libc::SYS_semget, Any),
            (libc::SYS_msgget, Any),
            (libc::SYS_mq_open, Any),
        ],
    ),
    (
        // What a socket says that cannot do it. Pages in flight, as with vmsplice.
        libc::EOPNOTSUPP,
        &[(
            libc::SYS_setsockopt,
            IsAnd(1, libc::SOL_SOCKET as u64, 2, libc::SO_ZEROCOPY as u64),
        )],
    ),
    (libc::EINVAL, &[(libc::SYS_madvise, Is(2, DENIED_ADVICE))]),
    (
        libc::EPERM,
        &[
            (libc::SYS_clone, Has(0, CLONE_NEW)),
            (libc::SYS_unshare, Any),
            (libc::SYS_setns, Any),
            (libc::SYS_ptrace, Any),
            (libc::SYS_process_vm_readv, Any),
            (libc::SYS_process_vm_writev, Any),
            (libc::SYS_process_madvise, Any),
            (libc::SYS_process_mrelease, Any),
            (libc::SYS_pidfd_getfd, Any),
            (libc::SYS_kcmp, Any),
            (libc::SYS_userfaultfd, Any),
            (libc::SYS_bpf, Any),
            (libc::SYS_perf_event_open, Any),
            (libc::SYS_keyctl, Any),
            (libc::SYS_add_key, Any),
            (libc::SYS_request_key, Any),
            (libc::SYS_mount, Any),
            (libc::SYS_umount2, Any),
            (libc::SYS_pivot_root, Any),
            (libc::SYS_open_tree, Any),
            (libc::SYS_move_mount, Any),
            (libc::SYS_fsopen, Any),
            (libc::SYS_fsconfig, Any),
            (libc::SYS_fsmount, Any),
            (libc::SYS_fspick, Any),
            (libc::SYS_mount_setattr, Any),
            (libc::SYS_fanotify_init, Any),
            (libc::SYS_personality, Any),
            (libc::SYS_ioctl, Is(1, DENIED_IOCTL)),
            (libc::SYS_quotactl, Any),
            (libc::SYS_acct, Any),
            (libc::SYS_swapon, Any),
            (libc::SYS_swapoff, Any),
            (libc::SYS_reboot, Any),
            (libc::SYS_sethostname, Any),
            (libc::SYS_setdomainname, Any),
            (libc::SYS_iopl, Any),
            (libc::SYS_ioperm, Any),
            (libc::SYS_init_module, Any),
            (libc::SYS_finit_module, Any),
            (libc::SYS_delete_module, Any),
            (libc::SYS_kexec_load, Any),
            (libc::SYS_kexec_file_load, Any),
            (libc::SYS_open_by_handle_at, Any),
            (libc::SYS_settimeofday, Any),
            (libc::SYS_clock_settime, Any),
            (libc::SYS_clock_adjtime, Any),
            (libc::SYS_adjtimex, Any),
            (libc::SYS_syslog, Any),
            (libc::SYS_vhangup, Any),
            (libc::SYS_migrate_pages, Any),
            (libc::SYS_move_pages, Any),
        ],
    ),
];
