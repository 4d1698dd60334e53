package refunction;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.jar.JarEntry;
import java.util.jar.JarOutputStream;

/**
 * Goes the way of every load and call with a function of our own: what the JVM loads,
 * links and compiles on the way is in the snapshot, and later calls write less.
 */
final class WarmUp {
    /** Twice what a method is called before it is compiled. */
    private static final int LOADS = 40;

    private static final int CALLS = 10;
    private static final String FUNCTION = "refunction.warm.Function";
    private static final String HANDLER = "refunction.warm.Handler";
    private static final List<String> CLASSES =
            List.of(FUNCTION, HANDLER, HANDLER + "$Context", HANDLER + "$Bean", HANDLER + "$Answer");

    /** Set where a tenant could put another jar in the place of one of these. */
    private static final String SHARED_FILES = "FUNCTION_SHARED_FILES";

    private WarmUp() {}

    static void of(Worker worker, Environment environment) throws IOException {
        // Nor where there is no place for one, and no jar can be loaded.
        boolean isShared = environment.take(SHARED_FILES) != null;
        boolean makesNoFiles = isShared || !Files.isWritable(Path.of(System.getProperty("java.io.tmpdir")));
        Base64.Encoder encoder = Base64.getEncoder();
        String single = encoder.encodeToString(file(FUNCTION));
        ByteArrayOutputStream archive = new ByteArrayOutputStream();
        try (JarOutputStream jar = new JarOutputStream(archive)) {
            for (String name : CLASSES) {
                jar.putNextEntry(new JarEntry(path(name)));
                jar.write(file(name));
            }
        }
        String several = encoder.encodeToString(archive.toByteArray());
        for (int load = 0; load < LOADS; load++) {
            if (load % 2 == 0 || makesNoFiles) {
                run(worker, Map.of("code", single, "binary", true, "env", Map.of()), true);
            } else {
                String entry = List.of(FUNCTION + "::main", HANDLER, HANDLER + "::bean", HANDLER + "::streams").get(load / 2 % 4);
                run(worker, Map.of("code", several, "binary", true, "handler", entry), entry.startsWith(FUNCTION));
            }
        }
        // The ways of those that are refused.
        worker.load("{\"code\":\"class\"}");
        if (!makesNoFiles) worker.load("{\"code\":\"UEs=\",\"binary\":true}");
    }

    private static void run(Worker worker, Map<String, Object> function, boolean mayFail) {
        // A spare boots beside a worker, and a restore of that one removes what is new in
        // the directory for temporary files: what is loaded may be gone in between.
        String failure = worker.load(JsonWriter.write(function));
        for (int again = 0; failure != null && again < 5; again++) {
            failure = worker.load(JsonWriter.write(function));
        }
        if (failure != null) throw new IllegalStateException(failure);
        for (int call = 1; call <= CALLS; call++) {
            boolean fails = mayFail && call % 5 == 0;
            Worker.Outcome outcome = worker.invoke("{\"id\":\"warm\",\"deadline_unix_ms\":1,"
                    + "\"data\":{\"name\":\"\\u00fc\",\"number\":1.5,\"fail\":" + fails + "}}");
            if (outcome.kind() != (fails ? 'x' : 'v')) throw new IllegalStateException(outcome.text());
        }
    }

    private static String path(String name) {
        return name.replace('.', '/') + ".class";
    }

    private static byte[] file(String name) throws IOException {
        try (InputStream source = WarmUp.class.getClassLoader().getResourceAsStream(path(name))) {
            return source.readAllBytes();
        }
    }
}
