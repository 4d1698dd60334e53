package refunction;

import java.lang.reflect.Field;
import java.util.Map;

/**
 * The variables that System.getenv and ProcessBuilder.environment show. Java keeps a copy
 * of its own, which nothing is meant to change; what C code reads is left alone.
 */
final class Environment {
    private final Map<String, String> variables;

    @SuppressWarnings("unchecked")
    Environment() throws ReflectiveOperationException {
        Map<String, String> shown = System.getenv();
        // Behind the view that refuses to be written to.
        Field behind = Class.forName("java.util.Collections$UnmodifiableMap").getDeclaredField("m");
        behind.setAccessible(true);
        variables = (Map<String, String>) behind.get(shown);
    }

    void set(Map<String, String> more) {
        for (Map.Entry<String, String> it : more.entrySet()) {
            String name = it.getKey();
            if (name.isEmpty() || name.indexOf('=') >= 0 || name.indexOf('\0') >= 0) {
                throw new Refusal("ValueError", "'" + name + "' cannot be the name of an environment variable");
            }
            if (it.getValue().indexOf('\0') >= 0) {
                throw new Refusal("ValueError", "the environment variable " + name + " holds a NUL");
            }
            variables.put(name, it.getValue());
        }
    }
}
