package refunction;

import java.io.DataInputStream;
import java.io.FileInputStream;
import java.io.IOException;
import java.lang.reflect.Field;
import java.security.SecureRandom;
import java.util.Random;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Makes what the JDK draws random numbers from new. A restore brings back the state of
 * all of it, and without this two tenants would draw the same.
 *
 * <p>What is not listed here seeds itself when it is first used, and nothing uses it before
 * the snapshot: the generators of Math.random and of Collections.shuffle.
 */
final class Fresh {
    private final DataInputStream entropy;
    /** Seeds of generators to come. */
    private final AtomicLong[] seeders;
    private final Field seedOfThread;
    private final Thread[] threads;
    private final Object nativeBuffer;
    private final Field nativeBuffered;
    private final Field nativeMix;

    Fresh() throws IOException, ReflectiveOperationException {
        entropy = new DataInputStream(new FileInputStream("/dev/urandom"));
        seeders = new AtomicLong[] {
            (AtomicLong) field(ThreadLocalRandom.class, "seeder").get(null),
            (AtomicLong) field(Random.class, "seedUniquifier").get(null),
            (AtomicLong) field(SplittableRandom.class, "defaultGen").get(null),
        };
        seedOfThread = field(Thread.class, "threadLocalRandomSeed");
        // Of the JVM's own ones, too: finalizers and cleaners are tenants' code.
        Set<Thread> all = Thread.getAllStackTraces().keySet();
        threads = all.toArray(Thread[]::new);
        // SecureRandom reads ahead from the kernel.
        new SecureRandom().nextBytes(new byte[1]);
        Class<?> source = Class.forName("sun.security.provider.NativePRNG");
        nativeBuffer = field(source, "INSTANCE").get(null);
        nativeBuffered = field(nativeBuffer.getClass(), "buffered");
        nativeMix = field(nativeBuffer.getClass(), "mixRandom");
    }

    private static Field field(Class<?> type, String name) throws ReflectiveOperationException {
        Field field = type.getDeclaredField(name);
        field.setAccessible(true);
        return field;
    }

    void afterRestore() throws IOException, ReflectiveOperationException {
        for (AtomicLong seeder : seeders) seeder.set(entropy.readLong());
        for (Thread thread : threads) seedOfThread.setLong(thread, entropy.readLong());
        nativeBuffered.setInt(nativeBuffer, 0);
        nativeMix.set(nativeBuffer, null);
    }
}
