//! What the arguments of a call can say about it: for calls that are many in one.
//! The values are the same on every architecture of the table.

/// A condition on arguments. But for pointers it is on their low 32 bits, which are all
/// that the kernel itself looks at in those that are asked about here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// The argument of this index is one of these.
    Is(u8, &'static [u32]),
    /// It is less than this.
    Below(u8, u32),
    /// Some of these bits are set.
    Has(u8, u32),
    /// This one bit is not set.
    Lacks(u8, u32),
    /// The argument of this index is that, and the other's that.
    IsAnd(u8, u32, u8, u32),
    /// Some of the first bits are set, and none of the second.
    HasBut(u8, u32, u32),
    /// The argument of this index, all 64 bits of it, is not null.
    Given(u8),
}

/// New namespaces, and a child that nobody would see.
pub(super) const CLONE_NEW: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_UNTRACED) as u32;

/// A process that shares its parent's dispositions of signals, and is not a thread.
pub(super) const CLONE_SIGHAND: u32 = libc::CLONE_SIGHAND as u32;
pub(super) const CLONE_THREAD: u32 = libc::CLONE_THREAD as u32;

/// Rights to write of others than the owner.
pub(super) const WRITABLE_BY_OTHERS: u32 = libc::S_IWGRP | libc::S_IWOTH;

const MADV_GUARD_INSTALL: u32 = 102;
const MADV_GUARD_REMOVE: u32 = 103;

/// Advice that leaves no trace beyond the page contents, which are restored.
pub(super) const FREE_ADVICE: &[u32] = &[
    libc::MADV_WILLNEED as u32,
    libc::MADV_DONTNEED as u32,
    libc::MADV_COLD as u32,
    libc::MADV_PAGEOUT as u32,
    libc::MADV_POPULATE_READ as u32,
    libc::MADV_POPULATE_WRITE as u32,
];

/// Refused: pages may vanish later (allocators fall back), be merged with another
/// tenant's, be poisoned, or be missing in forks (V8 asks for that with each page that it
/// allocates, and goes on without).
pub(super) const DENIED_ADVICE: &[u32] = &[
    libc::MADV_FREE as u32,
    libc::MADV_DONTFORK as u32,
    libc::MADV_MERGEABLE as u32,
    libc::MADV_HWPOISON as u32,
    libc::MADV_SOFT_OFFLINE as u32,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
];

const PRIVATE: u32 = libc::FUTEX_PRIVATE_FLAG as u32;
const REALTIME: u32 = libc::FUTEX_CLOCK_REALTIME as u32;
const REQUEUE: u32 = libc::FUTEX_REQUEUE as u32;
const CMP_REQUEUE: u32 = libc::FUTEX_CMP_REQUEUE as u32;
const CMP_REQUEUE_PI: u32 = libc::FUTEX_CMP_REQUEUE_PI as u32;

/// What has a thread that waits in futex(2) wait for another address. No C library of
/// today does so but musl's, with locks that processes share.
pub(super) const RECORDED_FUTEX: &[u32] = &[
    REQUEUE,
    REQUEUE | PRIVATE,
    CMP_REQUEUE,
    CMP_REQUEUE | PRIVATE,
    CMP_REQUEUE_PI,
    CMP_REQUEUE_PI | PRIVATE,
    REQUEUE | REALTIME,
    REQUEUE | REALTIME | PRIVATE,
    CMP_REQUEUE | REALTIME,
    CMP_REQUEUE | REALTIME | PRIVATE,
    CMP_REQUEUE_PI | REALTIME,
    CMP_REQUEUE_PI | REALTIME | PRIVATE,
];

/// Descriptors of a ready point have these numbers, as a rule; what a function opens has
/// higher ones, and its closing is nobody's concern.
pub(crate) const NOTED_DESCRIPTORS: u32 = 6;

/// Has the caller go on with a table of descriptors of its own, no larger than needed.
pub(super) const CLOSE_RANGE_UNSHARE: u32 = libc::CLOSE_RANGE_UNSHARE;

/// Options of prctl(2) that set what a rewind puts back.
pub(super) const SETTING_PRCTL: &[u32] = &[
    libc::PR_SET_PDEATHSIG as u32,
    libc::PR_SET_NAME as u32,
    libc::PR_SET_TIMERSLACK as u32,
    libc::PR_SET_CHILD_SUBREAPER as u32,
];

/// Options of prctl(2) that only read, or set what is set already. Those of
/// one architecture have numbers that mean nothing to the others.
pub(super) const FREE_PRCTL: &[u32] = &[
    libc::PR_GET_PDEATHSIG as u32,
    libc::PR_GET_DUMPABLE as u32,
    libc::PR_GET_KEEPCAPS as u32,
    libc::PR_GET_TIMING as u32,
    libc::PR_GET_NAME as u32,
    libc::PR_GET_SECCOMP as u32,
    libc::PR_CAPBSET_READ as u32,
    libc::PR_GET_TSC as u32,
    libc::PR_GET_SECUREBITS as u32,
    libc::PR_GET_TIMERSLACK as u32,
    libc::PR_MCE_KILL_GET as u32,
    libc::PR_GET_CHILD_SUBREAPER as u32,
    libc::PR_SET_NO_NEW_PRIVS as u32,
    libc::PR_GET_NO_NEW_PRIVS as u32,
    libc::PR_GET_TID_ADDRESS as u32,
    libc::PR_GET_THP_DISABLE as u32,
    PR_SVE_GET_VL,
    PR_GET_SPECULATION_CTRL,
    PR_GET_TAGGED_ADDR_CTRL,
    PR_PAC_GET_ENABLED_KEYS,
    PR_SME_GET_VL,
];
// linux/prctl.h; the last ones are aarch64's.
const PR_GET_SPECULATION_CTRL: u32 = 52;
const PR_SVE_GET_VL: u32 = 51;
const PR_GET_TAGGED_ADDR_CTRL: u32 = 56;
const PR_PAC_GET_ENABLED_KEYS: u32 = 61;
const PR_SME_GET_VL: u32 = 64;

pub(super) const PR_SET_DUMPABLE: u32 = libc::PR_SET_DUMPABLE as u32;

/// `ARCH_SET_GS`, `ARCH_SET_FS`, `ARCH_GET_FS`, `ARCH_GET_GS` (arch_prctl(2)):
/// registers, which are restored. Others switch processor features for good.
pub(super) const FREE_ARCH_PRCTL: &[u32] = &[0x1001, 0x1002, 0x1003, 0x1004];

/// Kinds of mapping whose nature no mapping list shows.
pub(super) const RECORDED_MMAP: u32 =
    (libc::MAP_LOCKED | libc::MAP_GROWSDOWN | libc::MAP_HUGETLB | libc::MAP_DROPPABLE) as u32;

/// aarch64's memory tags (`asm/mman.h`): contents that no page shows.
pub(super) const PROT_MTE: u32 = 0x20;

pub(super) const SOL_SOCKET: u32 = libc::SOL_SOCKET as u32;
pub(super) const SO_ZEROCOPY: u32 = libc::SO_ZEROCOPY as u32;

/// Commands of fcntl(2) that take and release locks.
pub(super) const LOCKING_FCNTL: &[u32] = &[
    libc::F_SETLK as u32,
    libc::F_SETLKW as u32,
    libc::F_OFD_SETLK as u32,
    libc::F_OFD_SETLKW as u32,
];

/// Commands of fcntl(2) that set flags.
pub(super) const SETTING_FCNTL: &[u32] = &[libc::F_SETFD as u32, libc::F_SETFL as u32];

/// Requests of ioctl(2) that do.
pub(super) const SETTING_IOCTL: &[u32] = &[
    libc::FIONBIO as u32,
    libc::FIOCLEX as u32,
    libc::FIONCLEX as u32,
    libc::FIOASYNC as u32,
];

/// Commands of fcntl(2) that only read, or change what goes with the descriptor. What does not: leases, notifications and hints on files
/// that outlive the tenant; seals; the owner, signal or capacity of a pipe of the
/// ready point.
pub(super) const FREE_FCNTL: &[u32] = &[
    libc::F_DUPFD as u32,
    libc::F_GETFD as u32,
    libc::F_GETFL as u32,
    libc::F_GETLK as u32,
    libc::F_GETOWN as u32,
    F_GETSIG,
    F_GETOWN_EX,
    F_GETOWNER_UIDS,
    libc::F_OFD_GETLK as u32,
    libc::F_GETLEASE as u32,
    F_DUPFD_QUERY,
    F_CREATED_QUERY,
    libc::F_DUPFD_CLOEXEC as u32,
    libc::F_GETPIPE_SZ as u32,
    libc::F_GET_SEALS as u32,
    F_GET_RW_HINT,
    F_GET_FILE_RW_HINT,
];
// asm-generic/fcntl.h and linux/fcntl.h.
const F_GETSIG: u32 = 11;
const F_GETOWN_EX: u32 = 16;
const F_GETOWNER_UIDS: u32 = 17;
const F_DUPFD_QUERY: u32 = 1027;
const F_CREATED_QUERY: u32 = 1028;
const F_GET_RW_HINT: u32 = 1035;
const F_GET_FILE_RW_HINT: u32 = 1037;

/// ioctl(2) requests that push input into a terminal, which may be somebody else's.
pub(super) const DENIED_IOCTL: &[u32] = &[libc::TIOCSTI as u32, libc::TIOCLINUX as u32];

/// Requests that ordinary programs make, and that only read, or change what the worker
/// itself opened.
pub(super) const FREE_IOCTL: &[u32] = &[
    // How much there is to read.
    libc::FIONREAD as u32,
    // Terminals: what isatty(3) and openpty(3) ask. A pseudo-terminal must be unlocked
    // once before its other end opens.
    libc::TCGETS as u32,
    libc::TCGETS2 as u32,
    libc::TIOCGWINSZ as u32,
    libc::TIOCGPGRP as u32,
    libc::TIOCGSID as u32,
    libc::TIOCGETD as u32,
    libc::TIOCOUTQ as u32,
    TIOCGEXCL,
    libc::TIOCGPTN as u32,
    libc::TIOCGPTPEER as u32,
    TIOCGPKT,
    TIOCGPTLCK,
    libc::TIOCSPTLCK as u32,
    // Sockets and network interfaces.
    FIOGETOWN,
    SIOCGPGRP,
    SIOCATMARK,
    libc::SIOCOUTQNSD as u32,
    libc::SIOCGIFNAME as u32,
    libc::SIOCGIFCONF as u32,
    libc::SIOCGIFFLAGS as u32,
    libc::SIOCGIFADDR as u32,
    libc::SIOCGIFDSTADDR as u32,
    libc::SIOCGIFBRDADDR as u32,
    libc::SIOCGIFNETMASK as u32,
    libc::SIOCGIFMETRIC as u32,
    libc::SIOCGIFMTU as u32,
    libc::SIOCGIFHWADDR as u32,
    libc::SIOCGIFINDEX as u32,
    SIOCGIFCOUNT,
    libc::SIOCGIFTXQLEN as u32,
    libc::SIOCGIFMAP as u32,
    // Files: to copy one into another is to write to it. SQLite asks for features.
    libc::FICLONE as u32,
    libc::FICLONERANGE as u32,
    FIGETBSZ,
    FS_IOC_GETFLAGS,
    FS_IOC_GETVERSION,
    FS_IOC_FSGETXATTR,
    FS_IOC_FIEMAP,
    F2FS_IOC_GET_FEATURES,
    RNDGETENTCNT,
    // Which namespace a descriptor stands for.
    NS_GET_USERNS,
    NS_GET_PARENT,
    NS_GET_NSTYPE,
    NS_GET_OWNER_UID,
    NS_GET_MNTNS_ID,
    NS_GET_PID_FROM_PIDNS,
    NS_GET_TGID_FROM_PIDNS,
    NS_GET_PID_IN_PIDNS,
    NS_GET_TGID_IN_PIDNS,
];
// linux/fs.h, linux/sockios.h, asm-generic/ioctls.h and so on.
const FIGETBSZ: u32 = 2;
const FIOGETOWN: u32 = 0x8903;
const SIOCGPGRP: u32 = 0x8904;
const SIOCATMARK: u32 = 0x8905;
const SIOCGIFCOUNT: u32 = 0x8938;
const NS_GET_USERNS: u32 = 0xb701;
const NS_GET_PARENT: u32 = 0xb702;
const NS_GET_NSTYPE: u32 = 0xb703;
const NS_GET_OWNER_UID: u32 = 0xb704;
const NS_GET_PID_FROM_PIDNS: u32 = 0x8004_b706;
const NS_GET_TGID_FROM_PIDNS: u32 = 0x8004_b707;
const NS_GET_PID_IN_PIDNS: u32 = 0x8004_b708;
const NS_GET_TGID_IN_PIDNS: u32 = 0x8004_b709;
const NS_GET_MNTNS_ID: u32 = 0x8008_b705;
const F2FS_IOC_GET_FEATURES: u32 = 0x8004_f50c;
const RNDGETENTCNT: u32 = 0x8004_5200;
const TIOCGPKT: u32 = 0x8004_5438;
const TIOCGPTLCK: u32 = 0x8004_5439;
const TIOCGEXCL: u32 = 0x8004_5440;
const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
const FS_IOC_GETVERSION: u32 = 0x8008_7601;
const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
const FS_IOC_FIEMAP: u32 = 0xc020_660b;
