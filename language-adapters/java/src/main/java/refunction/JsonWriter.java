package refunction;

import java.lang.reflect.Array;
import java.util.Base64;
import java.util.Iterator;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.OptionalLong;

/** Whatever a function returns, as JSON text. */
final class JsonWriter {
    /** Deeper is a circle, or as good as one. */
    private static final int DEEPEST = 1000;

    private final StringBuilder text = new StringBuilder();
    private int depth;
    /** Where in the result the writer is, for the message. */
    private final StringBuilder path = new StringBuilder("result");

    static String write(Object value) {
        JsonWriter writer = new JsonWriter();
        writer.value(value);
        return writer.text.toString();
    }

    private Refusal wrong(String what) {
        return new Refusal("NotJson", "the result is not JSON: " + path + " " + what);
    }

    private void value(Object value) {
        if (value == null) {
            text.append("null");
        } else if (value instanceof CharSequence || value instanceof Character || value instanceof Enum) {
            string(value instanceof Enum<?> constant ? constant.name() : value.toString());
        } else if (value instanceof Boolean) {
            text.append(value);
        } else if (value instanceof Number) {
            number((Number) value);
        } else if (value instanceof Optional<?> optional) {
            value(optional.orElse(null));
        } else if (value instanceof OptionalInt optional) {
            value(optional.isPresent() ? optional.getAsInt() : null);
        } else if (value instanceof OptionalLong optional) {
            value(optional.isPresent() ? optional.getAsLong() : null);
        } else if (value instanceof OptionalDouble optional) {
            value(optional.isPresent() ? optional.getAsDouble() : null);
        } else if (value instanceof byte[] bytes) {
            string(Base64.getEncoder().encodeToString(bytes));
        } else if (Gson.isElement(value.getClass())) {
            // It prints itself as JSON; it is read again because it is a tenant's word.
            value(JsonReader.read(value.toString()));
        } else {
            if (++depth > DEEPEST) {
                path.setLength(6);
                throw wrong("is nested more than " + DEEPEST + " deep, or contains itself");
            }
            composite(value);
            depth--;
        }
    }

    private void composite(Object value) {
        if (value instanceof Map<?, ?> map) {
            object(map);
        } else if (value instanceof Iterable<?> items && !(value instanceof java.nio.file.Path)) {
            elements(items.iterator());
        } else if (value.getClass().isArray()) {
            elements(new Iterator<>() {
                private int next;

                @Override
                public boolean hasNext() {
                    return next < Array.getLength(value);
                }

                @Override
                public Object next() {
                    return Array.get(value, next++);
                }
            });
        } else if (Beans.isPrintable(value.getClass())) {
            string(value.toString());
        } else {
            Beans bean = Beans.of(value.getClass());
            if (!bean.isReadable()) throw wrong("is of type " + value.getClass().getName());
            object(bean.read(value));
        }
    }

    private void object(Map<?, ?> map) {
        text.append('{');
        boolean isFirst = true;
        int here = path.length();
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            if (!isFirst) text.append(',');
            isFirst = false;
            Object key = entry.getKey();
            if (key == null) throw wrong("has a key that is null");
            path.append("['").append(key).append("']");
            string(key instanceof Enum<?> constant ? constant.name() : key.toString());
            text.append(':');
            value(entry.getValue());
            path.setLength(here);
        }
        text.append('}');
    }

    private void elements(Iterator<?> items) {
        text.append('[');
        int here = path.length();
        for (int index = 0; items.hasNext(); index++) {
            if (index > 0) text.append(',');
            path.append('[').append(index).append(']');
            value(items.next());
            path.setLength(here);
        }
        text.append(']');
    }

    private void number(Number number) {
        double approximate = number.doubleValue();
        boolean isFloating = number instanceof Double || number instanceof Float;
        if (isFloating && (Double.isNaN(approximate) || Double.isInfinite(approximate))) {
            throw wrong("is " + number);
        }
        text.append(number);
    }

    private void string(String string) {
        text.append('"');
        int written = 0;
        for (int index = 0; index < string.length(); index++) {
            char c = string.charAt(index);
            boolean isPlain = c >= ' ' && c != '"' && c != '\\' && !Character.isSurrogate(c);
            if (isPlain) continue;
            if (Character.isHighSurrogate(c)
                    && index + 1 < string.length()
                    && Character.isLowSurrogate(string.charAt(index + 1))) {
                index++;
                continue;
            }
            text.append(string, written, index);
            written = index + 1;
            switch (c) {
                case '"' -> text.append("\\\"");
                case '\\' -> text.append("\\\\");
                case '\n' -> text.append("\\n");
                case '\r' -> text.append("\\r");
                case '\t' -> text.append("\\t");
                // A surrogate without its other half is no UTF-8.
                default -> text.append(Character.isSurrogate(c) ? "\ufffd" : String.format("\\u%04x", (int) c));
            }
        }
        text.append(string, written, string.length()).append('"');
    }
}
