//! Calls in the shape of the Azure Functions traces of 2019.
//!
//! What Shahrad et al., "Serverless in the Wild" (USENIX ATC 2020), published of them: 45 % of
//! applications are called at most once an hour, 81 % at most once a minute, and the rest make
//! 99.6 % of all calls; the functions' mean durations are log-normal with a logarithmic mean of
//! -0.38 and deviation of 2.36 (seconds); 16 % of functions are called by timers, and those of
//! queues come in bursts. Ours: what is called more than once a minute runs a tenth of that
//! time. With run time and rate unrelated, one function of half a minute that is called all the
//! time would be the whole load of a node, and there would be few calls to measure.

use super::random::Random;

pub const MS: u64 = 1_000;
pub const SECOND: u64 = 1_000_000;

/// One call: when, of which function, how long it runs. Microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    pub at: u64,
    pub function: usize,
    pub run: u64,
}

/// So many functions called for so long, so often that they keep `busy` containers at work on
/// average.
pub fn azure(seed: u64, functions: usize, length: u64, busy: f64) -> Vec<Arrival> {
    let mut random = Random::new(seed);
    let hours = |h: f64| 1.0 / (h * 3600.0);
    let kinds: Vec<(f64, f64)> = (0..functions)
        .map(|n| {
            // Evenly over the quantiles, so that few functions are a sample of many.
            let share = (n as f64 + 0.5) / functions as f64;
            let (from, to) = match share {
                s if s < 0.45 => (hours(24.0), hours(1.0)),
                s if s < 0.81 => (hours(1.0), 1.0 / 60.0),
                _ => (1.0 / 60.0, 20.0),
            };
            let rate = from * (to / from).powf(random.unit());
            let run = (-0.38 + 2.36 * random.normal()).exp().clamp(0.001, 30.0);
            (rate, if share < 0.81 { run } else { run / 10.0 })
        })
        .collect();
    let offered: f64 = kinds.iter().map(|(rate, run)| rate * run).sum();
    let scale = busy / offered;
    let mut calls = Vec::new();
    for (function, (rate, mean)) in kinds.into_iter().enumerate() {
        let gap = SECOND as f64 / (rate * scale);
        let kind = random.unit();
        let mut at = random.unit() * gap;
        while at < length as f64 {
            // A burst of a queue is eight calls at once on average.
            let burst = if (0.16..0.31).contains(&kind) {
                1 + (7.0 * random.exponential()) as u64
            } else {
                1
            };
            for _ in 0..burst {
                let run = mean * (0.4 * random.normal() - 0.08).exp();
                calls.push(Arrival {
                    at: at as u64 + random.below(5 * MS),
                    function,
                    run: ((run * SECOND as f64) as u64).max(200),
                });
            }
            at += gap
                * burst as f64
                * if kind < 0.16 {
                    1.0
                } else {
                    random.exponential()
                };
        }
    }
    calls.sort_unstable();
    calls
}
