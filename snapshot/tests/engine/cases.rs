//! What is tried.

use std::sync::atomic::Ordering;

use refunction_snapshot::Scan;

use crate::guest::{BALLAST, COUNTER};
use crate::host::Host;

pub struct Case {
    pub name: &'static str,
    pub run: fn(),
}

pub const ALL: &[Case] = &[
    Case {
        name: "memory_comes_back",
        run: memory_comes_back,
    },
    Case {
        name: "timing",
        run: timing,
    },
];

/// What a worker does when asked; runs in the worker.
pub fn act(what: &str) -> String {
    match what {
        "look" => {
            let ballast = BALLAST.lock().expect("ballast");
            let sum: u64 = ballast.iter().map(|byte| u64::from(*byte)).sum();
            format!("{} {sum}", COUNTER.load(Ordering::Relaxed))
        }
        "scribble" => {
            COUNTER.fetch_add(1, Ordering::Relaxed);
            for page in BALLAST.lock().expect("ballast").chunks_mut(4096) {
                page[17] = 1;
            }
            "done".into()
        }
        "pid" => std::process::id().to_string(),
        _ => "what?".into(),
    }
}

fn memory_comes_back() {
    for scan in [Scan::Auto, Scan::File] {
        let mut host = Host::start(scan);
        let before = host.ask("look");
        let maps = host.mapping_list();
        for round in 0..20 {
            assert_eq!(host.ask("scribble"), "done");
            assert_ne!(host.ask("look"), before);
            let rewound = host.rewind().expect("rewound");
            eprintln!("{round} {rewound:?}");
            assert_eq!(host.ask("look"), before);
            host.rewind().expect("rewound");
            assert_eq!(host.mapping_list(), maps);
        }
    }
}

fn timing() {
    let mut host = Host::start(Scan::Auto);
    for _ in 0..200 {
        host.ask("pid");
        let rewound = host.rewind().expect("rewound");
        eprintln!(
            "{} {:?}",
            rewound.phases.total().as_micros(),
            rewound
                .phases
                .iter()
                .map(|(n, d)| (n, d.as_nanos()))
                .collect::<Vec<_>>()
        );
    }
}
