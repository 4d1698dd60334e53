package refunction;

import java.io.EOFException;
import java.io.FileInputStream;
import java.io.IOException;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.security.SecureRandom;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Makes what the JDK draws random numbers from new. A restore brings back the state of
 * all of it, and without this two tenants would draw the same.
 */
final class Fresh {
    private static final int SEED_BYTES = 20;

    private final FileInputStream kernel = new FileInputStream("/dev/urandom");
    /** All that is needed of it after one restore, in one read. */
    private ByteBuffer entropy;
    /** Seeds of generators to come. */
    private final AtomicLong[] seeders;
    /** Of Math.random and StrictMath.random. */
    private final Random[] shared;
    /** Of Collections.shuffle, where there is one. */
    private final Field shuffler;
    private final Field seedOfThread;
    private final Thread[] threads;
    /** What SHA1PRNG seeds its own from. */
    private final Object sha1;
    private final Method supplement;
    private final Object nativeBuffer;
    private final Field nativeBuffered;
    /** Of the function that is in the snapshot. */
    private Random[] adopted = {};

    Fresh() throws IOException, ReflectiveOperationException {
        seeders = new AtomicLong[] {
            (AtomicLong) field(ThreadLocalRandom.class, "seeder").get(null),
            (AtomicLong) field(Random.class, "seedUniquifier").get(null),
            (AtomicLong) field(SplittableRandom.class, "defaultGen").get(null),
        };
        shared = new Random[] {
            (Random) field(holder("Math"), "randomNumberGenerator").get(null),
            (Random) field(holder("StrictMath"), "randomNumberGenerator").get(null),
        };
        shuffler = field(Collections.class, "r");
        seedOfThread = field(Thread.class, "threadLocalRandomSeed");
        // Of the JVM's own ones, too: finalizers and cleaners are tenants' code.
        Set<Thread> all = Thread.getAllStackTraces().keySet();
        threads = all.toArray(Thread[]::new);
        entropy = ByteBuffer.allocate(Long.BYTES * (seeders.length + threads.length + shared.length + 1) + SEED_BYTES);
        // SecureRandom reads ahead from the kernel.
        new SecureRandom().nextBytes(new byte[1]);
        sha1 = field(Class.forName("sun.security.provider.SecureRandom$SeederHolder"), "seeder").get(null);
        supplement = sha1.getClass().getDeclaredMethod("engineSetSeed", byte[].class);
        supplement.setAccessible(true);
        Class<?> source = Class.forName("sun.security.provider.NativePRNG");
        nativeBuffer = field(source, "INSTANCE").get(null);
        nativeBuffered = field(nativeBuffer.getClass(), "buffered");
    }

    private static Class<?> holder(String of) throws ClassNotFoundException {
        return Class.forName("java.lang." + of + "$RandomNumberGeneratorHolder");
    }

    private static Field field(Class<?> type, String name) throws ReflectiveOperationException {
        Field field = type.getDeclaredField(name);
        field.setAccessible(true);
        return field;
    }

    /** Has these be seeded anew, too. */
    void adopt(List<Random> generators) {
        adopted = generators.toArray(Random[]::new);
        entropy = ByteBuffer.allocate(entropy.capacity() + Long.BYTES * adopted.length);
    }

    void afterRestore() throws IOException, ReflectiveOperationException {
        if (kernel.readNBytes(entropy.array(), 0, entropy.capacity()) < entropy.capacity()) {
            throw new EOFException("/dev/urandom has no more");
        }
        entropy.clear();
        for (AtomicLong seeder : seeders) seeder.set(entropy.getLong());
        for (Thread thread : threads) seedOfThread.setLong(thread, entropy.getLong());
        for (Random random : shared) random.setSeed(entropy.getLong());
        if (shuffler.get(null) instanceof Random random) random.setSeed(entropy.getLong());
        for (Random random : adopted) random.setSeed(entropy.getLong());
        byte[] seed = new byte[SEED_BYTES];
        entropy.get(seed);
        supplement.invoke(sha1, seed);
        nativeBuffered.setInt(nativeBuffer, 0);
    }
}
