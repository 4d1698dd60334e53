//! What of this adapter can be left out on purpose, to see which test notices
//! (docs/mutants.md).

use refunction_adapter::sabotage::{self, Handler};

const GENERATORS: &str = "random generators of the runtime";
const ENVIRONMENT: &str = "environment, arguments";
const LANGUAGE: &str = "what a language keeps";
const TIME: &str = "time: cached clocks";

/// Every handler, and how its row of docs/restore.md begins.
pub const HANDLERS: &[Handler] = &[
    ("javascript:generator", GENERATORS),
    ("javascript:reseeding", GENERATORS),
    ("javascript:clock", TIME),
    ("javascript:environment", ENVIRONMENT),
    ("javascript:environment-of-a-call", ENVIRONMENT),
    ("javascript:time-zone", ENVIRONMENT),
    ("javascript:time-zone-put-back", ENVIRONMENT),
    ("javascript:context", LANGUAGE),
    ("javascript:timers", LANGUAGE),
    ("javascript:rejections-of-a-call", LANGUAGE),
    ("javascript:pieces-of-a-call", LANGUAGE),
];

/// True if this one is left out.
pub(crate) fn leaves_out(handler: &str) -> bool {
    sabotage::leaves_out(HANDLERS, handler)
}
