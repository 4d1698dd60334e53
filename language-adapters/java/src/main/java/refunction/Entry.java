package refunction;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.Constructor;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Type;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;

/** The method that is a function, and how it wants to be called. */
final class Entry {
    private final Method method;
    private final Object target;
    private final Binding binding;
    private final Class<?>[] types;
    /** With their type arguments, which are parsed only once. */
    private final Type[] genericTypes;
    private final boolean isStream;
    private final boolean takesContext;

    private Entry(Class<?> type, Method method) throws Throwable {
        this.method = method;
        method.setAccessible(true);
        types = method.getParameterTypes();
        genericTypes = method.getGenericParameterTypes();
        binding = new Binding(type);
        isStream = takesStreams(types);
        takesContext = takesContext(types);
        target = Modifier.isStatic(method.getModifiers()) ? null : make(type);
        prepare();
    }

    /**
     * Has the class initialized and the method ready to be called, so that the first call
     * has only the function to run: with the wrong number of arguments it gets no further.
     */
    private void prepare() throws Throwable {
        try {
            method.invoke(target, new Object[types.length == 0 ? 1 : 0]);
        } catch (IllegalArgumentException expected) {
            // No argument was looked at.
        }
    }

    /** One of the methods of these names; the first that there is. */
    static Entry find(Class<?> type, String... names) throws Throwable {
        for (String name : names) {
            List<Method> found = new ArrayList<>();
            for (Method method : methods(type)) {
                boolean fits = method.getParameterCount() <= (takesStreams(method.getParameterTypes()) ? 3 : 2);
                if (method.getName().equals(name) && !method.isBridge() && fits) found.add(method);
            }
            // As Lambda has it: one that takes a context goes before the others.
            found.sort(Comparator.comparing((Method it) -> !takesContext(it.getParameterTypes()))
                    .thenComparing(it -> Arrays.asList(it.getParameterTypes()).contains(String[].class))
                    .thenComparing(it -> -it.getParameterCount())
                    .thenComparing(Method::isSynthetic));
            if (!found.isEmpty()) return new Entry(type, found.get(0));
        }
        String wanted = String.join(" or ", names);
        throw new Refusal("EntryNotFound", type.getName() + " has no method " + wanted + "; it has " + listing(type));
    }

    /** The object that it is called on, if there is one. */
    Object target() {
        return target;
    }

    private static List<Method> methods(Class<?> type) {
        List<Method> methods = new ArrayList<>(List.of(type.getMethods()));
        for (Method method : type.getDeclaredMethods()) {
            if (!Modifier.isPublic(method.getModifiers())) methods.add(method);
        }
        return methods;
    }

    private static String listing(Class<?> type) {
        TreeSet<String> names = new TreeSet<>();
        for (Method method : methods(type)) {
            if (method.getDeclaringClass() != Object.class && !method.isSynthetic()) names.add(method.getName());
        }
        return names.isEmpty() ? "none" : String.join(", ", names);
    }

    private static boolean takesStreams(Class<?>[] types) {
        return types.length >= 2 && types[0] == InputStream.class && types[1] == OutputStream.class;
    }

    private static boolean takesContext(Class<?>[] types) {
        if (types.length == 0 || takesStreams(types) && types.length < 3) return false;
        Class<?> last = types[types.length - 1];
        return Context.isContext(last) || types.length > 1 && last.isAssignableFrom(java.util.LinkedHashMap.class);
    }

    private static Object make(Class<?> type) throws Throwable {
        try {
            Constructor<?> constructor = type.getDeclaredConstructor();
            constructor.setAccessible(true);
            return constructor.newInstance();
        } catch (NoSuchMethodException error) {
            throw new Refusal("EntryNotFound", type.getName() + " has no constructor without arguments");
        } catch (InstantiationException error) {
            throw new Refusal("EntryNotFound", type.getName() + " is abstract");
        } catch (InvocationTargetException error) {
            throw error.getCause();
        }
    }

    /** Calls it with this argument, as JSON text; gives the result as JSON text. */
    String call(Object argument, String id, Long deadline, Map<?, ?> caller) throws Throwable {
        Object[] arguments = new Object[types.length];
        int given = types.length;
        if (takesContext) {
            given--;
            arguments[given] = Context.of(types[given], id, deadline, caller);
        }
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        if (isStream) {
            arguments[0] = new ByteArrayInputStream(JsonWriter.write(argument).getBytes(StandardCharsets.UTF_8));
            arguments[1] = output;
        } else if (given == 1) {
            arguments[0] = types[0] == InputStream.class
                    ? new ByteArrayInputStream(JsonWriter.write(argument).getBytes(StandardCharsets.UTF_8))
                    : binding.argument(argument, genericTypes[0]);
        } else if (given == 2) {
            throw new Refusal("EntryNotFound", "the second parameter of " + method + " is neither a context nor an OutputStream");
        }
        Object result;
        try {
            result = method.invoke(target, arguments);
        } catch (InvocationTargetException error) {
            throw error.getCause();
        }
        return isStream ? written(output) : JsonWriter.write(result);
    }

    private static String written(ByteArrayOutputStream output) {
        String text = output.toString(StandardCharsets.UTF_8);
        if (text.isBlank()) return "null";
        try {
            return JsonWriter.write(JsonReader.read(text));
        } catch (Refusal refusal) {
            throw new Refusal("NotJson", "what was written is not JSON: " + refusal.getMessage());
        }
    }
}
