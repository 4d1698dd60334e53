import java.nio.file.Files;
import java.nio.file.Path;
import java.security.Security;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.logging.LogManager;
import java.util.regex.Pattern;

public class TenantB {
    // Written so that this source, in memory itself, is not what it finds.
    static final Pattern CARD = Pattern.compile("49[2]9 0110 2233 4455");

    public static Map<String, Object> main(Map<String, Object> args) throws Exception {
        Path file = Path.of("/tmp/card");
        Map<String, String> found = new LinkedHashMap<>();
        found.put("system property", System.getProperties().toString());
        found.put("file", Files.exists(file) ? Files.readString(file) : "");
        found.put("security property", String.valueOf(Security.getProperty("card")));
        found.put("thread", Thread.getAllStackTraces().keySet().toString());
        found.put("logger", Collections.list(LogManager.getLogManager().getLoggerNames()).toString());
        Map<String, Object> places = new LinkedHashMap<>();
        found.forEach((place, text) -> places.put(place, CARD.matcher(text).find()));
        return Map.of("places", places);
    }
}
