package refunction;

import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.WeakHashMap;

/**
 * A class whose objects stand for JSON objects: a record, or one with getters, setters
 * and public fields.
 */
final class Beans {
    private static final Map<Class<?>, Beans> KNOWN = new WeakHashMap<>();

    private final Class<?> type;
    private final Map<String, Method> getters = new TreeMap<>();
    private final Map<String, Method> setters = new TreeMap<>();
    private final Map<String, Field> fields = new LinkedHashMap<>();

    static Beans of(Class<?> type) {
        return KNOWN.computeIfAbsent(type, Beans::new);
    }

    /** Types of the JDK's that are best known by what they print. */
    static boolean isPrintable(Class<?> type) {
        return type.getName().startsWith("java.time.")
                || java.util.UUID.class == type
                || java.net.URI.class == type
                || java.net.URL.class == type
                || java.nio.file.Path.class.isAssignableFrom(type);
    }

    private Beans(Class<?> type) {
        this.type = type;
        // The JDK's own are not made to be read like that, and cannot be.
        if (type.getModule().isNamed() && type.getClassLoader() == null) return;
        if (type.isRecord()) {
            for (RecordComponent component : type.getRecordComponents()) {
                Method accessor = component.getAccessor();
                accessor.setAccessible(true);
                getters.put(component.getName(), accessor);
            }
            return;
        }
        for (Method method : type.getMethods()) {
            if (Modifier.isStatic(method.getModifiers()) || method.isBridge()) continue;
            if (method.getDeclaringClass() == Object.class) continue;
            String name = method.getName();
            int count = method.getParameterCount();
            if (count == 0 && method.getReturnType() != void.class) {
                if (name.startsWith("get")) put(getters, name.substring(3), method);
                if (name.startsWith("is")) put(getters, name.substring(2), method);
            } else if (count == 1 && name.startsWith("set")) {
                put(setters, name.substring(3), method);
            }
        }
        for (Field field : type.getFields()) {
            if (Modifier.isStatic(field.getModifiers())) continue;
            field.setAccessible(true);
            fields.put(field.getName(), field);
        }
    }

    private static void put(Map<String, Method> methods, String capitalised, Method method) {
        if (capitalised.isEmpty()) return;
        // What begins with two capitals is an abbreviation (JavaBeans, 8.8).
        boolean isAbbreviation = capitalised.length() > 1 && Character.isUpperCase(capitalised.charAt(1));
        String name =
                isAbbreviation ? capitalised : Character.toLowerCase(capitalised.charAt(0)) + capitalised.substring(1);
        method.setAccessible(true);
        methods.put(name, method);
    }

    boolean isReadable() {
        return type.isRecord() || !getters.isEmpty() || !fields.isEmpty();
    }

    Map<String, Object> read(Object bean) {
        Map<String, Object> values = new LinkedHashMap<>();
        try {
            for (Map.Entry<String, Method> getter : getters.entrySet()) {
                values.put(getter.getKey(), getter.getValue().invoke(bean));
            }
            for (Map.Entry<String, Field> field : fields.entrySet()) {
                values.putIfAbsent(field.getKey(), field.getValue().get(bean));
            }
        } catch (InvocationTargetException error) {
            throw Failure.rethrow(error.getCause());
        } catch (IllegalAccessException error) {
            throw new Refusal("NotJson", error.getMessage());
        }
        return values;
    }

    Object make(Map<?, ?> values, Binding binding) throws Throwable {
        try {
            return type.isRecord() ? makeRecord(values, binding) : makeBean(values, binding);
        } catch (InvocationTargetException error) {
            throw error.getCause();
        }
    }

    private Object makeRecord(Map<?, ?> values, Binding binding) throws Throwable {
        RecordComponent[] components = type.getRecordComponents();
        Class<?>[] types = new Class<?>[components.length];
        Object[] arguments = new Object[components.length];
        for (int index = 0; index < components.length; index++) {
            types[index] = components[index].getType();
            String name = components[index].getName();
            arguments[index] = binding.bindIn(name, values.get(name), components[index].getGenericType());
        }
        Constructor<?> constructor = type.getDeclaredConstructor(types);
        constructor.setAccessible(true);
        return constructor.newInstance(arguments);
    }

    private Object makeBean(Map<?, ?> values, Binding binding) throws Throwable {
        Constructor<?> constructor;
        try {
            constructor = type.getDeclaredConstructor();
        } catch (NoSuchMethodException error) {
            throw binding.wrong("cannot be made: " + type.getName() + " has no constructor without arguments");
        }
        if (Modifier.isAbstract(type.getModifiers())) {
            throw binding.wrong("cannot be made: " + type.getName() + " is abstract");
        }
        constructor.setAccessible(true);
        Object bean = constructor.newInstance();
        for (Map.Entry<?, ?> entry : values.entrySet()) {
            String name = (String) entry.getKey();
            Method setter = setters.get(name);
            Field field = fields.get(name);
            // What it has no place for is no error: events have more than a function needs.
            if (setter != null) {
                Type wanted = setter.getGenericParameterTypes()[0];
                setter.invoke(bean, binding.bindIn(name, entry.getValue(), wanted));
            } else if (field != null && !Modifier.isFinal(field.getModifiers())) {
                field.set(bean, binding.bindIn(name, entry.getValue(), field.getGenericType()));
            }
        }
        return bean;
    }
}
