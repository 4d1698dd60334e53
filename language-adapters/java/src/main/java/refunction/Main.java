package refunction;

import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Boots the runtime to the point at which its snapshot is taken. */
public final class Main {
    private Main() {}

    /**
     * The arguments are the handler that the container's command names, or nothing; and what
     * is to be loaded before: jars, and classes by name.
     */
    public static void main(String[] arguments) throws Exception {
        Channel channel = Channel.toSupervisor();
        Worker worker;
        try {
            String[] preloaded = Arrays.copyOfRange(arguments, 1, arguments.length);
            worker = boot(channel, arguments[0], preloaded);
        } catch (Throwable thrown) {
            channel.answer('x', Failure.describe(thrown));
            System.exit(1);
            return;
        }
        worker.serve();
        // Threads that a function left must not keep it.
        Runtime.getRuntime().halt(0);
    }

    private static Worker boot(Channel channel, String handler, String[] preloaded) throws Throwable {
        Output output = new Output();
        ClassLoader parent = preload(preloaded);
        Worker worker = new Worker(channel, output, new Fresh(), parent, root());
        worker.warmUp();
        if (!handler.isEmpty()) worker.importFunction(handler);
        output.flush();
        // What is collected now need not be in the snapshot.
        System.gc();
        System.runFinalization();
        Holes.fill();
        System.gc();
        String version = System.getProperty("java.version");
        channel.answer('r', "{\"name\":\"java\",\"version\":\"" + version + "\"}");
        return worker;
    }

    private static Path root() {
        for (String name : List.of("FUNCTION_ROOT", "LAMBDA_TASK_ROOT")) {
            String root = System.getenv(name);
            if (root != null && !root.isEmpty()) return Path.of(root);
        }
        return Path.of("").toAbsolutePath();
    }

    /** The parent of every function's loader; not the one that the adapter is in. */
    private static ClassLoader preload(String[] names) throws Throwable {
        List<URL> jars = new ArrayList<>();
        List<String> classes = new ArrayList<>();
        for (String name : names) {
            if (name.endsWith(".jar")) {
                jars.add(Path.of(name).toUri().toURL());
            } else {
                classes.add(name);
            }
        }
        ClassLoader parent = new Surface();
        if (!jars.isEmpty()) parent = new URLClassLoader("preloaded", jars.toArray(URL[]::new), parent);
        for (String name : classes) Class.forName(name, true, parent);
        return parent;
    }
}
