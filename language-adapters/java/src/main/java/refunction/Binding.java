package refunction;

import java.lang.reflect.Array;
import java.lang.reflect.GenericArrayType;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.lang.reflect.WildcardType;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.TreeSet;

/** JSON values as what a function declares that it takes. */
final class Binding {
    /** What the type variables of the function's classes stand for. */
    private final Map<TypeVariable<?>, Type> variables = new HashMap<>();

    private static final String ARGUMENT = "the argument";

    private final StringBuilder path = new StringBuilder(ARGUMENT);

    Binding(Class<?> function) {
        learn(function);
    }

    private void learn(Type type) {
        if (type == null) return;
        if (type instanceof ParameterizedType parameterized) {
            TypeVariable<?>[] names = ((Class<?>) parameterized.getRawType()).getTypeParameters();
            for (int index = 0; index < names.length; index++) {
                variables.put(names[index], parameterized.getActualTypeArguments()[index]);
            }
        }
        Class<?> raw = raw(type);
        learn(raw.getGenericSuperclass());
        for (Type it : raw.getGenericInterfaces()) learn(it);
    }

    /** A type with its variables replaced, if it is one. */
    private Type resolve(Type type) {
        Type resolved = type;
        while (resolved instanceof TypeVariable<?> variable && variables.containsKey(variable)) {
            resolved = variables.get(variable);
        }
        if (resolved instanceof TypeVariable<?> variable) return variable.getBounds()[0];
        if (resolved instanceof WildcardType wildcard) return resolve(wildcard.getUpperBounds()[0]);
        return resolved;
    }

    Class<?> raw(Type type) {
        Type resolved = resolve(type);
        if (resolved instanceof Class<?> it) return it;
        if (resolved instanceof ParameterizedType it) return (Class<?>) it.getRawType();
        if (resolved instanceof GenericArrayType it) {
            return Array.newInstance(raw(it.getGenericComponentType()), 0).getClass();
        }
        return Object.class;
    }

    Refusal wrong(String what) {
        return new Refusal("BadArgument", path + " " + what);
    }

    private Refusal isNot(Object value, Class<?> type) {
        String kind = "a number";
        if (value instanceof Map) kind = "an object";
        if (value instanceof List) kind = "an array";
        if (value instanceof String) kind = "a string";
        if (value instanceof Boolean) kind = "a boolean";
        return wrong("is " + kind + ", where the function takes " + type.getTypeName());
    }

    /** The argument of a call. */
    Object argument(Object value, Type declared) throws Throwable {
        // Where the one before was refused.
        path.setLength(ARGUMENT.length());
        return bind(value, declared);
    }

    /** A value that stands under this name in the one at hand. */
    Object bindIn(Object name, Object value, Type type) throws Throwable {
        int here = path.length();
        path.append(name instanceof Integer ? "[" + name + "]" : "['" + name + "']");
        Object bound = bind(value, type);
        path.setLength(here);
        return bound;
    }

    private Object bind(Object value, Type declared) throws Throwable {
        Type type = resolve(declared);
        Class<?> raw = raw(type);
        if (raw == Optional.class) {
            return Optional.ofNullable(bind(value, argument(type, 0)));
        }
        if (Gson.isElement(raw)) return Gson.parse(JsonWriter.write(value), raw);
        if (value == null) {
            if (raw.isPrimitive()) return zero(raw);
            return null;
        }
        if (raw == Object.class) return value;
        if (raw == String.class || raw == CharSequence.class) return text(value, raw);
        if (raw == boolean.class || raw == Boolean.class) {
            if (value instanceof Boolean) return value;
            throw isNot(value, raw);
        }
        if (raw == char.class || raw == Character.class) {
            if (value instanceof String it && it.length() == 1) return it.charAt(0);
            throw isNot(value, raw);
        }
        if (raw.isPrimitive() || Number.class.isAssignableFrom(raw)) return number(value, raw);
        if (raw.isEnum()) return constant(value, raw);
        if (raw.isArray()) return array(value, type, raw);
        if (Collection.class.isAssignableFrom(raw) || raw == Iterable.class) return collection(value, type, raw);
        if (Map.class.isAssignableFrom(raw)) return map(value, type, raw);
        if (Beans.isPrintable(raw) && value instanceof String) return parsed((String) value, raw);
        // As what is comparable, or can be serialized.
        if (raw.isInterface() && raw.isInstance(value)) return value;
        if (!(value instanceof Map<?, ?> values)) throw isNot(value, raw);
        learn(type);
        return Beans.of(raw).make(values, this);
    }

    private static Type argument(Type type, int index) {
        if (type instanceof ParameterizedType it) return it.getActualTypeArguments()[index];
        return Object.class;
    }

    private static Object zero(Class<?> primitive) {
        return Array.get(Array.newInstance(primitive, 1), 0);
    }

    private String text(Object value, Class<?> raw) {
        if (value instanceof Map || value instanceof List) throw isNot(value, raw);
        return value.toString();
    }

    private Object number(Object value, Class<?> raw) {
        if (!(value instanceof Number number)) throw isNot(value, raw);
        try {
            BigDecimal exact = new BigDecimal(number.toString());
            if (raw == int.class || raw == Integer.class) return exact.intValueExact();
            if (raw == long.class || raw == Long.class) return exact.longValueExact();
            if (raw == double.class || raw == Double.class) return number.doubleValue();
            if (raw == float.class || raw == Float.class) return number.floatValue();
            if (raw == short.class || raw == Short.class) return exact.shortValueExact();
            if (raw == byte.class || raw == Byte.class) return exact.byteValueExact();
            if (raw == BigInteger.class) return exact.toBigIntegerExact();
            if (raw == BigDecimal.class) return exact;
        } catch (ArithmeticException error) {
            throw wrong("is " + number + ", which is no " + raw.getTypeName());
        }
        if (raw.isInstance(value)) return value;
        throw isNot(value, raw);
    }

    private Object constant(Object value, Class<?> raw) {
        for (Object it : raw.getEnumConstants()) {
            if (((Enum<?>) it).name().equals(value)) return it;
        }
        throw wrong("is '" + value + "', which is no " + raw.getTypeName());
    }

    private Object array(Object value, Type type, Class<?> raw) throws Throwable {
        if (raw == byte[].class && value instanceof String text) {
            try {
                return Base64.getDecoder().decode(text);
            } catch (IllegalArgumentException error) {
                throw wrong("is not base64: " + error.getMessage());
            }
        }
        if (!(value instanceof List<?> items)) throw isNot(value, raw);
        Type component =
                type instanceof GenericArrayType it ? it.getGenericComponentType() : raw.getComponentType();
        Object array = Array.newInstance(raw.getComponentType(), items.size());
        for (int index = 0; index < items.size(); index++) {
            Array.set(array, index, bindIn(index, items.get(index), component));
        }
        return array;
    }

    private Object collection(Object value, Type type, Class<?> raw) throws Throwable {
        if (!(value instanceof List<?> items)) throw isNot(value, raw);
        Collection<Object> collection = make(raw, new ArrayList<>(), new LinkedHashSet<>(), new TreeSet<>(), new ArrayDeque<>());
        for (int index = 0; index < items.size(); index++) {
            collection.add(bindIn(index, items.get(index), argument(type, 0)));
        }
        return collection;
    }

    private Object map(Object value, Type type, Class<?> raw) throws Throwable {
        if (!(value instanceof Map<?, ?> entries)) throw isNot(value, raw);
        Map<Object, Object> map = make(raw, new LinkedHashMap<>(), new TreeMap<>());
        Class<?> key = raw(argument(type, 0));
        for (Map.Entry<?, ?> entry : entries.entrySet()) {
            map.put(key(entry.getKey(), key), bindIn(entry.getKey(), entry.getValue(), argument(type, 1)));
        }
        return map;
    }

    private Object key(Object name, Class<?> wanted) {
        if (wanted.isInstance(name)) return name;
        if (wanted.isEnum()) return constant(name, wanted);
        if (!Number.class.isAssignableFrom(wanted)) throw wrong("has keys that are no " + wanted.getTypeName());
        try {
            return number(new BigDecimal((String) name), wanted);
        } catch (NumberFormatException error) {
            throw wrong("has the key '" + name + "', which is no number");
        }
    }

    private Object parsed(String text, Class<?> raw) throws Throwable {
        for (String name : List.of("parse", "fromString", "create", "of")) {
            for (var method : raw.getMethods()) {
                boolean takesText = method.getParameterCount() == 1
                        && method.getParameterTypes()[0].isAssignableFrom(String.class);
                if (method.getName().equals(name) && Modifier.isStatic(method.getModifiers()) && takesText) {
                    try {
                        return method.invoke(null, text);
                    } catch (InvocationTargetException error) {
                        throw wrong("is '" + text + "', which is no " + raw.getTypeName());
                    }
                }
            }
        }
        throw isNot(text, raw);
    }

    /** The first of these that is of the type, or one of its own making. */
    @SafeVarargs
    @SuppressWarnings("unchecked")
    private <T> T make(Class<?> raw, T... usual) throws Throwable {
        for (T it : usual) {
            if (raw.isInstance(it)) return it;
        }
        try {
            return (T) raw.getConstructor().newInstance();
        } catch (NoSuchMethodException | InstantiationException error) {
            throw wrong("cannot be made a " + raw.getTypeName());
        }
    }
}
