//! What things cost, as measured on this project's containers, and what comes of it.

use super::trace::MS;

/// Microseconds.
pub const RESTORE: u64 = 300;
pub const REFORK: u64 = 2 * MS;
pub const LOAD: u64 = MS;
pub const CREATE: u64 = 120 * MS;
/// Not measured: what containerd needs to clear one away.
pub const REMOVE: u64 = 50 * MS;

/// What became of all calls.
#[derive(Debug, Default)]
pub struct Outcome {
    /// From arrival to the start of the run, by function.
    pub delays: Vec<(usize, u64)>,
    /// When those runs started, in that order.
    pub starts: Vec<u64>,
    /// From arrival to the answer.
    pub responses: Vec<u64>,
    pub created: u64,
    pub warm: u64,
    pub restored: u64,
    pub swapped: u64,
    /// Calls that waited for a container to be made.
    pub cold: u64,
    pub refused: u64,
}

impl Outcome {
    pub fn delay(&self, percent: f64) -> u64 {
        percentile(
            self.delays.iter().map(|(_, delay)| *delay).collect(),
            percent,
        )
    }

    pub fn delay_of(&self, function: usize, percent: f64) -> u64 {
        let of = self.delays.iter().filter(|(f, _)| *f == function);
        percentile(of.map(|(_, delay)| *delay).collect(), percent)
    }

    pub fn mean_delay(&self) -> f64 {
        let sum: u64 = self.delays.iter().map(|(_, delay)| *delay).sum();
        sum as f64 / self.delays.len() as f64
    }

    pub fn mean_response(&self) -> f64 {
        self.responses.iter().sum::<u64>() as f64 / self.responses.len() as f64
    }

    pub fn print(&self, name: &str) {
        println!(
            "{name:32} {:7} calls  delay mean {:9.3} ms  p50 {:8.3}  p90 {:8.3}  p99 {:10.3}  max {:10.3}  \
             response {:9.3} ms  warm {:6} restored {:5} swapped {:6} cold {:5} created {:5} refused {}",
            self.delays.len(),
            self.mean_delay() / 1e3,
            self.delay(50.0) as f64 / 1e3,
            self.delay(90.0) as f64 / 1e3,
            self.delay(99.0) as f64 / 1e3,
            self.delay(100.0) as f64 / 1e3,
            self.mean_response() / 1e3,
            self.warm,
            self.restored,
            self.swapped,
            self.cold,
            self.created,
            self.refused,
        );
    }
}

fn percentile(mut all: Vec<u64>, percent: f64) -> u64 {
    all.sort_unstable();
    let last = all.len().saturating_sub(1);
    all.get((last as f64 * percent / 100.0).round() as usize)
        .copied()
        .unwrap_or(0)
}

/// Where calls come from.
pub trait Load {
    /// The calls known from the start.
    fn first(&mut self) -> Vec<super::trace::Arrival>;
    /// A call of it was answered, or refused: what does its client do next?
    fn next(&mut self, call: usize, now: u64) -> Option<super::trace::Arrival>;
}

/// Clients that do not wait for answers.
pub struct Open(pub Vec<super::trace::Arrival>);

impl Load for Open {
    fn first(&mut self) -> Vec<super::trace::Arrival> {
        std::mem::take(&mut self.0)
    }

    fn next(&mut self, _call: usize, _now: u64) -> Option<super::trace::Arrival> {
        None
    }
}
