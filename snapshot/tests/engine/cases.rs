//! What is tried.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use refunction_snapshot::Scan;

use crate::host::Host;
use crate::mutations::{self, Expect, Mutation};
use crate::unseen;

/// A case: its name, and what it does.
pub struct Case {
    pub name: String,
    pub run: Box<dyn Fn()>,
}

/// Everything.
pub fn all() -> Vec<Case> {
    let mut cases = vec![
        case("a_hundred_rewinds_in_a_row", a_hundred_rewinds_in_a_row),
        case("random_programs_are_undone", random_programs_are_undone),
        case("cold_pages_are_dropped", cold_pages_are_dropped),
        case(
            "a_worker_that_ends_is_replaced",
            a_worker_that_ends_is_replaced,
        ),
        case(
            "a_fork_costs_the_same_for_any_template",
            workers_share_the_image,
        ),
    ];
    cases.extend(unseen::ALL.iter().map(|(name, run)| case(name, *run)));
    for (how, scan) in [("ioctl", Scan::Auto), ("file", Scan::File)] {
        cases.extend(mutations::ALL.iter().map(|mutation| Case {
            name: format!("{}_by_{how}", mutation.name),
            run: Box::new(move || is_undone(mutation, scan)),
        }));
    }
    cases
}

fn case(name: &str, run: fn()) -> Case {
    Case {
        name: name.to_string(),
        run: Box::new(run),
    }
}

/// What a worker does when asked; runs in the worker.
pub fn act(what: &str) -> String {
    if what == "look" {
        return mutations::look();
    }
    if let Some(answer) = unseen::act(what) {
        return answer;
    }
    match mutations::ALL.iter().find(|mutation| mutation.name == what) {
        Some(mutation) => (mutation.act)().to_string(),
        None => format!("no such mutation: {what}"),
    }
}

fn is_undone(mutation: &Mutation, scan: Scan) {
    let mut host = Host::start(scan);
    // The first look touches what every look touches.
    host.ask("look");
    host.rewind().expect("rewound before anything happened");
    let seen_inside = host.ask("look");
    host.rewind().expect("rewound after a look");
    let seen_outside = host.observe();
    let denied = match mutation.expect {
        Expect::Denied(error) => error,
        _ => 0,
    };
    // Twice: what the first rewind left behind would show in the second.
    for round in 0..2 {
        assert_eq!(host.ask(mutation.name), denied.to_string(), "round {round}");
        let rewound = host.rewind();
        match mutation.expect {
            Expect::Refused(row) => {
                let refused = rewound.expect_err("this cannot be put back");
                assert!(
                    refused.taints.iter().any(|taint| taint.row == row),
                    "refused for another reason: {refused}"
                );
                host.replace_worker();
            }
            Expect::Rewound | Expect::Denied(_) => {
                rewound.expect("this can be put back");
            }
        }
        assert_same(&host.observe(), &seen_outside, round);
        assert_eq!(host.ask("look"), seen_inside, "round {round}, from inside");
        host.rewind().expect("rewound after a look");
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

/// Tenants that do several things one after the other, in any order, some of them
/// more than once. What fails is shrunk to the shortest program that does.
fn random_programs_are_undone() {
    let undone: Vec<&'static Mutation> = mutations::ALL
        .iter()
        .filter(|mutation| mutation.expect == Expect::Rewound)
        // Its alarm ends the worker if the next steps take their time.
        .filter(|mutation| mutation.name != "start_interval_timers")
        .collect();
    let host = std::cell::RefCell::new(Host::start(Scan::Auto));
    host.borrow_mut().ask("look");
    host.borrow_mut().rewind().expect("rewound after a look");
    let seen = host.borrow().observe();
    let ran_through = std::cell::Cell::new(0);
    let programs = prop::collection::vec(prop::sample::select(undone), 1..12);
    let mut runner = TestRunner::new(Config {
        cases: 150,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&programs, |program| {
        let mut host = host.borrow_mut();
        for mutation in &program {
            let answer = host.ask(mutation.name);
            if answer != "0" {
                // One step made the next impossible, which is a tenant's own affair.
                host.replace_worker();
                return Ok(());
            }
        }
        ran_through.set(ran_through.get() + 1);
        let rewound = host.rewind();
        if rewound.is_err() {
            // A signal that one step left pending may be taken by another's thread.
            let has_ended = host.has_ended();
            host.replace_worker();
            if has_ended {
                return Ok(());
            }
        }
        prop_assert!(rewound.is_ok(), "{:?}", rewound.map_err(|it| it.taints));
        prop_assert_eq!(host.observe(), seen.clone());
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(ran_through.get() > 75, "most programs ended early");
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
    for _ in 0..8 {
        host.rewind().expect("rewound");
    }
    assert!(host.rewind().expect("rewound").dirty_pages <= usual + 8);
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
