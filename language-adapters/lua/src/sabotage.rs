//! What of this adapter can be left out on purpose, to see which test notices
//! (docs/mutants.md).

use refunction_adapter::sabotage::{self, Handler, Lines};

const ENVIRONMENT: &str = "environment, arguments";
const LANGUAGE: &str = "what a language keeps";

/// Every handler, and how its row of docs/restore.md begins.
pub const HANDLERS: &[Handler] = &[
    ("lua:reseeding", "random generators of the runtime"),
    ("lua:environment", ENVIRONMENT),
    ("lua:environment-of-a-function", ENVIRONMENT),
    ("lua:environment-of-a-call", ENVIRONMENT),
    ("lua:state", LANGUAGE),
    ("lua:locale", LANGUAGE),
    ("lua:pieces-of-a-call", LANGUAGE),
];

/// Those that stand in `prelude.lua`.
pub(crate) const LINES: &[Lines] = &[Lines {
    handler: "lua:locale",
    with: "os.setlocale(\"C\")\n",
    without: "",
}];

/// True if this one is left out.
pub(crate) fn leaves_out(handler: &str) -> bool {
    sabotage::leaves_out(HANDLERS, handler)
}
