package refunction;

import java.lang.reflect.Field;
import java.util.HashMap;
import java.util.Map;

/**
 * The variables that System.getenv and ProcessBuilder.environment show. Java keeps a copy
 * of its own, which nothing is meant to change; what C code reads is left alone.
 */
final class Environment {
    private final Map<String, String> variables;

    /**
     * What the variables of the last call were before it, null where there were none: where
     * nothing is put back between two calls, its trace would be taken for the next one's.
     */
    private final Map<String, String> beforeCall = new HashMap<>();

    @SuppressWarnings("unchecked")
    Environment() throws ReflectiveOperationException {
        Map<String, String> shown = System.getenv();
        // Behind the view that refuses to be written to.
        Field behind = Class.forName("java.util.Collections$UnmodifiableMap").getDeclaredField("m");
        behind.setAccessible(true);
        variables = (Map<String, String>) behind.get(shown);
    }

    /** Takes back the variables of the call before, and sets these. */
    void setForCall(Map<String, String> more) {
        for (Map.Entry<String, String> it : beforeCall.entrySet()) {
            if (it.getValue() == null) {
                variables.remove(it.getKey());
            } else {
                variables.put(it.getKey(), it.getValue());
            }
        }
        beforeCall.clear();
        for (String name : more.keySet()) {
            beforeCall.put(name, variables.get(name));
        }
        set(more);
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
