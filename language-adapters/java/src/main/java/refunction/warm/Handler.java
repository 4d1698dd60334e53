package refunction.warm;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.util.List;
import java.util.Map;

/** Has the other shapes that a function can have. */
public final class Handler {
    /** As a handler's context may look. */
    public interface Context {
        /** The request's. */
        String getAwsRequestId();

        /** What is left. */
        int getRemainingTimeInMillis();
    }

    /** An argument with properties. */
    public static final class Bean {
        /** A field. */
        public double number;

        private String name;

        public String getName() {
            return name;
        }

        public void setName(String name) {
            this.name = name;
        }
    }

    /** An answer with components. */
    public record Answer(String name, double number, List<String> words) {}

    public static Answer bean(Bean bean) {
        return new Answer(bean.getName(), bean.number, List.of("a"));
    }

    public void streams(InputStream input, OutputStream output, Context context) throws IOException {
        context.getRemainingTimeInMillis();
        input.transferTo(output);
    }

    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        return Map.of("id", context.getAwsRequestId(), "event", event);
    }
}
