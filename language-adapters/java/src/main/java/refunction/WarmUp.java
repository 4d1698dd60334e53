package refunction;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Path;
import java.util.Base64;
import java.util.List;
import java.util.Map;

/**
 * Goes the way of every load and call with a function of our own: what the JVM loads,
 * links and compiles on the way is in the snapshot, and later calls write less. It makes no
 * files: a spare boots beside a tenant, and restores remove what is new.
 */
final class WarmUp {
    /** Twice what a method is called before it is compiled. */
    private static final int LOADS = 40;

    private static final int CALLS = 10;
    private static final String FUNCTION = "refunction.warm.Function";
    private static final String HANDLER = "refunction.warm.Handler";
    private static final List<String> ENTRIES =
            List.of(FUNCTION + "::main", HANDLER, HANDLER + "::bean", HANDLER + "::streams");

    private WarmUp() {}

    static void of(Worker worker) throws Throwable {
        String single = Base64.getEncoder().encodeToString(file(FUNCTION));
        String message = JsonWriter.write(Map.of("code", single, "binary", true, "env", Map.of()));
        // Ours, where the functions are in the same way as in anybody's.
        Path jar = Path.of(WarmUp.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        for (int load = 0; load < LOADS; load++) {
            if (load % 2 == 0) {
                String failure = worker.load(message);
                if (failure != null) throw new IllegalStateException(failure);
                call(worker, true);
            } else {
                String entry = ENTRIES.get(load / 2 % ENTRIES.size());
                worker.load(jar, entry);
                call(worker, entry.startsWith(FUNCTION));
            }
        }
        // The way of one that is refused.
        worker.load("{\"code\":\"class\"}");
    }

    private static void call(Worker worker, boolean mayFail) {
        for (int call = 1; call <= CALLS; call++) {
            boolean fails = mayFail && call % 5 == 0;
            Worker.Outcome outcome = worker.invoke("{\"id\":\"warm\",\"deadline_unix_ms\":1,"
                    + "\"data\":{\"name\":\"\\u00fc\",\"number\":1.5,\"fail\":" + fails + "}}");
            if (outcome.kind() != (fails ? 'x' : 'v')) throw new IllegalStateException(outcome.text());
        }
    }

    private static byte[] file(String name) throws IOException {
        String path = name.replace('.', '/') + ".class";
        try (InputStream source = WarmUp.class.getClassLoader().getResourceAsStream(path)) {
            return source.readAllBytes();
        }
    }
}
