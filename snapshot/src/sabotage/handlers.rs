//! Every handler of the engine's, and the row of docs/restore.md that it serves.

/// A handler that can be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// Its name, `topic:what`.
    pub name: String,
    /// How the first cell of its row in docs/restore.md begins.
    pub row: String,
}

/// All of them: those with a name of their own, and each entry of the table of system
/// calls.
#[must_use]
pub fn handlers() -> Vec<Handler> {
    let handler = |name: &str, row: &str| Handler {
        name: name.to_owned(),
        row: row.to_owned(),
    };
    NAMED
        .iter()
        .map(|(name, row)| handler(name, row))
        .chain(
            crate::syscalls::entries()
                .map(|(class, call)| handler(&format!("{class}:{call}"), row_of(call))),
        )
        .collect()
}

/// True if a handler has this name of its own.
pub(super) fn is_named(handler: &str) -> bool {
    NAMED.iter().any(|(name, _)| *name == handler)
}

/// The row that a call of the table belongs to.
fn row_of(call: &str) -> &'static str {
    const ROWS: &[(&[&str], &str)] = &[
        (&["io_"], "io_uring, kernel aio"),
        (
            &["vmsplice", "setsockopt"],
            "pages that a tenant had the kernel keep",
        ),
        (&["shm", "sem", "msg"], "System V shared memory"),
        (&["mq_"], "POSIX message queues"),
        (&["mlock", "munlock"], "memory locks"),
        (&["madvise"], "other advice that lasts"),
        (
            &[
                "mbind",
                "set_mem",
                "pkey",
                "remap_file",
                "mseal",
                "memfd_secret",
            ],
            "memory policy (NUMA), protection keys",
        ),
        (&["mmap", "mprotect"], "memory locks"),
        (&["rt_sigaction"], "signal dispositions"),
        (&["tkill", "tgkill", "rt_tgsig", "pidfd_send"], SLEEPERS),
        (&["setrlimit", "prlimit"], "resource limits"),
        (&["alarm", "setitimer"], "interval timers"),
        (&["futex"], SLEEPERS),
        (
            &["restart"],
            "a wait that was interrupted and never went on",
        ),
        (&["membarrier"], "`membarrier` registration"),
        (&["arch_prctl", "map_shadow"], "shadow stack"),
        (&["modify_ldt", "set_thread"], "local descriptor table"),
        (&["prctl"], "other attributes that `prctl` sets"),
        (&["chroot"], "root directory"),
        (&["capset", "setfs"], "filesystem user and group"),
        (&["seccomp"], "more seccomp filters"),
        (&["landlock"], "more Landlock rules"),
        (&["timer_"], "POSIX timers"),
        (&["flock"], "… `flock` locks"),
        (&["fcntl"], "… leases, directory notifications"),
        (&["ioctl"], "what `ioctl` sets"),
        (
            &[
                "setxattr", "lsetx", "fsetx", "remove", "lremove", "fremove", "file_set",
            ],
            "extended",
        ),
        (&["keyctl", "add_key", "request_key"], "keyrings"),
        (&["personality"], "personality"),
        (
            &["ptrace", "process_", "pidfd_getfd", "kcmp"],
            "other processes' memory",
        ),
        (
            &["clone", "unshare", "setns", "mount", "umount", "sethost"],
            "mounts, host name",
        ),
    ];
    let begins = |(starts, _): &&(&[&str], _)| starts.iter().any(|start| call.starts_with(start));
    let row = ROWS.iter().find(begins).map(|(_, row)| *row);
    row.unwrap_or("anything that a call of no list changes")
}

const CONVENTION: &str = "anything that a call by another convention changes";
const MAPPINGS: &str = "mappings new, gone, resized, moved, with other rights";
const PAGES: &str = "private pages";
const OVERLAY: &str = "pages that the worker wrote before its ready point";
const CHILDREN: &str = "child processes, orphans, daemons, session leaders";
const OWN: &str = "the worker's own descriptors";
const ATTRIBUTES: &str = "death signal, timer slack, subreaper";

const SLEEPERS: &str = "threads of a worker that was not forked and slept all the while";

const NAMED: &[(&str, &str)] = &[
    ("sleepers:moving", SLEEPERS),
    ("sleepers:pending", SLEEPERS),
    ("sleepers:scheduling", SLEEPERS),
    ("registers:general", "general registers"),
    ("registers:extended", "x87, SSE, AVX, AVX-512, PKRU"),
    ("pages:anonymous", PAGES),
    ("pages:of-the-image", PAGES),
    ("pages:of-the-stack", "main stack"),
    ("pages:read-only", PAGES),
    ("pages:executable", PAGES),
    ("pages:copy-from-the-image", PAGES),
    ("pages:copy-zeros", PAGES),
    ("pages:refresh", PAGES),
    ("pages:drop", PAGES),
    ("pages:counted", PAGES),
    ("sibling:mappings", MAPPINGS),
    ("sibling:pages", OVERLAY),
    ("pages:overlay", OVERLAY),
    ("pages:open-read-only-overlay", OVERLAY),
    ("pages:scratch", "the engine's own scratch memory"),
    ("pages:scratch-behind", "the engine's own scratch memory"),
    (
        "pages:scratch-when-aging",
        "the engine's own scratch memory",
    ),
    ("pages:aging", "memory of the container"),
    ("wiped:not-in-the-image", "areas that the kernel wipes"),
    ("wiped:not-in-the-overlay", "areas that the kernel wipes"),
    ("image:sealed", PAGES),
    ("image:shares-code", MAPPINGS),
    ("pages:peak", "resource usage"),
    ("image:no-shared-memory", "a tenant's shared mappings"),
    (
        "threads:of-the-snapshot",
        "threads of a worker that was not forked",
    ),
    ("mappings:compared", MAPPINGS),
    ("mappings:query-protection", MAPPINGS),
    ("mappings:query-shared", MAPPINGS),
    ("mappings:query-backing", MAPPINGS),
    ("mappings:query-offset", MAPPINGS),
    ("mappings:query-the-end", MAPPINGS),
    ("mappings:diff-protection", MAPPINGS),
    ("mappings:diff-shared", MAPPINGS),
    ("mappings:diff-backing", MAPPINGS),
    ("mappings:unmap", MAPPINGS),
    (
        "mappings:stack-grows",
        "the stack replaced by ordinary memory",
    ),
    ("mappings:protect", MAPPINGS),
    ("mappings:map-from-the-image", MAPPINGS),
    ("mappings:map-anonymous", MAPPINGS),
    (
        "mappings:irreplaceable",
        "a mapping of a file, the stack or the kernel",
    ),
    (
        "mappings:pieces",
        "a mapping list cut into many more pieces",
    ),
    ("annex:code", "the engine's own mappings"),
    ("annex:view", "the engine's own mappings"),
    ("annex:table", "the engine's own mappings"),
    ("annex:scratch", "the engine's own mappings"),
    ("break:first", "program break"),
    ("break", "program break"),
    ("descriptors:close", "descriptors that the tenant opened"),
    ("descriptors:cut-connections-off", "sockets"),
    ("descriptors:identity", OWN),
    ("descriptors:mode", "… mode and owner of the output pipes"),
    ("descriptors:flags", "… their flags"),
    ("descriptors:close-on-exec", "… their flags"),
    (
        "descriptors:counts",
        "epoll, eventfd, timerfd, signalfd, inotify, sockets of the worker's own",
    ),
    (
        "descriptors:unread",
        "… what waits in pipes that lead from the worker to itself",
    ),
    ("descriptors:direction", "… the way they are open"),
    ("descriptors:table-size", "size of the table of descriptors"),
    ("descriptors:offset", "… their offset"),
    ("descriptors:flock", "… `flock` locks"),
    (
        "descriptors:posix-locks",
        "… POSIX and open-file-description locks",
    ),
    (
        "descriptors:description-locks",
        "… POSIX and open-file-description locks",
    ),
    ("descriptors:times", "… times of the output pipes"),
    (
        "descriptors:fdinfo",
        "epoll, eventfd, timerfd, signalfd, inotify, sockets of the worker's own",
    ),
    ("signals:mask", "signal mask"),
    ("signals:standard-dispositions", "signal dispositions"),
    ("signals:real-time-dispositions", "signal dispositions"),
    ("signals:alternate-stack", "alternate signal stack"),
    ("signals:taken", "signal dispositions"),
    ("signals:pending", "pending signals"),
    ("signals:stopped-when-held", "stopped by a signal"),
    ("signals:stopped-meanwhile", "stopped by a signal"),
    ("timers:real", "interval timers"),
    ("timers:virtual", "interval timers"),
    ("timers:profiling", "interval timers"),
    ("rseq:unregister", "rseq registration"),
    ("rseq:register", "rseq registration"),
    ("rseq:both", "rseq registration"),
    ("robust-list", "robust list"),
    ("tid-address", "clear-tid address"),
    ("threads:end", "threads of the tenant"),
    ("children:kill", CHILDREN),
    ("children:kill-newborns", CHILDREN),
    ("children:strays", CHILDREN),
    ("children:reap", CHILDREN),
    ("children:kill-at-discard", CHILDREN),
    ("children:too-many", "more processes than one rewind reaps"),
    ("exec:of-the-worker", "the worker executes another program"),
    ("denied:another-architecture", CONVENTION),
    ("denied:another-convention", CONVENTION),
    (
        "recorded:unknown",
        "anything that a call of no list changes",
    ),
    ("recorded:all", "anything that a call of no list changes"),
    ("attributes:directory", "working directory"),
    ("attributes:umask", "umask"),
    ("attributes:name", "name of the process"),
    ("attributes:death-signal", ATTRIBUTES),
    ("attributes:timer-slack", ATTRIBUTES),
    ("attributes:subreaper", ATTRIBUTES),
    ("attributes:session-and-group", "session"),
    ("attributes:process-group", "process group"),
    ("limits", "resource limits"),
    ("limits:rising", "resource limits"),
    ("scheduling:policy", "nice value, scheduling policy"),
    ("scheduling:affinity", "affinity"),
    ("scheduling:io-priority", "I/O priority"),
];
