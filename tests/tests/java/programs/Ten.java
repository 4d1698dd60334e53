import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.regex.Pattern;
import java.util.stream.IntStream;

/** Ten functions that do what functions do; each notices if it was not loaded anew. */
public class Ten {
    private static final List<Object> KEPT = new ArrayList<>();
    private static int calls;

    private static void mark() {
        int before = Integer.getInteger("mark", 0);
        if (before != calls) throw new IllegalStateException("called " + before + " times before, not " + calls);
        System.setProperty("mark", String.valueOf(++calls));
    }

    public static int f0(int number) {
        mark();
        return number + 1;
    }

    public static int f1(int number) {
        mark();
        Map<String, Integer> map = new HashMap<>();
        for (int key = 0; key < 1000; key++) map.put("key " + key, key);
        String text = map.toString();
        return (int) Pattern.compile("\\d+").matcher(text).results().count() + number;
    }

    public static int f2(int number) throws Exception {
        mark();
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Integer>> results = new ArrayList<>();
        for (int task = 0; task < 50; task++) {
            int it = task;
            results.add(pool.submit(() -> it * number));
        }
        int total = 0;
        for (Future<Integer> result : results) total += result.get();
        // It is not shut down: its threads stay.
        return total;
    }

    public static int f3(int number) throws Exception {
        mark();
        new ProcessBuilder("sleep", "1000").start();
        Process child = new ProcessBuilder("echo", String.valueOf(number)).start();
        return Integer.parseInt(new String(child.getInputStream().readAllBytes()).strip());
    }

    public static int f4(int number) throws Exception {
        mark();
        Path directory = Files.createTempDirectory("ten");
        int size = 0;
        for (int part = 0; part < 10; part++) {
            size += Files.size(Files.writeString(directory.resolve("" + part), "x".repeat(number)));
        }
        return size;
    }

    public static int f5(int number) {
        mark();
        byte[][] kept = new byte[40][];
        for (int part = 0; part < kept.length; part++) {
            kept[part] = new byte[1 << 18];
            kept[part][part] = 1;
        }
        KEPT.add(kept);
        return kept.length + number;
    }

    public static int f6(int number) throws Exception {
        mark();
        byte[] digest = MessageDigest.getInstance("SHA-512").digest(new byte[number + 1]);
        return digest.length + number;
    }

    public static int f7(int number) {
        mark();
        return (int) Duration.between(LocalDate.of(2000, 1, 1).atStartOfDay(), LocalDate.of(2000, 1, 2).atStartOfDay())
                        .toHours()
                + number;
    }

    public static int f8(int number) {
        mark();
        // At the restore the JVM collects, compiles, unwinds and starts threads.
        for (int busy = 0; busy < 3; busy++) {
            Thread thread = new Thread(Ten::storm);
            thread.setDaemon(true);
            thread.start();
        }
        try {
            return IntStream.range(0, 100).map(it -> 1 / (it - number % 100)).sum();
        } catch (ArithmeticException error) {
            return number;
        }
    }

    private static void storm() {
        for (long turn = 0; ; turn++) {
            try {
                Object[] garbage = new Object[1000];
                for (int part = 0; part < garbage.length; part++) garbage[part] = String.valueOf(turn + part);
                if (turn % 7 == 0) new Thread(() -> KEPT.size()).start();
                if (turn % 3 == 0) Integer.parseInt((String) garbage[3] + "x");
                synchronized (Ten.class) {
                    garbage[(int) (turn % 2000)] = null;
                }
            } catch (NumberFormatException | ArrayIndexOutOfBoundsException expected) {
                // What it is there for.
            }
        }
    }

    public static int f9(int number) {
        mark();
        return IntStream.range(0, 20_000).parallel().map(it -> it & 1).sum() + number;
    }
}
