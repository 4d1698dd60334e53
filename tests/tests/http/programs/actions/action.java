// Unicode in the source: ünïcødé 😀
import java.util.List;
import java.util.Map;

public class Main {
    public static Object main(Map<String, Object> args) throws Exception {
        switch (args.getOrDefault("op", "").toString()) {
            case "raise": throw new IllegalArgumentException("no good");
            case "text": return "a text";
            case "print":
                System.out.println("ünïcødé 😀");
                System.err.println("ünïcødé 😀");
                break;
            case "sleep":
                Thread.sleep(100_000);
                break;
            case "env":
                return Map.of("found", ((List<?>) args.get("names")).stream().map(name -> System.getenv((String) name)).toList());
        }
        return Map.of("args", args);
    }

    public static Map<String, Boolean> another(Map<String, Object> args) {
        return Map.of("another", true);
    }
}
