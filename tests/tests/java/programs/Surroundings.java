import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

public class Surroundings {
    public static Object main(Map<String, Object> args) throws Exception {
        String name = (String) args.get("variable");
        if (name != null) {
            ProcessBuilder builder = new ProcessBuilder("printenv", name);
            // Without this the child gets what C knows, not what Java does.
            builder.environment();
            Process child = builder.start();
            String printed = new String(child.getInputStream().readAllBytes()).strip();
            child.waitFor();
            return Arrays.asList(System.getenv(name), System.getenv().get(name), printed);
        }
        String text = (String) args.get("print");
        if (text != null) {
            System.out.print("out ");
            System.out.println(text);
            System.out.printf("two%nlines%n");
            System.err.print("err " + text);
        }
        String resource = (String) args.get("resource");
        if (resource != null) {
            try (var stream = Surroundings.class.getResourceAsStream(resource)) {
                return stream == null ? null : new String(stream.readAllBytes());
            }
        }
        String type = (String) args.get("class");
        if (type != null) {
            try {
                return Class.forName(type).getName();
            } catch (ClassNotFoundException error) {
                return null;
            }
        }
        return List.of("a", "b").stream().collect(Collectors.joining());
    }
}
