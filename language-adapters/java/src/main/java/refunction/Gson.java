package refunction;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;

/** Google's JSON classes, if a function brings them: OpenWhisk's actions expect them. */
final class Gson {
    private static final String PACKAGE = "com.google.gson.";

    private Gson() {}

    /** True if this is a class of theirs for a JSON value. */
    static boolean isElement(Class<?> type) {
        for (Class<?> it = type; it != null; it = it.getSuperclass()) {
            if (it.getName().equals(PACKAGE + "JsonElement")) return true;
        }
        return false;
    }

    /** The value that this text is, of their type. */
    static Object parse(String text, Class<?> wanted) throws Throwable {
        Class<?> parser = Class.forName(PACKAGE + "JsonParser", true, wanted.getClassLoader());
        Object element;
        try {
            Method parse = parser.getMethod("parse", String.class);
            element = parse.invoke(parser.getConstructor().newInstance(), text);
        } catch (InvocationTargetException error) {
            throw error.getCause();
        }
        if (!wanted.isInstance(element)) {
            throw new Refusal("BadArgument", "the argument is not a " + wanted.getSimpleName());
        }
        return element;
    }
}
