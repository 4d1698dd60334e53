//! What is tried.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use refunction_snapshot::{Refused, Scan};

use crate::guest::BALLAST;
use crate::host::Host;
use crate::mutations::{self, Expect, Mutation};
use crate::{siblings, sleepers, threads, unseen};

/// A case: its name, and what it does.
pub struct Case {
    pub name: String,
    pub run: Box<dyn Fn()>,
    /// Why it fails, if that is known.
    pub known: Option<&'static str>,
    /// How long it may take.
    pub patience: Duration,
}

/// How long a case may take that tries one thing.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a step of a random program may take.
const BRIEFLY: Duration = Duration::from_secs(5);

/// What a case says whose worker came back from what nothing brings back.
pub const LEAK: &str = "this cannot be put back, and was let go";

/// Everything.
pub fn all() -> Vec<Case> {
    let mut cases = vec![
        case("a_hundred_rewinds_in_a_row", a_hundred_rewinds_in_a_row),
        Case {
            patience: PATIENCE * (1 + number_of_programs() / 500),
            ..case("random_programs_are_undone", random_programs_are_undone)
        },
        Case {
            patience: PATIENCE * (1 + number_of_programs() / 250),
            ..case(
                "random_programs_are_undone_in_place",
                random_programs_are_undone_in_place,
            )
        },
        case("a_hold_meets_an_exec", a_hold_meets_an_exec),
        case(
            "a_heap_has_room_without_new_mappings",
            a_heap_has_room_without_new_mappings,
        ),
        case("cold_pages_are_dropped", cold_pages_are_dropped),
        case(
            "a_heavy_function_that_comes_again_is_dropped_as_soon",
            a_heavy_function_that_comes_again_is_dropped_as_soon,
        ),
        case(
            "a_worker_that_ends_is_replaced",
            a_worker_that_ends_is_replaced,
        ),
        case("news_comes_to_an_end", news_comes_to_an_end),
        case(
            "a_fork_costs_the_same_for_any_template",
            workers_share_the_image,
        ),
    ];
    let of_forks = unseen::ALL.iter().chain(siblings::ALL);
    cases.extend(of_forks.map(|(name, run)| case(name, *run)));
    for (how, scan) in [("ioctl", Scan::Auto), ("file", Scan::File)] {
        cases.extend(mutations::all().map(|mutation| Case {
            name: format!("{}_by_{how}", mutation.name),
            run: Box::new(move || is_undone(mutation, scan)),
            known: mutation.known,
            patience: PATIENCE,
        }));
    }
    let of_threads = threads::ALL.iter().chain(sleepers::ALL);
    cases.extend(of_threads.map(|(name, run)| case(name, *run)));
    let in_place = mutations::all().filter(|it| !threads::OTHERWISE_IN_PLACE.contains(&it.name));
    cases.extend(in_place.map(|mutation| Case {
        name: format!("{}_in_place", mutation.name),
        run: Box::new(move || {
            is_undone_by(mutation, mutation.name, Host::start_in_place(Scan::Auto))
        }),
        known: mutation.known,
        patience: PATIENCE,
    }));
    cases.extend(threads::mutations().map(|mutation| Case {
        name: format!("{}_in_another_thread", mutation.name),
        run: Box::new(move || {
            let what = format!("{} {}", threads::IN_A_THREAD, mutation.name);
            is_undone_by(mutation, &what, Host::start_in_place(Scan::Auto));
        }),
        known: mutation.known,
        patience: PATIENCE,
    }));
    cases
}

fn case(name: &str, run: fn()) -> Case {
    Case {
        name: name.to_string(),
        run: Box::new(run),
        known: None,
        patience: PATIENCE,
    }
}

/// What a worker does when asked; runs in the worker.
pub fn act(what: &str) -> String {
    match what {
        "look" => return mutations::look(),
        "write_and_put_back" => {
            // As a reference count goes up, and down again.
            for page in BALLAST.lock().expect("ballast").chunks_mut(4096) {
                let at = &raw mut page[0];
                // SAFETY: a byte of the page, which is locked.
                unsafe {
                    at.write_volatile(!at.read_volatile());
                    at.write_volatile(!at.read_volatile());
                }
            }
            return "0".to_owned();
        }
        "use_the_heap" => {
            // Each too small to be mapped by itself.
            let pieces: Vec<_> = (0..100).map(|_| vec![1u8; 16 << 10]).collect();
            return pieces.len().to_string();
        }
        _ => {}
    }
    let others = [unseen::act, siblings::act, threads::act, sleepers::act];
    if let Some(answer) = others.iter().find_map(|act| act(what)) {
        return answer;
    }
    match mutations::all().find(|mutation| mutation.name == what) {
        Some(mutation) => (mutation.act)().to_string(),
        None => format!("no such mutation: {what}"),
    }
}

fn is_undone(mutation: &Mutation, scan: Scan) {
    is_undone_by(mutation, mutation.name, Host::start(scan));
}

/// What a worker of this host did when it was told `what` is undone as its mutation
/// expects.
fn is_undone_by(mutation: &Mutation, what: &str, mut host: Host) {
    let (mut seen_inside, mut seen_outside) = seen(&mut host);
    // Twice: what the first rewind left behind would show in the second.
    for round in 0..2 {
        let answer = host.ask(what);
        match mutation.expect {
            Expect::Lost(news) => assert!(answer.starts_with(news), "{answer}, not {news}"),
            Expect::Denied(error) => assert_eq!(answer, error.to_string(), "round {round}"),
            // It may be lost before it has said anything.
            Expect::Either if answer.starts_with("Worker") => {}
            _ => assert_eq!(answer, "0", "round {round}"),
        }
        if let Err(refused) = host.rewind() {
            assert!(mutation.expect.allows(&refused), "{refused}");
            host.replace_worker();
            if !host.forks() {
                // Another program, elsewhere in its memory.
                (seen_inside, seen_outside) = seen(&mut host);
            }
        } else {
            assert!(!mutation.expect.is_refusal(), "{LEAK}");
        }
        assert_same(&host.observe(), &seen_outside, round);
        assert_eq!(host.ask("look"), seen_inside, "round {round}, from inside");
        host.rewind().expect("rewound after a look");
    }
}

/// What a worker looks like that did nothing, from inside and from outside.
fn seen(host: &mut Host) -> (String, String) {
    // The first look touches what every look touches.
    host.ask("look");
    host.rewind().expect("rewound before anything happened");
    let inside = host.ask("look");
    host.rewind().expect("rewound after a look");
    (inside, host.observe())
}

impl Expect {
    /// True if a worker that did this is never put back.
    fn is_refusal(self) -> bool {
        matches!(self, Self::Refused(_) | Self::Recorded | Self::Lost(_))
    }

    /// True if a worker may be refused for this.
    fn allows(self, refused: &Refused) -> bool {
        match self {
            Self::Rewound | Self::Denied(_) => false,
            Self::Recorded | Self::Either | Self::Lost(_) => true,
            Self::Refused(row) => refused.taints.iter().any(|taint| taint.row == row),
        }
    }
}

fn assert_same(now: &str, then: &str, round: u32) {
    if now == then {
        return;
    }
    let now: Vec<&str> = now.lines().collect();
    let then: Vec<&str> = then.lines().collect();
    let gone: Vec<_> = then.iter().filter(|line| !now.contains(line)).collect();
    let new: Vec<_> = now.iter().filter(|line| !then.contains(line)).collect();
    panic!("round {round}, seen from outside: gone {gone:#?}, new {new:#?}");
}

fn a_hundred_rewinds_in_a_row() {
    let mut host = Host::start(Scan::Auto);
    let seen = host.observe();
    for _ in 0..100 {
        assert_eq!(host.ask("scribble_on_heap"), "0");
        assert!(host.rewind().expect("rewound").dirty_pages >= 256);
        assert_eq!(host.observe(), seen);
    }
}

/// Programs that are tried, unless `REFUNCTION_FUZZ_PROGRAMS` says how many.
const PROGRAMS: u32 = 1100;

fn number_of_programs() -> u32 {
    std::env::var("REFUNCTION_FUZZ_PROGRAMS").map_or(PROGRAMS, |text| {
        text.parse().expect("REFUNCTION_FUZZ_PROGRAMS is a number")
    })
}

/// What takes so long that hardly anything else would be tried.
const SLOW: &[&str] = &[
    "end_the_main_thread",
    "be_signalled_by_a_child",
    "make_two_thousand_threads",
    "start_too_many_processes",
    "leave_a_thousand_zombies",
    "map_five_thousand_times",
    "open_ten_thousand_files",
    "part_with_its_table",
    "leak_a_large_block",
];

/// Tenants that do several things one after the other, in any order, some of them
/// more than once. What fails is shrunk to the shortest program that does.
fn random_programs_are_undone() {
    random_programs_are_undone_by(Host::start(Scan::Auto));
}

/// The same in a worker with threads, any of which may do what is its own.
fn random_programs_are_undone_in_place() {
    random_programs_are_undone_by(Host::start_in_place(Scan::Auto));
}

fn random_programs_are_undone_by(host: Host) {
    let forks = host.forks();
    let usable = || {
        mutations::all()
            .filter(|it| forks || !threads::OTHERWISE_IN_PLACE.contains(&it.name))
            .filter(|it| it.known.is_none() && !matches!(it.expect, Expect::Lost(_)))
            // Its alarm ends the worker if the next steps take their time.
            .filter(|it| it.name != "start_interval_timers")
            .filter(|it| !SLOW.contains(&it.name))
    };
    let (undone, refused): (Vec<_>, Vec<_>) =
        usable().partition(|it| matches!(it.expect, Expect::Rewound | Expect::Denied(_)));
    // One step in fifty is one that cannot be undone.
    let step = prop_oneof![
        49 => prop::sample::select(undone),
        1 => prop::sample::select(refused),
    ];
    let host = std::cell::RefCell::new(host);
    let baseline = std::cell::RefCell::new(seen(&mut host.borrow_mut()));
    let rewinds = std::cell::Cell::new(0u32);
    let ended_early = std::cell::Cell::new(0u32);
    let programs = number_of_programs();
    let mut runner = TestRunner::new(Config {
        cases: programs,
        failure_persistence: None,
        ..Config::default()
    });
    let in_a_thread = prop::bool::weighted(if forks { 0.0 } else { 0.3 });
    let step = (step, in_a_thread);
    let result = runner.run(&prop::collection::vec(step, 1..6), |program| {
        let mut host = host.borrow_mut();
        let replace = |host: &mut Host| {
            host.replace_worker();
            if !forks {
                // Another program, elsewhere in its memory.
                *baseline.borrow_mut() = seen(host);
            }
        };
        let elsewhere: Vec<bool> = program
            .iter()
            .map(|(it, elsewhere)| {
                *elsewhere && threads::mutations().any(|own| own.name == it.name)
            })
            .collect();
        let program: Vec<&Mutation> = program.into_iter().map(|(it, _)| it).collect();
        // Nothing comes after what does not come back.
        let stays = program.iter().position(|it| it.stays);
        let program = &program[..stays.map_or(program.len(), |at| at + 1)];
        let must_be_refused = program.iter().any(|it| it.expect.is_refusal());
        for (mutation, elsewhere) in program.iter().zip(elsewhere) {
            let expected = match mutation.expect {
                Expect::Denied(error) => error.to_string(),
                _ => "0".to_string(),
            };
            let what = if elsewhere {
                format!("{} {}", threads::IN_A_THREAD, mutation.name)
            } else {
                mutation.name.to_string()
            };
            if host.ask_within(BRIEFLY, &what) != Some(expected) {
                // One step made the next impossible, or kept it from coming to its
                // turn, which is a tenant's own affair.
                ended_early.set(ended_early.get() + 1);
                replace(&mut host);
                return Ok(());
            }
        }
        let refusable = program
            .iter()
            .any(|it| !matches!(it.expect, Expect::Rewound | Expect::Denied(_)));
        match host.rewind() {
            Ok(_) => {
                prop_assert!(!must_be_refused, "it was put back");
                rewinds.set(rewinds.get() + 1);
            }
            Err(refused) => {
                // A signal that one step left pending may be taken by another's thread.
                let has_ended = !refusable && host.has_ended();
                replace(&mut host);
                prop_assert!(refusable || has_ended, "{:?}", refused.taints);
            }
        }
        let (seen_inside, seen_outside) = baseline.borrow().clone();
        prop_assert_eq!(host.observe(), seen_outside);
        prop_assert_eq!(host.ask("look"), seen_inside);
        let rewound = host.rewind();
        prop_assert!(
            rewound.is_ok(),
            "{:?} after a look",
            rewound.map_err(|it| it.taints)
        );
        rewinds.set(rewinds.get() + 1);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    println!(
        "{} rewinds, {} programs ended early",
        rewinds.get(),
        ended_early.get()
    );
    assert!(
        ended_early.get() < programs / 2,
        "most programs ended early"
    );
}

/// A worker that is caught somewhere on the way into another program: it is put back
/// or refused, and the next one finds nothing of it.
fn a_hold_meets_an_exec() {
    let mut host = Host::start(Scan::Auto);
    host.ask("look");
    host.rewind().expect("rewound after a look");
    let seen = host.ask("look");
    host.rewind().expect("rewound after a look");
    let seen_outside = host.observe();
    for microseconds in 0..100u64 {
        host.ask("execute_a_little_later");
        // The thread needs about as long to get there.
        let until = Instant::now() + Duration::from_micros(microseconds * 10);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        if host.rewind().is_err() {
            host.replace_worker();
        }
        assert_same(&host.observe(), &seen_outside, microseconds as u32);
        assert_eq!(host.ask("look"), seen);
        host.rewind().expect("rewound after a look");
    }
}

/// Whoever hears of endless deaths gets to do something else in between, and is told
/// to come back.
fn news_comes_to_an_end() {
    let mut host = Host::start(Scan::Auto);
    let mut alive: Vec<_> = (0..600)
        .map(|_| Command::new("true").spawn().expect("spawned").id())
        .collect();
    // Ended, every one, and none heard of yet.
    for pid in &alive {
        let pid = Id::Pid(Pid::from_raw(*pid as i32));
        waitid(pid, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).expect("waited");
    }
    sigchld_is_pending();
    let mut rounds = 0;
    while !alive.is_empty() {
        let before = alive.len();
        for dead in host.reaped() {
            alive.retain(|pid| *pid as i32 != dead.as_raw());
        }
        let heard_of = before - alive.len();
        assert!((1..300).contains(&heard_of), "{heard_of} at once");
        rounds += 1;
        assert!(
            alive.is_empty() || sigchld_is_pending(),
            "not told to come back"
        );
    }
    assert!(rounds > 1);
}

/// Takes it away, too.
fn sigchld_is_pending() -> bool {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK)
        .and_then(|pending| pending.read_signal())
        .expect("signalfd")
        .is_some()
}

/// To grow the heap is to change a mapping, which a rewind then has to find and to mend.
fn a_heap_has_room_without_new_mappings() {
    let mut host = Host::start(Scan::Auto);
    for _ in 0..3 {
        assert_eq!(host.ask("use_the_heap"), "100");
        assert_eq!(host.rewind().expect("rewound").mappings_mended, 0);
    }
}

/// One heavy run must not make every later rewind heavy.
fn cold_pages_are_dropped() {
    let mut host = Host::start(Scan::Auto);
    for _ in 0..4 {
        host.ask("look");
        host.rewind().expect("rewound");
    }
    let usual = host.rewind().expect("rewound").dirty_pages;
    host.ask("scribble_on_heap");
    assert!(host.rewind().expect("rewound").dirty_pages > usual + 200);
    for _ in 0..3 {
        host.rewind().expect("rewound");
    }
    assert!(host.rewind().expect("rewound").dirty_pages <= usual + 8);
}

/// A page that comes back to what it was is kept for longer each time that it comes; what a
/// heavy function wrote is not.
fn a_heavy_function_that_comes_again_is_dropped_as_soon() {
    let mut host = Host::start(Scan::Auto);
    let mut usual = 0;
    for _ in 0..20 {
        host.ask("look");
        usual = host.rewind().expect("rewound").dirty_pages;
    }
    for time in 1..=5 {
        host.ask("scribble_on_heap");
        assert!(host.rewind().expect("rewound").dirty_pages > usual + 200);
        let mut seen = Vec::new();
        for _ in 0..20 {
            host.ask("look");
            seen.push(host.rewind().expect("rewound").dirty_pages);
        }
        let after = seen[3];
        assert!(
            after <= usual + 8,
            "{after} pages the {time}. time: {seen:?}"
        );
    }
}

fn a_worker_that_ends_is_replaced() {
    let mut host = Host::start(Scan::Auto);
    let seen = host.ask("look");
    for _ in 0..20 {
        nix::sys::signal::kill(host.worker().pid(), nix::sys::signal::Signal::SIGKILL)
            .expect("killed");
        host.wait_for_end(Duration::from_secs(5));
        host.rewind().expect_err("the dead cannot be put back");
        host.replace_worker();
        assert_eq!(host.ask("look"), seen);
    }
}

/// A newborn has a handful of pages of its own, not the template's megabytes.
fn workers_share_the_image() {
    let mut host = Host::start(Scan::Auto);
    assert!(host.template_bytes() > 1 << 20);
    for _ in 0..5 {
        host.replace_worker();
        assert!(host.worker().overlay_pages() < 64);
    }
}
