package refunction;

import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.security.SecureRandom;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Deque;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Random;
import java.util.Set;

/**
 * The random generators that a function made when it was imported: a restore brings back
 * their state, and every request would draw the same. Those are found that fields of its
 * own classes lead to; one that only a thread or the JDK's internals know is not.
 */
final class Generators {
    /** A function that keeps more than this at its import keeps data, not generators. */
    private static final int MOST = 1_000_000;

    private final Set<Object> seen = Collections.newSetFromMap(new IdentityHashMap<>());
    private final Deque<Object> left = new ArrayDeque<>();
    private final List<Random> found = new ArrayList<>();

    private Generators() {}

    static List<Random> of(Entry entry, List<Class<?>> classes) throws ReflectiveOperationException {
        // By reflection, because the compiler warns of it by name; there is no other that tells.
        Class<?> unsafe = Class.forName("sun.misc.Unsafe");
        Field instance = unsafe.getDeclaredField("theUnsafe");
        instance.setAccessible(true);
        Method isUntouched = unsafe.getMethod("shouldBeInitialized", Class.class);
        Generators generators = new Generators();
        generators.note(entry.target());
        for (Class<?> type : classes) {
            // Looking into one that was not initialised would do it, which is the function's affair.
            if (!(boolean) isUntouched.invoke(instance.get(null), type)) generators.follow(type, null);
        }
        while (!generators.left.isEmpty() && generators.seen.size() < MOST) {
            generators.look(generators.left.pop());
        }
        return generators.found;
    }

    private void note(Object value) {
        if (value != null && seen.add(value)) left.push(value);
    }

    private void look(Object value) {
        // A SecureRandom asks the kernel.
        if (value instanceof Random random && !(value instanceof SecureRandom)) found.add(random);
        Class<?> type = value.getClass();
        if (value instanceof Object[] items) {
            for (Object item : items) note(item);
        }
        for (Class<?> it = type; it != null && !it.isArray(); it = it.getSuperclass()) follow(it, value);
    }

    private void follow(Class<?> type, Object value) {
        Field[] fields;
        try {
            fields = type.getDeclaredFields();
        } catch (LinkageError missing) {
            // Of a library that is not there, and that the function does without.
            return;
        }
        for (Field field : fields) {
            boolean isStatic = Modifier.isStatic(field.getModifiers());
            if (isStatic != (value == null) || field.getType().isPrimitive() || !field.trySetAccessible()) continue;
            try {
                note(field.get(value));
            } catch (IllegalAccessException | LinkageError closed) {
                // Nothing of the function's own.
            }
        }
    }
}
