//! Attributes of a process that calls set and nothing shows: the calls are recorded,
//! whether the kernel then refuses them or not.

use refunction_snapshot::Row;

use super::{Mutation, Refused, call, must};

const ATTRIBUTES: super::Expect = Refused(Row::Attributes);
const CREDENTIALS: super::Expect = Refused(Row::Credentials);

pub const ALL: &[Mutation] = &[
    Mutation::new("change_the_root", ATTRIBUTES, || {
        ask(libc::SYS_chroot, [c"/tmp".as_ptr() as i64, 0, 0])
    }),
    Mutation::new("lead_a_process_group", ATTRIBUTES, || {
        must(call(libc::SYS_setpgid, [0; 4]))
    }),
    Mutation::new("be_another_to_files", CREDENTIALS, || {
        ask(libc::SYS_setfsuid, [-1, 0, 0])
    }),
    Mutation::new("be_in_another_group_to_files", CREDENTIALS, || {
        ask(libc::SYS_setfsgid, [-1, 0, 0])
    }),
    Mutation::new("drop_capabilities", CREDENTIALS, drop_capabilities),
    Mutation::new("restrict_itself", CREDENTIALS, restrict_itself),
    Mutation::new("register_for_barriers", Refused(Row::ThreadAreas), || {
        const REGISTER_PRIVATE_EXPEDITED: i64 = 1 << 4;
        must(call(
            libc::SYS_membarrier,
            [REGISTER_PRIVATE_EXPEDITED, 0, 0, 0],
        ))
    }),
    Mutation::new(
        "register_for_barriers_of_all",
        Refused(Row::ThreadAreas),
        || {
            const REGISTER_GLOBAL_EXPEDITED: i64 = 1 << 2;
            must(call(
                libc::SYS_membarrier,
                [REGISTER_GLOBAL_EXPEDITED, 0, 0, 0],
            ))
        },
    ),
    Mutation::new(
        "register_for_barriers_of_sequences",
        Refused(Row::ThreadAreas),
        || {
            const REGISTER_PRIVATE_EXPEDITED_RSEQ: i64 = 1 << 8;
            ask(
                libc::SYS_membarrier,
                [REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0],
            )
        },
    ),
    Mutation::new("keep_capabilities", ATTRIBUTES, || {
        prctl(libc::PR_SET_KEEPCAPS, [1, 0, 0])
    }),
    Mutation::new("change_securebits", ATTRIBUTES, || {
        prctl(libc::PR_SET_SECUREBITS, [0, 0, 0])
    }),
    Mutation::new("raise_an_ambient_capability", ATTRIBUTES, || {
        prctl(
            libc::PR_CAP_AMBIENT,
            [libc::PR_CAP_AMBIENT_CLEAR_ALL.into(), 0, 0],
        )
    }),
    Mutation::new("drop_from_the_bounding_set", ATTRIBUTES, || {
        prctl(libc::PR_CAPBSET_DROP, [0, 0, 0])
    }),
    Mutation::new("forbid_reading_the_clock", ATTRIBUTES, || {
        // As it is: forbidden, the C library's own clock would fault.
        prctl(libc::PR_SET_TSC, [libc::PR_TSC_ENABLE.into(), 0, 0])
    }),
    Mutation::new("speculate_less", ATTRIBUTES, || {
        prctl(
            libc::PR_SET_SPECULATION_CTRL,
            [
                libc::PR_SPEC_STORE_BYPASS as i64,
                libc::PR_SPEC_DISABLE as i64,
                0,
            ],
        )
    }),
    Mutation::new("speculate_less_about_branches", ATTRIBUTES, || {
        prctl(
            libc::PR_SET_SPECULATION_CTRL,
            [
                libc::PR_SPEC_INDIRECT_BRANCH as i64,
                libc::PR_SPEC_DISABLE as i64,
                0,
            ],
        )
    }),
    Mutation::new("flush_for_others", ATTRIBUTES, || {
        prctl(PR_SET_IO_FLUSHER, [1, 0, 0])
    }),
    Mutation::new("die_early_of_bad_memory", ATTRIBUTES, || {
        prctl(
            libc::PR_MCE_KILL,
            [
                libc::PR_MCE_KILL_SET.into(),
                libc::PR_MCE_KILL_EARLY.into(),
                0,
            ],
        )
    }),
    Mutation::new("dispatch_calls_itself", ATTRIBUTES, dispatch_calls_itself),
    Mutation::new("name_its_memory", ATTRIBUTES, || {
        prctl(
            libc::PR_SET_VMA,
            [0, super::ballast_page() as i64, super::PAGE as i64],
        )
    }),
    Mutation::new("forbid_new_code", ATTRIBUTES, || {
        const REFUSE_EXEC_GAIN: i64 = 1;
        prctl(libc::PR_SET_MDWE, [REFUSE_EXEC_GAIN, 0, 0])
    }),
    Mutation::new("merge_all_memory", ATTRIBUTES, || {
        prctl(libc::PR_SET_MEMORY_MERGE, [1, 0, 0])
    }),
    Mutation::new("share_a_core_with_nobody", ATTRIBUTES, || {
        prctl(
            libc::PR_SCHED_CORE,
            [libc::PR_SCHED_CORE_CREATE as i64, 0, 0],
        )
    }),
    Mutation::new("let_another_trace_it", ATTRIBUTES, || {
        prctl(libc::PR_SET_PTRACER, [-1, 0, 0])
    }),
    Mutation::new("move_its_arguments", ATTRIBUTES, || {
        prctl(libc::PR_SET_MM, [libc::PR_SET_MM_ARG_START.into(), 4096, 0])
    }),
    Mutation::new("stop_its_counters", ATTRIBUTES, || {
        prctl(libc::PR_TASK_PERF_EVENTS_DISABLE, [0, 0, 0])
    }),
    Mutation::new("count_time_otherwise", ATTRIBUTES, || {
        prctl(libc::PR_SET_TIMING, [1, 0, 0])
    }),
    Mutation::new("tag_addresses", ATTRIBUTES, || {
        const PR_SET_TAGGED_ADDR_CTRL: i32 = 55;
        prctl(PR_SET_TAGGED_ADDR_CTRL, [1, 0, 0])
    }),
    Mutation::new("hash_futexes_otherwise", ATTRIBUTES, || {
        const PR_FUTEX_HASH: i32 = 78;
        const SET_SLOTS: i64 = 1;
        prctl(PR_FUTEX_HASH, [SET_SLOTS, 16, 0])
    }),
    Mutation::new("restore_timer_ids", ATTRIBUTES, || {
        const PR_TIMER_CREATE_RESTORE_IDS: i32 = 77;
        prctl(PR_TIMER_CREATE_RESTORE_IDS, [1, 0, 0])
    }),
    Mutation::new("filter_its_calls_the_old_way", ATTRIBUTES, || {
        // A mode that there is not: that it was asked is enough.
        prctl(libc::PR_SET_SECCOMP, [99, 0, 0])
    }),
    Mutation::new("set_what_nobody_knows", ATTRIBUTES, || {
        prctl(12345, [0, 0, 0])
    }),
];

// linux/prctl.h
const PR_SET_IO_FLUSHER: i32 = 57;
const PR_SET_SYSCALL_USER_DISPATCH: i32 = 59;

fn ask(number: libc::c_long, [a, b, c]: [i64; 3]) -> i64 {
    call(number, [a, b, c, 0]);
    0
}

/// That it was asked is enough.
pub(super) fn prctl(option: i32, [a, b, c]: [i64; 3]) -> i64 {
    // SAFETY: as in `call`; five arguments, all of which some options look at.
    unsafe { libc::syscall(libc::SYS_prctl, i64::from(option), a, b, c, 0i64) };
    0
}

fn drop_capabilities() -> i64 {
    // Of this process, by the third layout: none at all.
    let header = [0x2008_0522u32, 0];
    let none = [0u32; 6];
    must(call(
        libc::SYS_capset,
        [&raw const header as i64, &raw const none as i64, 0, 0],
    ))
}

fn restrict_itself() -> i64 {
    // Making files is what it handles, and allows nowhere.
    let handled = 1u64 << 8;
    let ruleset = call(
        libc::SYS_landlock_create_ruleset,
        [&raw const handled as i64, 8, 0, 0],
    );
    ask(libc::SYS_landlock_restrict_self, [ruleset, 0, 0])
}

fn dispatch_calls_itself() -> i64 {
    // All calls go to a handler of its own unless this byte says no: it does.
    static ALLOW: u8 = 0;
    const ON: i64 = 1;
    let selector = &raw const ALLOW as i64;
    // SAFETY: as in `call`; five arguments.
    unsafe {
        libc::syscall(
            libc::SYS_prctl,
            PR_SET_SYSCALL_USER_DISPATCH,
            ON,
            0i64,
            0i64,
            selector,
        )
    };
    0
}
