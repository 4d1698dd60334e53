//! The node's view, in the control API's types.

use refunction_protocol::host as api;

use super::functions::micros;
use crate::node::metrics::{Calls, Counters, Histogram};
use crate::node::view::{ContainerView, FunctionView, PoolView, View, activity, by_activity};

pub(super) fn shown(view: View) -> api::NodeReply {
    let counted = &view.counted;
    let functions = view.functions.into_iter().map(|it| {
        let calls = counted.functions.get(&it.name);
        function(it, calls)
    });
    api::NodeReply {
        up_us: micros(view.up),
        draining: view.draining,
        waiting: view.waiting,
        deployed: view.deployed as u64,
        memory_bytes: view.pools.iter().map(|it| it.memory_bytes).sum(),
        memory_limit_bytes: view.memory_limit,
        container_limit: view.container_limit,
        bounds_us: Histogram::bounds(),
        calls: Some(calls(&counted.all)),
        restores: counted
            .restores
            .iter()
            .map(|(method, took)| api::RestoreCounts {
                method: (*method).into(),
                took: took.counts().to_vec(),
            })
            .collect(),
        functions: functions.collect(),
        containers: view.containers.into_iter().map(container).collect(),
        pools: view.pools.into_iter().map(pool).collect(),
    }
}

fn calls(calls: &Calls) -> api::CallCounts {
    let words = |counters: &Counters| {
        let words = counters.iter();
        words
            .map(|(word, count)| ((*word).into(), *count))
            .collect()
    };
    api::CallCounts {
        outcomes: words(&calls.outcomes),
        refusals: words(&calls.refusals),
        starts: words(&calls.starts),
        waited: calls.waited.counts().to_vec(),
        ran: calls.ran.counts().to_vec(),
    }
}

fn container(it: ContainerView) -> api::NodeContainer {
    api::NodeContainer {
        id: it.id.unwrap_or_default(),
        pool: it.pool.as_str().into(),
        activity: activity(it.activity).into(),
        function: it
            .function
            .map_or_else(String::new, |it| it.as_str().into()),
        since_us: micros(it.since),
        memory_bytes: it.memory_bytes,
        requests: it.requests,
    }
}

fn pool(it: PoolView) -> api::NodePool {
    api::NodePool {
        name: it.name.as_str().into(),
        runtime: it.runtime,
        minimum: it.minimum,
        maximum: it.maximum,
        memory_bytes: it.memory_bytes,
        waiting: it.status.waiting,
        containers: by_activity(&it.status)
            .map(|(doing, count)| (activity(doing).into(), count))
            .into(),
    }
}

fn function(it: FunctionView, counted: Option<&Calls>) -> api::NodeFunction {
    api::NodeFunction {
        name: it.name.as_str().into(),
        pool: it.pool,
        waiting: it.waiting,
        running: it.running,
        backing_off: it.backing_off.map(|(time, cause)| api::BackingOff {
            for_us: micros(time),
            cause,
        }),
        calls: counted.map(calls),
    }
}
