package refunction.warm;

import java.util.Map;

/** Does nothing of its own: what is left is the adapter's way. */
public final class Plain {
    public static Map<String, Object> main(Map<String, Object> event) {
        return event;
    }
}
