//! What of the adapter's half in Java can be left out on purpose, to see which test notices
//! (docs/mutants.md): `cargo xtask mutants` makes another jar for each.

use refunction_adapter::sabotage::{Handler, Lines};

const GENERATORS: &str = "random generators of the JVM";
const ENVIRONMENT: &str = "environment, arguments";
const LANGUAGE: &str = "what a language keeps";

/// Every handler, and how its row of docs/restore.md begins.
pub const HANDLERS: &[Handler] = &[
    ("java:seeder-of-threads", GENERATORS),
    ("java:seeder-of-random", GENERATORS),
    ("java:seeder-of-splittable", GENERATORS),
    ("java:seeds-of-threads", GENERATORS),
    ("java:math-random", GENERATORS),
    ("java:strict-math-random", GENERATORS),
    ("java:shuffle", GENERATORS),
    ("java:generators-of-the-function", GENERATORS),
    ("java:sha1", GENERATORS),
    ("java:read-ahead", GENERATORS),
    ("java:environment", ENVIRONMENT),
    ("java:environment-of-a-call", ENVIRONMENT),
    ("java:interruption", LANGUAGE),
    ("java:surface", LANGUAGE),
];

/// The files that they stand in, and where.
pub const LINES: &[(&str, Lines)] = &[
    (
        "Fresh.java",
        Lines {
            handler: "java:seeder-of-threads",
            with: "            (AtomicLong) field(ThreadLocalRandom.class, \"seeder\").get(null),\n",
            without: "            new AtomicLong(),\n",
        },
    ),
    (
        "Fresh.java",
        Lines {
            handler: "java:seeder-of-random",
            with: "            (AtomicLong) field(Random.class, \"seedUniquifier\").get(null),\n",
            without: "            new AtomicLong(),\n",
        },
    ),
    (
        "Fresh.java",
        Lines {
            handler: "java:seeder-of-splittable",
            with: "            (AtomicLong) field(SplittableRandom.class, \"defaultGen\").get(null),\n",
            without: "            new AtomicLong(),\n",
        },
    ),
    (
        "Fresh.java",
        Lines {
            handler: "java:seeds-of-threads",
            with: "        for (Thread thread : threads) seedOfThread.setLong(thread, entropy.getLong());\n",
            without: "",
        },
    ),
    (
        "Fresh.java",
        Lines {
            handler: "java:math-random",
            with: "            (Random) field(holder(\"Math\"), \"randomNumberGenerator\").get(null),\n",
            without: "            new Random(),\n",
        },
    ),
    (
        "Fresh.java",
        Lines {
            handler: "java:strict-math-random",
            with: "            (Random) field(holder(\"StrictMath\"), \"randomNumberGenerator\").get(null),\n",
            without: "            new Random(),\n",
        },
    ),
    (
        "Fresh.java",
        Lines {
            handler: "java:shuffle",
            with: "        if (shuffler.get(null) instanceof Random random) random.setSeed(entropy.getLong());\n",
            without: "",
        },
    ),
    (
        "Fresh.java",
        Lines {
            handler: "java:generators-of-the-function",
            with: "        for (Random random : adopted) random.setSeed(entropy.getLong());\n",
            without: "",
        },
    ),
    (
        "Fresh.java",
        Lines {
            handler: "java:sha1",
            with: "        supplement.invoke(sha1, seed);\n",
            without: "",
        },
    ),
    (
        "Fresh.java",
        Lines {
            handler: "java:read-ahead",
            with: "        nativeBuffered.setInt(nativeBuffer, 0);\n",
            without: "",
        },
    ),
    (
        "Worker.java",
        Lines {
            handler: "java:environment",
            with: "        environment.set(variablesOf(function));\n",
            without: "",
        },
    ),
    (
        "Worker.java",
        Lines {
            handler: "java:environment-of-a-call",
            with: "            environment.setForCall(variablesOf(invocation));\n",
            without: "            environment.set(variablesOf(invocation));\n",
        },
    ),
    (
        "Worker.java",
        Lines {
            handler: "java:interruption",
            with: "            Thread.interrupted();\n",
            without: "",
        },
    ),
    (
        "Surface.java",
        Lines {
            handler: "java:surface",
            with: "        if (name.startsWith(ADAPTER)) throw new ClassNotFoundException(name);\n",
            without: "",
        },
    ),
];
