//! What stands between a client and a function that is warm.

use std::time::{Duration, Instant};

use nix::unistd::Pid;
use refunction_bench::Failure;
use refunction_bench::caller::{Caller, call};
use refunction_bench::node::{ECHO, Node};
use refunction_bench::pipe::{self, Echo};
use refunction_bench::table::{Name, Promise, Report, Samples};
use serde_json::json;

use crate::Extent;

const IMAGE: &str = "refunction/python";

/// Round trips of a pipe that a call may take.
const ROUND_TRIPS: f64 = 10.0;

/// Each thing so many times in a row, after these that do not count.
const IN_A_ROW: usize = 40;
const WARM_UP: usize = 5;

/// Where everything is: daemon, container, client and the pipe's two ends.
const PLACES: [(&str, Option<usize>); 2] = [("as scheduled", None), ("one core", Some(1))];

const PIPE: &str = "pipe round trip";
const TCP: &str = "warm call over TCP";
const UNIX: &str = "warm call over a Unix socket";
const WITHIN: &str = "of it, in the container and to it";

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let mut samples = Samples::default();
    let all = nix::sched::sched_getaffinity(Pid::from_raw(0))?;
    for (place, processor) in PLACES {
        // Whatever is started from here on stays there, too.
        match processor {
            Some(processor) => pipe::pin(Pid::from_raw(0), processor)?,
            None => nix::sched::sched_setaffinity(Pid::from_raw(0), &all)?,
        }
        take(extent, place, &mut samples)?;
    }
    nix::sched::sched_setaffinity(Pid::from_raw(0), &all)?;
    report.results = samples.rows(|name| {
        let (place, what) = name.split_once(": ")?;
        let is_call = [TCP, UNIX, WITHIN].contains(&what);
        is_call.then(|| Name::from(format!("{place}: {PIPE}")))
    });
    for (place, _) in PLACES {
        for way in [TCP, UNIX] {
            let (call, trip) = (format!("{place}: {way}"), format!("{place}: {PIPE}"));
            let promise = Promise::of(call.clone(), &report.results, &call, &trip, ROUND_TRIPS);
            report.promises.extend(promise);
        }
    }
    Ok(())
}

fn take(extent: Extent, place: &str, samples: &mut Samples) -> Result<(), Failure> {
    let node = Node::start(
        &format!("[[pool]]\nimage = {IMAGE:?}\nmin = 1\n"),
        &["python"],
    )?;
    node.deploy("echo", IMAGE, ECHO, &json!({"keep_warm_s": 600}))?;
    let mut echo = Echo::start(None)?;
    let mut callers = [(TCP, node.address()), (UNIX, node.socket())]
        .map(|(way, at)| Caller::to(&at).map(|caller| (way, caller)))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let call = call("echo", "{}");
    for _ in 0..extent.of(100, 15) {
        for turn in 0..WARM_UP + IN_A_ROW {
            let took = echo.round_trip()?;
            if turn >= WARM_UP {
                samples.add(&format!("{place}: {PIPE}"), took);
            }
        }
        for (way, caller) in &mut callers {
            for turn in 0..WARM_UP + IN_A_ROW {
                let began = Instant::now();
                let answer = caller.exchange(&call)?.ok()?;
                let took = began.elapsed();
                if turn < WARM_UP {
                    continue;
                }
                if answer.header("x-refunction-start") != "warm" {
                    return Err(format!("it was not warm: {}", answer.head).into());
                }
                samples.add(&format!("{place}: {way}"), took);
                if *way == UNIX {
                    let within = answer.header("x-duration-seconds").parse()?;
                    samples.add(
                        &format!("{place}: {WITHIN}"),
                        Duration::from_secs_f64(within),
                    );
                }
            }
        }
    }
    node.end();
    Ok(())
}
