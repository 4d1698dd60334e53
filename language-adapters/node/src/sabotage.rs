//! What of the adapter's half in JavaScript can be left out on purpose, to see which test
//! notices (docs/mutants.md).

use refunction_adapter::sabotage::{Handler, Lines};

const GENERATORS: &str = "random generators of Node.js";
const ENVIRONMENT: &str = "environment, arguments";
const LANGUAGE: &str = "what a language keeps";

/// Every handler, and how its row of docs/restore.md begins.
pub const HANDLERS: &[Handler] = &[
    ("node:openssl", GENERATORS),
    ("node:math-random", GENERATORS),
    ("node:math-random-of-contexts", GENERATORS),
    ("node:math-random-of-threads", GENERATORS),
    ("node:math-random-of-the-snapshot", GENERATORS),
    ("node:math-random-anew", GENERATORS),
    ("node:names-read-ahead", GENERATORS),
    ("node:names-of-the-web-read-ahead", GENERATORS),
    ("node:numbers-read-ahead", GENERATORS),
    ("node:environment", ENVIRONMENT),
    ("node:environment-of-a-call", ENVIRONMENT),
    ("node:late-words", LANGUAGE),
    ("node:late-pieces", LANGUAGE),
];

/// Where they stand in `adapter.js`.
pub(crate) const LINES: &[Lines] = &[
    Lines {
        handler: "node:openssl",
        with: "  if (!reseed()) throw new Failure('OpenSSL finds no randomness');\n",
        without: "",
    },
    Lines {
        handler: "node:math-random",
        with: "  seed(random);\n",
        without: "",
    },
    Lines {
        handler: "node:math-random-of-contexts",
        with: "      seed(runInContext.call(drawing, context));\n",
        without: "",
    },
    Lines {
        handler: "node:math-random-of-threads",
        with: "skipped--) draw();\n  setFlagsFromString('--random-seed=0');\n",
        without: "skipped--) draw();\n",
    },
    Lines {
        handler: "node:math-random-of-the-snapshot",
        with: "  Math.random = drawing.random;\n",
        without: "",
    },
    Lines {
        handler: "node:math-random-anew",
        with: "  if (isDrawn) refresh();\n",
        without: "",
    },
    Lines {
        handler: "node:names-read-ahead",
        with: "      renew(names);\n      return randomUUID(options);\n",
        without: "      return randomUUID(options);\n",
    },
    Lines {
        handler: "node:names-of-the-web-read-ahead",
        with: "      renew(names);\n      return named.call(this);\n",
        without: "      return named.call(this);\n",
    },
    Lines {
        handler: "node:numbers-read-ahead",
        with: "      renew(numbers);\n",
        without: "",
    },
    Lines {
        handler: "node:environment",
        with: "  if (given.env) Object.assign(process.env, given.env);\n",
        without: "",
    },
    Lines {
        handler: "node:environment-of-a-call",
        with: "  for (const [name, value] of beforeCall) {\n",
        without: "  for (const [name, value] of []) {\n",
    },
    Lines {
        handler: "node:late-words",
        with: "    if (settle !== mine) return;\n",
        without: "",
    },
    Lines {
        handler: "node:late-pieces",
        with: "    return settle !== this.#done;\n",
        without: "    return false;\n",
    },
];
