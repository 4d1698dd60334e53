//! What holds whatever happens: random events from a node that does what it is told, well or
//! badly, with everything checked from outside after each step.

#[path = "invariants/world.rs"]
mod world;

use proptest::prelude::*;
use world::{Op, World};

fn op() -> impl Strategy<Value = Op> {
    let n = any::<u8>;
    prop_oneof![
        12 => (n(), n()).prop_map(|(function, patience)| Op::Call { function, patience }),
        20 => (n(), n()).prop_map(|(which, how)| Op::Finish { which, how }),
        10 => n().prop_map(|by| Op::Pass { by }),
        3 => n().prop_map(|which| Op::Withdraw { which }),
        2 => (n(), n(), n(), n()).prop_map(|(pool, minimum, maximum, memory)| Op::SetPool {
            pool, minimum, maximum, memory,
        }),
        1 => n().prop_map(|pool| Op::RemovePool { pool }),
        3 => (n(), n(), n(), n()).prop_map(|(function, pool, revision, rest)| Op::SetFunction {
            function, pool, revision, rest,
        }),
        1 => n().prop_map(|function| Op::RemoveFunction { function }),
        1 => (n(), n(), n()).prop_map(|(containers, memory, queue)| Op::SetNode {
            containers, memory, queue,
        }),
        1 => (n(), any::<bool>()).prop_map(|(pool, ready)| Op::Adopt { pool, ready }),
        2 => n().prop_map(|which| Op::End { which }),
        1 => n().prop_map(|which| Op::Lose { which }),
        1 => n().prop_map(|kind| Op::Trouble { kind }),
        2 => (n(), n()).prop_map(|(kind, which)| Op::Nonsense { kind, which }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hold_whatever_happens(ops in prop::collection::vec(op(), 1..300), drains in any::<bool>()) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
        }
        world.end(drains);
    }
}
