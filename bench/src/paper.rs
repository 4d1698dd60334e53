//! What the original paper published, on hardware of its own: to stand beside ours, not to be
//! compared digit by digit.

use crate::figure::Quoted;
use crate::runtime::Runtime;

/// Its Figure 10: how long a restore takes, in microseconds.
const RESTORES: [(Runtime, f64); 3] = [
    (Runtime::Python, 2_300.0),
    (Runtime::Node, 29_000.0),
    (Runtime::Java, 99_000.0),
];

/// Its Figure 13: the size of a checkpoint, in MB.
const SIZES: [(Runtime, f64); 2] = [(Runtime::Python, 6.0), (Runtime::Java, 210.0)];

/// How long its restore of this runtime takes, in microseconds.
#[must_use]
pub fn restore(runtime: Runtime) -> Option<f64> {
    let found = RESTORES.iter().find(|(it, _)| *it == runtime);
    found.map(|(_, micros)| *micros)
}

/// What it says of this runtime.
#[must_use]
pub fn quoted(runtime: Runtime) -> Vec<Quoted> {
    let quote = |figure: &'static str, unit: &'static str, value| Quoted {
        source: "the paper".into(),
        name: runtime.name().into(),
        unit: unit.into(),
        value,
        figure: Some(figure.into()),
        x: None,
    };
    let size = SIZES.iter().find(|(it, _)| *it == runtime);
    let restore = restore(runtime).map(|micros| quote("10", "us", micros));
    let size = size.map(|(_, megabytes)| quote("13", "MB", *megabytes));
    restore.into_iter().chain(size).collect()
}
