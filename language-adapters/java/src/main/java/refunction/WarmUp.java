package refunction;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.jar.JarEntry;
import java.util.jar.JarOutputStream;

/**
 * Goes the way of every load and call with functions of our own: what the JVM loads, links
 * and compiles on the way is in the snapshot, and later calls write less.
 */
final class WarmUp {
    /**
     * What each of them calls once is compiled by the last, as the JVM looks at every 128th call
     * whether there were 200 (Tier0InvokeNotifyFreqLog, Tier3InvocationThreshold): what became
     * hot later would be compiled again after every restore, beside the first call.
     */
    private static final int LOADS = 260;

    /** Of so many one is followed by jars, and by functions that do something. */
    private static final int LOADS_FOR_WORK = 13;

    private static final int CALLS = 5;
    private static final String PLAIN = "refunction.warm.Plain";
    private static final String FUNCTION = "refunction.warm.Function";
    private static final String HANDLER = "refunction.warm.Handler";
    private static final List<String> ENTRIES =
            List.of(FUNCTION + "::main", HANDLER, HANDLER + "::bean", HANDLER + "::streams");
    private static final List<String> CLASSES =
            List.of(PLAIN, FUNCTION, HANDLER, HANDLER + "$Context", HANDLER + "$Bean", HANDLER + "$Answer");

    private final Worker worker;
    private final Channel nobody;
    private final ClassLoader parent;
    /** Our own jar, where the functions are, too. */
    private final Path own;
    /**
     * Where jars are written, beside our own: a spare boots beside a tenant, and what is new
     * where that one can make files is removed. Null where nothing can be written, and the
     * functions come from our own jar.
     */
    private final Path written;

    private WarmUp(Worker worker, Channel nobody, ClassLoader parent) throws Exception {
        this.worker = worker;
        this.nobody = nobody;
        this.parent = parent;
        own = Path.of(WarmUp.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        Path made = null;
        try {
            made = Files.createTempDirectory(own.getParent(), "warm-up-");
        } catch (IOException notWritable) {
            // Without it.
        }
        written = made;
    }

    static void of(Worker worker, Channel nobody, ClassLoader parent) throws Throwable {
        WarmUp warmUp = new WarmUp(worker, nobody, parent);
        warmUp.run();
        worker.unload();
        if (warmUp.written != null) Files.delete(warmUp.written);
    }

    private void run() throws Throwable {
        String plain = message(PLAIN);
        String working = message(FUNCTION);
        byte[] archive = archive();
        for (int load = 0; load < LOADS; load++) {
            load(plain);
            call(1, false);
            if (load % LOADS_FOR_WORK == 0) {
                worker.load(program(archive), PLAIN + "::main");
                call(1, false);
                load(working);
                call(CALLS, true);
                String entry = ENTRIES.get(load / LOADS_FOR_WORK % ENTRIES.size());
                worker.load(program(archive), entry);
                call(CALLS, entry.startsWith(FUNCTION));
            }
        }
        // The ways of those that are refused.
        ask('L', "{\"code\":\"class\"}");
        ask('L', "{\"code\":\"Y2xhc3M=\",\"binary\":true}");
    }

    private Program program(byte[] archive) throws IOException {
        if (written == null) return Program.ofJar(own, null, parent);
        return Program.ofArchive(archive, Files.createTempDirectory(written, Program.PREFIX), parent);
    }

    private static byte[] archive() throws IOException {
        ByteArrayOutputStream archive = new ByteArrayOutputStream();
        try (JarOutputStream jar = new JarOutputStream(archive)) {
            for (String name : CLASSES) {
                jar.putNextEntry(new JarEntry(path(name)));
                jar.write(file(name));
            }
        }
        return archive.toByteArray();
    }

    private static String message(String name) throws IOException {
        String code = Base64.getEncoder().encodeToString(file(name));
        return JsonWriter.write(Map.of("code", code, "binary", true, "env", Map.of()));
    }

    private Worker.Outcome ask(char kind, String text) throws IOException, ReflectiveOperationException {
        nobody.next();
        return worker.answer(new Channel.Frame(kind, text), nobody);
    }

    private void load(String message) throws IOException, ReflectiveOperationException {
        String outcome = ask('L', message).text();
        if (!outcome.equals("null")) throw new IllegalStateException(outcome);
    }

    /** Every fifth is refused, where the function can do that. */
    private void call(int calls, boolean mayFail) throws IOException, ReflectiveOperationException {
        for (int call = 1; call <= calls; call++) {
            boolean fails = mayFail && call % 5 == 0;
            String data = "{\"name\":\"\\u00fc\",\"number\":1.5,\"fail\":" + fails + "}";
            Worker.Outcome outcome = ask('I', invocation(data));
            if (outcome.kind() != (fails ? 'x' : 'v')) throw new IllegalStateException(outcome.text());
        }
    }

    /**
     * A call as the supervisor sends it, down to the width of its numbers: where another class
     * comes to a call site than all those before, the JVM has it linked anew.
     */
    static String invocation(String data) {
        return "{\"id\":\"00000000-0000-4000-8000-000000000000\",\"deadline_unix_ms\":4102444800000,"
                + "\"data\":" + data + "}";
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
