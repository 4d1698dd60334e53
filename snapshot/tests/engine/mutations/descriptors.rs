//! Descriptors: many of them, what belongs to them, and those that a worker has at
//! its ready point (see [`crate::guest`] for which these are).

use std::mem::forget;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use refunction_snapshot::Row;

use super::{Mutation, Recorded, Refused, Rewound, call, must};
use crate::guest::{
    CLOCK, COUNTER_OF_EVENTS, INTEREST, NOTICES, PAPER, PIPE_READ, PIPE_WRITE, SIGNALS, SOCKET,
    SOCKET_PEER,
};

const DESCRIPTORS: super::Expect = Refused(Row::Descriptors);

/// Of what such a descriptor holds its fdinfo says nothing.
const UNSEEN: &str = "its fdinfo does not show it";

pub const ALL: &[Mutation] = &[
    // What belongs to files and outlives the descriptor.
    Mutation::new("take_a_lease", DESCRIPTORS, || {
        fcntl_on_error(libc::F_SETLEASE, 1)
    }),
    Mutation::new("ask_for_notices", DESCRIPTORS, || {
        fcntl_on_error(F_NOTIFY, 2)
    }),
    Mutation::new("shrink_a_pipe", DESCRIPTORS, || {
        fcntl_on_error(libc::F_SETPIPE_SZ, 4096)
    }),
    Mutation::new("seal_a_pipe", DESCRIPTORS, || {
        fcntl_on_error(F_ADD_SEALS, 1)
    }),
    Mutation::new("choose_a_signal_for_a_pipe", DESCRIPTORS, || {
        fcntl_on_error(F_SETSIG, libc::SIGUSR1.into())
    }),
    Mutation::new("hint_at_a_pipes_lifetime", DESCRIPTORS, || {
        let hint = 3u64;
        fcntl_on_error(F_SET_RW_HINT, &raw const hint as i64)
    }),
    Mutation::new("set_an_attribute_by_path", Refused(Row::Files), || {
        attribute(libc::SYS_setxattr, c"/proc/self/fd/2".as_ptr() as i64)
    }),
    Mutation::new("set_an_attribute_of_a_link", Refused(Row::Files), || {
        attribute(libc::SYS_lsetxattr, c"/tmp".as_ptr() as i64)
    }),
    Mutation::new(
        "set_an_attribute_of_a_descriptor",
        Refused(Row::Files),
        || attribute(libc::SYS_fsetxattr, 2),
    ),
    Mutation::new("remove_an_attribute", Recorded, || {
        attribute(libc::SYS_removexattr, c"/tmp".as_ptr() as i64)
    }),
    Mutation::new("remove_an_attribute_of_a_descriptor", Recorded, || {
        attribute(libc::SYS_fremovexattr, 2)
    }),
    Mutation::new("set_an_attribute_the_new_way", Recorded, || {
        const SETXATTRAT: i64 = 463;
        call(
            SETXATTRAT,
            [libc::AT_FDCWD.into(), c"/tmp".as_ptr() as i64, 0, 0],
        );
        0
    }),
    // Tables.
    Mutation::new("open_ten_thousand_files", Rewound, open_ten_thousand_files),
    Mutation::new("close_all_on_exec", DESCRIPTORS, || {
        must(call(
            libc::SYS_close_range,
            [0, u32::MAX.into(), libc::CLOSE_RANGE_CLOEXEC.into(), 0],
        ))
    }),
    Mutation::new("part_with_its_table", Rewound, part_with_its_table),
    Mutation::new("linger_on_close", Rewound, linger_on_close),
    // The ready point's own.
    Mutation::new("count_an_event", Rewound, || {
        put(COUNTER_OF_EVENTS, &1u64.to_ne_bytes())
    }),
    Mutation::new("take_the_events", Rewound, take_the_events),
    Mutation::new("replace_an_event_counter", DESCRIPTORS, || {
        let other = call(libc::SYS_eventfd2, [3, 0, 0, 0]);
        must(call(libc::SYS_dup3, [other, COUNTER_OF_EVENTS.into(), 0, 0]).min(0))
    }),
    Mutation::new("close_what_is_registered", DESCRIPTORS, || {
        must(call(libc::SYS_close, [COUNTER_OF_EVENTS.into(), 0, 0, 0]))
    }),
    Mutation::new("register_another", DESCRIPTORS, || {
        interest(libc::EPOLL_CTL_ADD, CLOCK)
    }),
    Mutation::new("register_otherwise", DESCRIPTORS, || {
        interest(libc::EPOLL_CTL_MOD, COUNTER_OF_EVENTS)
    }),
    Mutation::new("register_no_more", DESCRIPTORS, || {
        interest(libc::EPOLL_CTL_DEL, COUNTER_OF_EVENTS)
    }),
    Mutation::new("tune_epoll", Recorded, || {
        // struct epoll_params: 20 µs, a budget of 8, no preference.
        const EPIOCSPARAMS: i64 = 0x4008_8a01;
        let parameters = [20u32, 8];
        must(call(
            libc::SYS_ioctl,
            [
                INTEREST.into(),
                EPIOCSPARAMS,
                &raw const parameters as i64,
                0,
            ],
        ))
    }),
    Mutation::new("start_the_clock", DESCRIPTORS, || {
        let soon = [0i64, 0, 3600, 0];
        must(call(
            libc::SYS_timerfd_settime,
            [CLOCK.into(), 0, &raw const soon as i64, 0],
        ))
    }),
    Mutation::new("wait_for_other_signals", DESCRIPTORS, || {
        let all = u64::MAX;
        must(
            call(
                libc::SYS_signalfd4,
                [SIGNALS.into(), &raw const all as i64, 8, 0],
            )
            .min(0),
        )
    }),
    Mutation::new("watch_another_directory", DESCRIPTORS, || {
        must(
            call(
                libc::SYS_inotify_add_watch,
                [
                    NOTICES.into(),
                    c"/etc".as_ptr() as i64,
                    libc::IN_MOVE.into(),
                    0,
                ],
            )
            .min(0),
        )
    }),
    Mutation::new("watch_no_more", DESCRIPTORS, || {
        must(call(libc::SYS_inotify_rm_watch, [NOTICES.into(), 1, 0, 0]))
    }),
    Mutation::new("leave_a_notice", DESCRIPTORS, || take(PAPER)).known(UNSEEN),
    Mutation::new("leave_a_message_in_a_socket", DESCRIPTORS, || {
        put(SOCKET, b"from one tenant to the next")
    })
    .known(UNSEEN),
    Mutation::new("leave_a_message_in_a_pipe", DESCRIPTORS, || {
        put(PIPE_WRITE, b"from one tenant to the next")
    }),
    Mutation::new("shut_a_socket_down", DESCRIPTORS, || {
        must(call(
            libc::SYS_shutdown,
            [SOCKET.into(), libc::SHUT_WR.into(), 0, 0],
        ))
    })
    .known(UNSEEN),
    Mutation::new("tune_a_socket", DESCRIPTORS, || {
        let bytes = 9999i32;
        set_option(SOCKET, libc::SO_SNDBUF, &raw const bytes as i64, 4)
    })
    .known(UNSEEN),
    Mutation::new("close_a_pipe", DESCRIPTORS, || {
        must(call(libc::SYS_close, [PIPE_WRITE.into(), 0, 0, 0]))
    }),
    Mutation::new("turn_a_pipe_round", DESCRIPTORS, || {
        must(call(libc::SYS_dup3, [PIPE_WRITE.into(), PIPE_READ.into(), 0, 0]).min(0))
    }),
];

const F_SETSIG: i32 = 10;
const F_NOTIFY: i32 = 1026;
const F_ADD_SEALS: i32 = 1033;
const F_GET_RW_HINT: i32 = 1035;
const F_SET_RW_HINT: i32 = 1036;

/// On the pipe that the worker owns; that it was asked is enough.
fn fcntl_on_error(command: i32, argument: i64) -> i64 {
    call(libc::SYS_fcntl, [2, command.into(), argument, 0]);
    0
}

fn attribute(number: libc::c_long, of: i64) -> i64 {
    let name = c"user.tenant".as_ptr() as i64;
    call(number, [of, name, c"x".as_ptr() as i64, 1]);
    0
}

fn put(to: i32, bytes: &[u8]) -> i64 {
    let length = bytes.len() as i64;
    must(
        call(
            libc::SYS_write,
            [to.into(), bytes.as_ptr() as i64, length, 0],
        )
        .min(0),
    )
}

/// Reads what there is from the start, as far as there is one.
/// All that there are; where there are none, reading would wait for one.
fn take_the_events() -> i64 {
    let mut poll = libc::pollfd {
        fd: COUNTER_OF_EVENTS,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one struct, as it says.
    match unsafe { libc::poll(&raw mut poll, 1, 0) } {
        1 => take(COUNTER_OF_EVENTS),
        _ => 0,
    }
}

fn take(from: i32) -> i64 {
    let mut word = [0u8; 8];
    let to = word.as_mut_ptr() as i64;
    must(call(libc::SYS_read, [from.into(), to, 8, 0]).min(0));
    call(libc::SYS_lseek, [from.into(), 0, libc::SEEK_SET.into(), 0]);
    0
}

fn interest(operation: i32, target: i32) -> i64 {
    let event = libc::epoll_event {
        events: libc::EPOLLOUT as u32,
        u64: 99,
    };
    must(call(
        libc::SYS_epoll_ctl,
        [
            INTEREST.into(),
            operation.into(),
            target.into(),
            &raw const event as i64,
        ],
    ))
}

fn set_option(socket: i32, option: i32, value: i64, length: i64) -> i64 {
    // SAFETY: as in `call`; five arguments.
    must(unsafe {
        libc::syscall(
            libc::SYS_setsockopt,
            socket,
            libc::SOL_SOCKET,
            option,
            value,
            length,
        )
    })
}

fn open_ten_thousand_files() -> i64 {
    // More closings than the stub does at once.
    for _ in 0..10_000 {
        must(call(libc::SYS_dup, [0; 4]).min(0));
    }
    0
}

/// From here on this thread's table is another than its sibling's.
fn part_with_its_table() -> i64 {
    std::thread::spawn(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    let first = 1000;
    must(call(
        libc::SYS_close_range,
        [first, u32::MAX.into(), libc::CLOSE_RANGE_UNSHARE.into(), 0],
    ));
    open_ten_thousand_files()
}

/// Connections whose closing waits for data to go where nobody takes it.
fn linger_on_close() -> i64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    for _ in 0..3 {
        let stream = TcpStream::connect(address).expect("connect");
        let peer = listener.accept().expect("accept");
        let an_hour = libc::linger {
            l_onoff: 1,
            l_linger: 3600,
        };
        let value = &raw const an_hour as i64;
        set_option(stream.as_raw_fd(), libc::SO_LINGER, value, 8);
        stream.set_nonblocking(true).expect("set");
        let block = [1u8; 64 << 10];
        while std::io::Write::write(&mut &stream, &block).is_ok() {}
        stream.set_nonblocking(false).expect("set");
        forget((stream, peer));
    }
    forget(listener);
    0
}

/// What a tenant finds in the descriptors that it was born with.
pub fn look() -> String {
    let unread = |descriptor: i32| {
        let mut bytes = 0i32;
        let to = &raw mut bytes as i64;
        must(call(
            libc::SYS_ioctl,
            [descriptor.into(), libc::FIONREAD as i64, to, 0],
        ));
        bytes
    };
    let mut hint = 0u64;
    let to = &raw mut hint as i64;
    call(libc::SYS_fcntl, [2, F_GET_RW_HINT.into(), to, 0]);
    format!(
        "notices {} messages {} {} hint {hint}",
        unread(NOTICES),
        unread(SOCKET_PEER),
        unread(PIPE_READ),
    )
}
