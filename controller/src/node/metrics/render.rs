//! What was counted and what is seen, as a page for Prometheus.

use super::own::Own;
use super::text::Text;
use super::{Calls, Counters, Histogram, OTHER, Work};
use crate::node::view::{View, activity, by_activity};

/// The type of what [`render`] makes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A function's row: its name, its pool's, its runtime's.
type OfFunction<'a> = ([(&'static str, &'a str); 3], &'a Calls);

/// A pool's: its name, its runtime's.
type OfPool<'a> = ([(&'static str, &'a str); 2], &'a Work);

/// How to find one number of a row.
type Find<Row, Number> = fn(&Row) -> &Number;

/// The whole page.
pub(in crate::node) fn render(view: &View) -> String {
    let mut text = Text::default();
    calls(&mut text, &functions(view));
    work(&mut text, &pools(view));
    now(&mut text, view);
    own(&mut text, view);
    text.finish()
}

fn functions(view: &View) -> Vec<OfFunction<'_>> {
    let counted = &view.counted;
    let mut rows = Vec::with_capacity(counted.functions.len() + 1);
    for (name, calls) in &counted.functions {
        let seen = view.functions.iter().find(|it| it.name == *name);
        let pool = seen.map_or("", |it| it.pool.as_str());
        let runtime = counted.pools.get(pool).map_or("", |it| it.runtime.as_str());
        let labels = [
            ("function", name.as_str()),
            ("pool", pool),
            ("runtime", runtime),
        ];
        rows.push((labels, calls));
    }
    let labels = [("function", OTHER), ("pool", ""), ("runtime", "")];
    rows.push((labels, &counted.other_functions));
    rows
}

fn pools(view: &View) -> Vec<OfPool<'_>> {
    let counted = &view.counted;
    let own = counted.pools.iter().map(|(name, work)| {
        (
            [("pool", name.as_str()), ("runtime", work.runtime.as_str())],
            work,
        )
    });
    let other = ([("pool", OTHER), ("runtime", "")], &counted.other_pools);
    own.chain([other]).collect()
}

fn calls(text: &mut Text, rows: &[OfFunction<'_>]) {
    let counters: [(&str, &str, &str, Find<Calls, Counters>); 4] = [
        (
            "refunction_calls_total",
            "outcome",
            "Calls that reached their function, by how they ended.",
            |it| &it.outcomes,
        ),
        (
            "refunction_calls_refused_total",
            "reason",
            "Calls that did not reach their function, by why.",
            |it| &it.refusals,
        ),
        (
            "refunction_call_starts_total",
            "start",
            "Calls by what was done before their function could run.",
            |it| &it.starts,
        ),
        (
            "refunction_function_restores_total",
            "method",
            "Restores after the function, by how the worker was brought back.",
            |it| &it.restores,
        ),
    ];
    for (name, label, help, of) in counters {
        text.family(name, "counter", help);
        for (labels, calls) in rows {
            for (word, count) in of(calls) {
                let [function, pool, runtime] = *labels;
                text.sample(name, &[function, pool, runtime, (label, word)], count);
            }
        }
    }
    let histograms: [(&str, &str, Find<Calls, Histogram>); 2] = [
        (
            "refunction_call_wait_seconds",
            "From a call's arrival to its function's being asked.",
            |it| &it.waited,
        ),
        (
            "refunction_call_run_seconds",
            "From a function's being asked to its answer.",
            |it| &it.ran,
        ),
    ];
    for (name, help, of) in histograms {
        text.family(name, "histogram", help);
        for (labels, calls) in rows {
            text.histogram(name, labels, of(calls));
        }
    }
}

fn work(text: &mut Text, rows: &[OfPool<'_>]) {
    let name = "refunction_restore_seconds";
    let help = "How long restores took, by how the worker was brought back.";
    text.family(name, "histogram", help);
    for ([pool, runtime], work) in rows {
        for (method, histogram) in &work.restores {
            text.histogram(name, &[*pool, *runtime, ("method", method)], histogram);
        }
    }
    let histograms: [(&str, &str, Find<Work, Histogram>); 2] = [
        (
            "refunction_load_seconds",
            "How long loading a function into a container took.",
            |it| &it.loads,
        ),
        (
            "refunction_creation_seconds",
            "How long making a container took.",
            |it| &it.creations,
        ),
    ];
    for (name, help, of) in histograms {
        text.family(name, "histogram", help);
        for (labels, work) in rows {
            text.histogram(name, labels, of(work));
        }
    }
    let name = "refunction_failures_total";
    let help = "What did not succeed: creation, load (by the function's own fault), load_refused (by the container's), restore.";
    text.family(name, "counter", help);
    for ([pool, runtime], work) in rows {
        for (what, count) in &work.failures {
            text.sample(name, &[*pool, *runtime, ("what", what)], count);
        }
    }
    let name = "refunction_taints_total";
    let help = "Reforks by the row of the state table that did not allow a rewind.";
    text.family(name, "counter", help);
    for ([pool, runtime], work) in rows {
        for (row, count) in &work.taints {
            text.sample(name, &[*pool, *runtime, ("row", row)], count);
        }
    }
}

/// What is so at this moment. Pools without series of their own have none here either.
fn now(text: &mut Text, view: &View) {
    let pools: Vec<_> = view
        .pools
        .iter()
        .filter(|it| view.counted.pools.contains_key(&it.name))
        .map(|it| {
            let labels = [("pool", it.name.as_str()), ("runtime", it.runtime.as_str())];
            (labels, it)
        })
        .collect();
    let name = "refunction_containers";
    text.family(name, "gauge", "Containers of pools, by what they do.");
    for ([pool, runtime], it) in &pools {
        for (doing, count) in by_activity(&it.status) {
            let labels = [*pool, *runtime, ("activity", activity(doing))];
            text.sample(name, &labels, count);
        }
    }
    let name = "refunction_pool_memory_bytes";
    let help = "What a pool's containers are accounted for.";
    text.family(name, "gauge", help);
    for (labels, it) in &pools {
        text.sample(name, labels, it.memory_bytes);
    }
    let name = "refunction_pool_queue_length";
    let help = "Calls that wait for a container of a pool.";
    text.family(name, "gauge", help);
    for (labels, it) in &pools {
        text.sample(name, labels, it.status.waiting);
    }
    let name = "refunction_function_queue_length";
    text.family(name, "gauge", "Calls of a function that wait.");
    for it in &view.functions {
        if view.counted.functions.contains_key(&it.name) {
            let labels = [("function", it.name.as_str()), ("pool", it.pool.as_str())];
            text.sample(name, &labels, it.waiting);
        }
    }
    let memory: u64 = view.pools.iter().map(|it| it.memory_bytes).sum();
    for (name, help, value) in [
        ("refunction_queue_length", "Calls that wait.", view.waiting),
        (
            "refunction_functions",
            "Functions that are deployed.",
            view.deployed as u64,
        ),
        (
            "refunction_memory_committed_bytes",
            "What the containers of all pools are accounted for.",
            memory,
        ),
        (
            "refunction_memory_limit_bytes",
            "What they may be accounted for; 18446744073709551615 if there is no limit.",
            view.memory_limit,
        ),
        (
            "refunction_containers_limit",
            "Containers of all pools at most.",
            view.container_limit.into(),
        ),
        (
            "refunction_draining",
            "1 if nothing new is taken.",
            view.draining.into(),
        ),
    ] {
        text.family(name, "gauge", help);
        text.sample(name, &[], value);
    }
}

fn own(text: &mut Text, view: &View) {
    let own = Own::read();
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Memory that refunctiond has itself.",
            own.resident_bytes,
        ),
        (
            "process_open_fds",
            "Descriptors that refunctiond has open.",
            own.open_fds,
        ),
        (
            "process_max_fds",
            "Descriptors that it may have open.",
            own.max_fds,
        ),
        ("process_threads", "Threads of refunctiond.", own.threads),
        (
            "refunction_up_seconds",
            "Since it began.",
            Some(view.up.as_secs()),
        ),
    ] {
        if let Some(value) = value {
            text.family(name, "gauge", help);
            text.sample(name, &[], value);
        }
    }
    let name = "refunction_info";
    text.family(name, "gauge", "What runs here.");
    text.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use refunction_protocol::{Method, Restored, Taint};
    use refunction_scheduler::{PoolName, PoolStatus, Scheduler};

    use super::*;
    use crate::node::Start;
    use crate::node::metrics::{Failed, Metrics, Ran};
    use crate::node::view::{FunctionView, PoolView};

    fn page() -> String {
        let metrics = Metrics::default();
        let pool = PoolName::from("refunction/python");
        metrics.pool_set(&pool);
        metrics.runs(pool.as_str(), "python");
        metrics.deployed(&"f".into(), &pool);
        let container = Scheduler::new(refunction_scheduler::NodeSettings::default()).number();
        metrics.ran(&Ran {
            function: "f",
            container,
            outcome: "out_of_memory",
            start: Start::Swapped,
            waited: Duration::from_micros(100),
            ran: Duration::from_millis(3),
        });
        metrics.refused("f", "room");
        metrics.refused("nobody's", "unknown");
        metrics.failed(pool.as_str(), Failed::Creation);
        let restored = Restored {
            method: Method::Refork,
            total_us: 1,
            phases: Vec::new(),
            dirty_pages: 0,
            taints: vec![Taint {
                row: "exec".into(),
                detail: String::new(),
            }],
        };
        metrics.restored(
            pool.as_str(),
            Some("f"),
            Duration::from_millis(1),
            &restored,
        );
        render(&View {
            up: Duration::from_secs(7),
            draining: false,
            waiting: 5,
            deployed: 1,
            memory_limit: 1 << 30,
            container_limit: 24,
            containers: Vec::new(),
            pools: vec![PoolView {
                name: pool.clone(),
                runtime: "python".into(),
                minimum: 1,
                maximum: 2,
                status: PoolStatus {
                    running: 2,
                    waiting: 5,
                    ..PoolStatus::default()
                },
                memory_bytes: 256 << 20,
            }],
            functions: vec![FunctionView {
                name: "f".into(),
                pool: pool.as_str().into(),
                waiting: 5,
                running: 2,
                backing_off: None,
            }],
            counted: metrics.counted(),
        })
    }

    #[test]
    fn what_happened_stands_on_the_page() {
        let page = page();
        let function = "function=\"f\",pool=\"refunction/python\",runtime=\"python\"";
        let pool = "pool=\"refunction/python\",runtime=\"python\"";
        for line in [
            format!("refunction_calls_total{{{function},outcome=\"out_of_memory\"}} 1"),
            format!("refunction_calls_refused_total{{{function},reason=\"room\"}} 1"),
            "refunction_calls_refused_total{function=\"_other\",pool=\"\",runtime=\"\",reason=\"unknown\"} 1".into(),
            format!("refunction_call_starts_total{{{function},start=\"swapped\"}} 1"),
            format!("refunction_function_restores_total{{{function},method=\"refork\"}} 1"),
            format!("refunction_call_wait_seconds_sum{{{function}}} 0.0001"),
            format!("refunction_call_run_seconds_count{{{function}}} 1"),
            format!("refunction_restore_seconds_bucket{{{pool},method=\"refork\",le=\"+Inf\"}} 1"),
            format!("refunction_taints_total{{{pool},row=\"exec\"}} 1"),
            format!("refunction_failures_total{{{pool},what=\"creation\"}} 1"),
            format!("refunction_containers{{{pool},activity=\"running\"}} 2"),
            format!("refunction_pool_memory_bytes{{{pool}}} 268435456"),
            format!("refunction_pool_queue_length{{{pool}}} 5"),
            "refunction_function_queue_length{function=\"f\",pool=\"refunction/python\"} 5".into(),
            "refunction_queue_length 5".into(),
            "refunction_memory_committed_bytes 268435456".into(),
            "refunction_up_seconds 7".into(),
        ] {
            assert!(page.lines().any(|it| it == line), "{line}\n{page}");
        }
    }

    #[test]
    fn each_sample_is_of_the_family_before_it_and_there_once() {
        let page = page();
        let (mut family, mut families, mut samples) = ("", BTreeSet::new(), BTreeSet::new());
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                family = help.split(' ').next().expect("a name");
                assert!(families.insert(family), "{family} twice");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                assert!(kind.starts_with(family), "{line}");
            } else {
                let (sample, value) = line.rsplit_once(' ').expect("a value");
                assert!(sample.starts_with(family), "{line} below {family}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(samples.insert(sample), "{sample} twice");
            }
        }
        assert!(samples.len() > 100, "{page}");
    }
}
