package refunction;

import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;

/** Whatever a function throws, in words. */
final class Failure {
    private static final int TEXT_LIMIT = 64 * 1024;

    private Failure() {}

    /** As the supervisor wants to read it; a method of the thrown may throw in turn. */
    static String describe(Throwable thrown) {
        Map<String, Object> told = new LinkedHashMap<>();
        if (thrown instanceof Refusal refusal) {
            told.put("error_type", refusal.kind);
            told.put("message", bounded(refusal.getMessage()));
            told.put("stack", "");
        } else {
            told.put("error_type", bounded(thrown.getClass().getName()));
            told.put("message", bounded(message(thrown)));
            told.put("stack", bounded(stack(thrown)));
        }
        return JsonWriter.write(told);
    }

    private static String bounded(String text) {
        return text.length() > TEXT_LIMIT ? text.substring(0, TEXT_LIMIT) + " …" : text;
    }

    private static String message(Throwable thrown) {
        try {
            String message = thrown.getMessage();
            return message == null ? "" : message;
        } catch (Throwable error) {
            return "its message cannot be told: " + error.getClass().getName();
        }
    }

    /** The tenant's own lines, of the causes too. */
    private static String stack(Throwable thrown) {
        StringBuilder text = new StringBuilder();
        Set<Throwable> seen = Collections.newSetFromMap(new IdentityHashMap<>());
        try {
            for (Throwable it = thrown; it != null && seen.add(it); it = it.getCause()) {
                if (it != thrown) {
                    text.append("Caused by: ").append(it.getClass().getName());
                    text.append(": ").append(message(it)).append('\n');
                }
                frames(it, "\tat ", text);
                for (Throwable other : it.getSuppressed()) {
                    text.append("\tSuppressed: ").append(other.getClass().getName());
                    text.append(": ").append(message(other)).append('\n');
                    frames(other, "\t\tat ", text);
                }
                if (text.length() > TEXT_LIMIT) return text.toString();
            }
        } catch (Throwable error) {
            text.append("its stack cannot be told: ").append(error.getClass().getName()).append('\n');
        }
        return text.toString();
    }

    private static void frames(Throwable thrown, String at, StringBuilder text) {
        for (StackTraceElement frame : thrown.getStackTrace()) {
            if (!FunctionLoader.NAME.equals(frame.getClassLoaderName())) continue;
            text.append(at).append(frame.getClassName()).append('.').append(frame.getMethodName());
            text.append('(').append(place(frame)).append(")\n");
            if (text.length() > TEXT_LIMIT) return;
        }
    }

    private static String place(StackTraceElement frame) {
        if (frame.isNativeMethod()) return "Native Method";
        if (frame.getFileName() == null) return "Unknown Source";
        return frame.getLineNumber() < 0 ? frame.getFileName() : frame.getFileName() + ":" + frame.getLineNumber();
    }

    /** Throws anything, declared or not. */
    @SuppressWarnings("unchecked")
    static <T extends Throwable> RuntimeException rethrow(Throwable thrown) throws T {
        throw (T) thrown;
    }
}
