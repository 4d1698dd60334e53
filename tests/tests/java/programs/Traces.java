import java.io.File;
import java.io.FileOutputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.management.BufferPoolMXBean;
import java.lang.management.ManagementFactory;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.net.Authenticator;
import java.net.CookieHandler;
import java.net.CookieManager;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ProxySelector;
import java.net.ServerSocket;
import java.net.URL;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.Provider;
import java.security.Security;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Timer;
import java.util.TimerTask;
import java.util.TimeZone;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.ForkJoinPool;
import java.util.logging.Level;
import java.util.logging.Logger;
import java.util.stream.IntStream;

/**
 * Leaves something behind in each of the ways that there are in Java, and looks for what is
 * left, as whoever comes later might.
 */
public class Traces {
    /** What leaving may take. */
    interface Leaving {
        void leave() throws Exception;
    }

    /** What looking finds. */
    interface Looking {
        Object look() throws Exception;
    }

    private static final Map<String, Leaving> LEAVE = new TreeMap<>();
    private static final Map<String, Looking> LOOK = new TreeMap<>();
    private static final String SECRET = "the secret";
    private static final ThreadLocal<String> LOCAL = new ThreadLocal<>();

    private static Object kept;

    private static void trace(String name, Leaving leave, Looking look) {
        LEAVE.put(name, leave);
        LOOK.put(name, look);
    }

    static Object field(Class<?> type, String name, Object of) throws Exception {
        Field field = type.getDeclaredField(name);
        field.setAccessible(true);
        return field.get(of);
    }

    static Method method(Class<?> type, String name, Class<?>... parameters) throws Exception {
        Method method = type.getDeclaredMethod(name, parameters);
        method.setAccessible(true);
        return method;
    }

    static Thread forever(String name, boolean isDaemon) throws Exception {
        CountDownLatch started = new CountDownLatch(1);
        Thread thread = new Thread(() -> {
            started.countDown();
            while (true) {
                try {
                    Thread.sleep(Long.MAX_VALUE);
                } catch (InterruptedException ignored) {
                    // It wants to stay.
                }
            }
        }, name);
        thread.setDaemon(isDaemon);
        thread.start();
        started.await();
        return thread;
    }

    static TreeSet<String> threads() {
        TreeSet<String> names = new TreeSet<>();
        for (Thread thread : Thread.getAllStackTraces().keySet()) names.add(thread.getName());
        return names;
    }

    static TreeSet<String> descriptors() throws Exception {
        TreeSet<String> targets = new TreeSet<>();
        for (File file : new File("/proc/self/fd").listFiles()) {
            try {
                String target = Files.readSymbolicLink(file.toPath()).toString();
                // Neither the directory that is being listed nor the function's own jar.
                boolean isPassing = target.endsWith("/fd") || target.startsWith("/tmp/function-");
                if (!isPassing) targets.add(file.getName() + " " + target.replaceAll("\\[\\d+\\]", ""));
            } catch (java.nio.file.NoSuchFileException ignored) {
                // The same.
            }
        }
        return targets;
    }

    static String deadlock(Object lock) throws Exception {
        boolean[] taken = new boolean[1];
        Thread thread = new Thread(() -> {
            synchronized (lock) {
                taken[0] = true;
            }
        });
        thread.setDaemon(true);
        thread.start();
        thread.join(2000);
        return taken[0] ? "free" : "held";
    }

    static {
        // The language.
        trace("a static field", () -> kept = SECRET, () -> kept);
        trace("a thread local", () -> LOCAL.set(SECRET), () -> {
            Object table = field(Thread.class, "threadLocals", Thread.currentThread());
            if (table == null) return null;
            int count = 0;
            for (Object entry : (Object[]) field(table.getClass(), "table", table)) {
                if (entry == null) continue;
                Object value = field(entry.getClass(), "value", entry);
                if (SECRET.equals(value)) count++;
            }
            return count;
        });
        trace("an inheritable thread local", () -> new InheritableThreadLocal<String>().set(SECRET), () ->
                field(Thread.class, "inheritableThreadLocals", Thread.currentThread()) == null);
        trace("a system property", () -> System.setProperty("secret", SECRET), () -> System.getProperty("secret"));
        trace("all system properties", () -> System.setProperties(new java.util.Properties()), () ->
                System.getProperty("java.home"));
        trace("an environment variable", () -> {
            @SuppressWarnings("unchecked")
            Map<String, String> variables = (Map<String, String>) field(
                    Class.forName("java.util.Collections$UnmodifiableMap"), "m", System.getenv());
            variables.put("SECRET", SECRET);
        }, () -> System.getenv("SECRET"));
        trace("the default locale", () -> Locale.setDefault(new Locale("tlh")), () -> Locale.getDefault().toString());
        trace("the default time zone", () -> TimeZone.setDefault(TimeZone.getTimeZone("Asia/Tokyo")), () ->
                TimeZone.getDefault().getID());
        trace("System.out", () -> System.setOut(new PrintStream(OutputStream.nullOutputStream())), () ->
                field(PrintStream.class, "charOut", System.out).toString().length() > 0
                        && field(java.io.FilterOutputStream.class, "out", System.out).getClass().getName().contains("Lines"));
        trace("System.in", () -> System.setIn(java.io.InputStream.nullInputStream()), () -> System.in.getClass().getName());
        trace("the context class loader", () -> Thread.currentThread().setContextClassLoader(null), () ->
                Thread.currentThread().getContextClassLoader() == Traces.class.getClassLoader());
        trace("the thread's name", () -> Thread.currentThread().setName(SECRET), () -> Thread.currentThread().getName());
        trace("the thread's priority", () -> Thread.currentThread().setPriority(3), () ->
                Thread.currentThread().getPriority());
        trace("an uncaught exception's handler", () -> Thread.setDefaultUncaughtExceptionHandler((thread, error) -> {}),
                () -> Thread.getDefaultUncaughtExceptionHandler() == null);
        trace("a shutdown hook", () -> Runtime.getRuntime().addShutdownHook(new Thread(() -> {}, SECRET)), () ->
                ((Map<?, ?>) field(Class.forName("java.lang.ApplicationShutdownHooks"), "hooks", null)).size());
        trace("a file to be deleted at the end", () -> new File("/tmp/" + SECRET).deleteOnExit(), () ->
                String.valueOf(field(Class.forName("java.io.DeleteOnExitHook"), "files", null)).contains(SECRET));
        trace("an assertion status", () -> ClassLoader.getPlatformClassLoader().setDefaultAssertionStatus(true), () ->
                method(ClassLoader.class, "desiredAssertionStatus", String.class)
                        .invoke(ClassLoader.getPlatformClassLoader(), "java.sql.Driver"));
        trace("a class in the platform's loader", () -> {
            Method define = method(ClassLoader.class, "defineClass", String.class, byte[].class, int.class, int.class);
            try (var file = Traces.class.getResourceAsStream("Echo.class")) {
                byte[] bytes = file.readAllBytes();
                define.invoke(ClassLoader.getPlatformClassLoader(), "Echo", bytes, 0, bytes.length);
            }
        }, () -> {
            try {
                return ClassLoader.getPlatformClassLoader().loadClass("Echo").getName();
            } catch (ClassNotFoundException error) {
                return null;
            }
        });
        trace("a lock that is held", () -> {
            CountDownLatch held = new CountDownLatch(1);
            Thread thread = new Thread(() -> {
                synchronized (Runtime.getRuntime()) {
                    held.countDown();
                    while (true) {
                        try {
                            Thread.sleep(Long.MAX_VALUE);
                        } catch (InterruptedException ignored) {
                            // It wants to keep it.
                        }
                    }
                }
            });
            thread.setDaemon(true);
            thread.start();
            held.await();
        }, () -> deadlock(Runtime.getRuntime()));
        trace("a finalizer that springs later", () -> {
            kept = null;
            new Object() {
                @Override
                @SuppressWarnings({"deprecation", "removal"})
                protected void finalize() {
                    System.setProperty("sprung", SECRET);
                }
            }.hashCode();
        }, () -> {
            for (int turn = 0; turn < 3; turn++) {
                System.gc();
                System.runFinalization();
            }
            return System.getProperty("sprung");
        });
        // Threads.
        trace("a thread", () -> forever(SECRET, false), Traces::threads);
        trace("a daemon thread", () -> forever(SECRET, true), () -> threads().size());
        trace("many threads", () -> {
            for (int number = 0; number < 50; number++) forever(SECRET + number, true);
        }, () -> new File("/proc/self/task").list().length);
        trace("a timer", () -> new Timer(SECRET).schedule(new TimerTask() {
            @Override
            public void run() {
                System.setProperty("ticked", SECRET);
            }
        }, 0, 1), () -> {
            Thread.sleep(20);
            return System.getProperty("ticked");
        });
        trace("a thread pool", () -> Executors.newScheduledThreadPool(3)
                .submit(() -> System.setProperty("pooled", SECRET)).get(), () -> System.getProperty("pooled"));
        trace("the common pool", () -> {
            ForkJoinPool.commonPool().submit(() -> IntStream.range(0, 100_000).parallel().sum()).get();
        }, () -> field(ForkJoinPool.class, "common", null) == null ? null : ForkJoinPool.commonPool().getPoolSize());
        trace("a thread that spins", () -> {
            CountDownLatch started = new CountDownLatch(1);
            Thread thread = new Thread(() -> {
                started.countDown();
                for (long number = 0; ; number++) kept = number;
            }, SECRET);
            thread.setDaemon(true);
            thread.start();
            started.await();
        }, () -> threads().contains(SECRET));
        // Processes, descriptors, files.
        trace("a child process", () -> new ProcessBuilder("sleep", "1000").start(), () ->
                ProcessHandle.current().children().count());
        trace("a child that was not waited for", () -> new ProcessBuilder("true").start().onExit().join(), () ->
                threads().contains("process reaper"));
        trace("a file", () -> Files.writeString(Path.of("/tmp/refunction-traces"), SECRET), () ->
                Files.exists(Path.of("/tmp/refunction-traces")));
        trace("an open file", () -> kept = new FileOutputStream("/tmp/refunction-traces-open"), Traces::descriptors);
        trace("a mapped file", () -> {
            try (FileChannel channel = FileChannel.open(Path.of("/tmp/refunction-traces-mapped"),
                    StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
                kept = channel.map(FileChannel.MapMode.READ_WRITE, 0, 4096);
            }
        }, () -> Files.readString(Path.of("/proc/self/maps")).contains("refunction-traces-mapped"));
        trace("a server", () -> kept = new ServerSocket(0, 1, InetAddress.getLoopbackAddress()), () ->
                descriptors().stream().filter(it -> it.contains("socket:")).count());
        trace("standard output that is closed", () -> System.out.close(), () -> {
            System.out.println("still");
            return System.out.checkError();
        });
        trace("a descriptor of the adapter's that is closed", () -> {
            java.lang.reflect.Constructor<java.io.FileDescriptor> make =
                    java.io.FileDescriptor.class.getDeclaredConstructor(int.class);
            make.setAccessible(true);
            new java.io.FileInputStream(make.newInstance(5)).close();
        }, Traces::descriptors);
        // Memory.
        trace("memory outside the heap", () -> kept = ByteBuffer.allocateDirect(10 << 20), () ->
                ManagementFactory.getPlatformMXBeans(BufferPoolMXBean.class).stream()
                        .filter(it -> it.getName().equals("direct"))
                        .mapToLong(BufferPoolMXBean::getMemoryUsed)
                        .sum());
        trace("a heap that grew", () -> {
            List<byte[]> blocks = new ArrayList<>();
            for (int number = 0; number < 64; number++) blocks.add(new byte[1 << 20]);
            kept = blocks;
        }, () -> Runtime.getRuntime().totalMemory());
        // Registries of the JDK's.
        trace("a security provider", () -> Security.insertProviderAt(new Provider("Secret", "1", SECRET) {
            private static final long serialVersionUID = 1L;
        }, 1), () -> Security.getProviders()[0].getName());
        trace("a security property", () -> Security.setProperty("secret", SECRET), () -> Security.getProperty("secret"));
        trace("an authenticator", () -> Authenticator.setDefault(new Authenticator() {}), () ->
                Authenticator.getDefault() == null);
        trace("a proxy selector", () -> ProxySelector.setDefault(ProxySelector.of(new InetSocketAddress(1))), () ->
                ProxySelector.getDefault().getClass().getName());
        trace("cookies", () -> CookieHandler.setDefault(new CookieManager()), () -> CookieHandler.getDefault() == null);
        trace("how redirects are followed", () -> HttpURLConnection.setFollowRedirects(false), () ->
                HttpURLConnection.getFollowRedirects());
        trace("a factory of streams", () -> URL.setURLStreamHandlerFactory(protocol -> null), () ->
                field(URL.class, "factory", null) == null);
        trace("a logger", () -> {
            Logger.getLogger("").setLevel(Level.OFF);
            Logger.getLogger("").removeHandler(Logger.getLogger("").getHandlers()[0]);
        }, () -> Logger.getLogger("").getLevel() + " " + Logger.getLogger("").getHandlers().length);
        trace("a preference of JAXP", () -> System.setProperty("javax.xml.parsers.DocumentBuilderFactory", "Absent"), () ->
                javax.xml.parsers.DocumentBuilderFactory.newInstance() != null);
        trace("a signal handler", () -> sun.misc.Signal.handle(new sun.misc.Signal("WINCH"), signal -> {}), () -> {
            for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
                if (line.startsWith("SigCgt")) return line;
            }
            return null;
        });
        trace("a collected beginning", () -> {
            for (int number = 0; number < 20; number++) {
                kept = new byte[1 << 20];
                System.gc();
            }
        }, () -> ManagementFactory.getGarbageCollectorMXBeans().get(1).getCollectionCount());
        trace("compiled code", () -> {
            for (int number = 0; number < 20_000; number++) kept = String.valueOf(number).repeat(2);
        }, () -> kept);
    }

    public static Object main(Map<String, Object> args) throws Exception {
        String leave = (String) args.get("leave");
        String look = (String) args.get("look");
        if (leave != null) {
            LEAVE.get(leave).leave();
            return "left";
        }
        if (look == null) return LEAVE.keySet();
        try {
            return String.valueOf(LOOK.get(look).look());
        } catch (Throwable error) {
            return error.toString();
        }
    }
}
