package refunction;

import java.lang.reflect.Field;
import java.lang.reflect.Method;

/**
 * Fills what was given back between the blocks of the C library's heap, which the JVM's own
 * structures are in, and never gives it back: what a function has the JVM make then lies side
 * by side behind all of them, on few pages, each of which a rewind has to put back.
 */
final class Holes {
    private static final int LARGEST = 64 * 1024;
    /** What the C library keeps lists of by exact size: requests up to this, in steps. */
    private static final int LARGEST_OF_LISTS = 1032;

    private static final int STEP = 16;
    /** Blocks side by side that show that there is no hole of this size any more. */
    private static final int IN_A_ROW = 4;

    private static final int MOST = 4096;
    /** Of the largest blocks, to be had behind all others without asking the kernel. */
    private static final int ROOM = 16;

    private final Object unsafe;
    private final Method allocate;
    private final Method free;

    private Holes() throws ReflectiveOperationException {
        // By reflection, because the compiler warns of it by name; there is no other that asks malloc.
        Class<?> type = Class.forName("sun.misc.Unsafe");
        Field instance = type.getDeclaredField("theUnsafe");
        instance.setAccessible(true);
        unsafe = instance.get(null);
        allocate = type.getMethod("allocateMemory", long.class);
        free = type.getMethod("freeMemory", long.class);
    }

    static void fill() throws ReflectiveOperationException {
        Holes holes = new Holes();
        for (int size = LARGEST; size > LARGEST_OF_LISTS; size /= 2) holes.fill(size);
        for (int size = LARGEST_OF_LISTS; size > STEP; size -= STEP) holes.fill(size);
        long[] room = new long[ROOM];
        for (int index = 0; index < ROOM; index++) room[index] = holes.block(LARGEST);
        for (long block : room) holes.free.invoke(holes.unsafe, block);
    }

    private long block(long size) throws ReflectiveOperationException {
        return (long) allocate.invoke(unsafe, size);
    }

    private void fill(int size) throws ReflectiveOperationException {
        // With what malloc writes in front of each, in its steps.
        long distance = (size + 8 + STEP - 1) / STEP * STEP;
        long before = 0;
        int inARow = 0;
        for (int count = 0; inARow < IN_A_ROW && count < MOST; count++) {
            long block = block(size);
            inARow = block == before + distance ? inARow + 1 : 0;
            before = block;
        }
    }
}
