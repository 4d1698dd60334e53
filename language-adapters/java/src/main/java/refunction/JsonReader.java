package refunction;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * JSON text as maps, lists, strings, booleans, numbers and nulls. A whole number is the
 * narrowest of Integer, Long and BigInteger, any other a Double if one can hold it.
 */
final class JsonReader {
    private final String text;
    private int at;

    private JsonReader(String text) {
        this.text = text;
    }

    static Object read(String text) {
        JsonReader reader = new JsonReader(text);
        Object value = reader.value();
        reader.skipSpace();
        if (reader.at < text.length()) throw reader.wrong("something follows the value");
        return value;
    }

    private Refusal wrong(String what) {
        return new Refusal("BadJson", what + " at " + at);
    }

    private void skipSpace() {
        while (at < text.length()) {
            char c = text.charAt(at);
            if (c != ' ' && c != '\n' && c != '\r' && c != '\t') return;
            at++;
        }
    }

    /** The next character that is no space. */
    private char peek() {
        skipSpace();
        if (at == text.length()) throw wrong("the text ends");
        return text.charAt(at);
    }

    private Object value() {
        return switch (peek()) {
            case '{' -> object();
            case '[' -> array();
            case '"' -> string();
            case 't' -> word("true", true);
            case 'f' -> word("false", false);
            case 'n' -> word("null", null);
            default -> number();
        };
    }

    private Object word(String word, Object value) {
        if (!text.startsWith(word, at)) throw wrong("no value");
        at += word.length();
        return value;
    }

    private Map<String, Object> object() {
        Map<String, Object> map = new LinkedHashMap<>();
        at++;
        if (peek() == '}') {
            at++;
            return map;
        }
        while (true) {
            if (peek() != '"') throw wrong("no name");
            String name = string();
            if (peek() != ':') throw wrong("no colon");
            at++;
            map.put(name, value());
            if (isLast('}')) return map;
        }
    }

    private List<Object> array() {
        List<Object> list = new ArrayList<>();
        at++;
        if (peek() == ']') {
            at++;
            return list;
        }
        while (true) {
            list.add(value());
            if (isLast(']')) return list;
        }
    }

    private boolean isLast(char closing) {
        char c = peek();
        if (c != closing && c != ',') throw wrong("no comma");
        at++;
        return c == closing;
    }

    private String string() {
        int start = ++at;
        while (at < text.length()) {
            char c = text.charAt(at);
            if (c == '"') return text.substring(start, at++);
            if (c == '\\') return escaped(start);
            at++;
        }
        throw wrong("a string does not end");
    }

    /** A string whose first escape is here. */
    private String escaped(int start) {
        StringBuilder built = new StringBuilder(text.length() - start < 256 ? 64 : 256);
        built.append(text, start, at);
        while (at < text.length()) {
            char c = text.charAt(at++);
            if (c == '"') return built.toString();
            built.append(c == '\\' ? escape() : c);
        }
        throw wrong("a string does not end");
    }

    private char escape() {
        if (at == text.length()) throw wrong("a string does not end");
        char c = text.charAt(at++);
        return switch (c) {
            case '"', '\\', '/' -> c;
            case 'b' -> '\b';
            case 'f' -> '\f';
            case 'n' -> '\n';
            case 'r' -> '\r';
            case 't' -> '\t';
            case 'u' -> {
                if (at + 4 > text.length()) throw wrong("a string does not end");
                int code = 0;
                for (int end = at + 4; at < end; at++) {
                    int digit = Character.digit(text.charAt(at), 16);
                    if (digit < 0) throw wrong("no digit");
                    code = code << 4 | digit;
                }
                yield (char) code;
            }
            default -> throw wrong("no escape");
        };
    }

    private Object number() {
        int start = at;
        boolean isWhole = true;
        scan:
        for (; at < text.length(); at++) {
            switch (text.charAt(at)) {
                case '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '-' -> {}
                case '+', '.', 'e', 'E' -> isWhole = false;
                default -> {
                    break scan;
                }
            }
        }
        String digits = text.substring(start, at);
        try {
            if (!isWhole) return fraction(digits);
            if (digits.length() < 19) {
                long number = Long.parseLong(digits);
                if (number == (int) number) return (int) number;
                return number;
            }
            BigInteger number = new BigInteger(digits);
            if (number.bitLength() < Long.SIZE) return number.longValue();
            return number;
        } catch (NumberFormatException error) {
            at = start;
            throw wrong("no value");
        }
    }

    private static Object fraction(String digits) {
        double number = Double.parseDouble(digits);
        if (Double.isInfinite(number)) return new BigDecimal(digits);
        return number;
    }
}
