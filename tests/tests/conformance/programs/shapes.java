import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

class Main {
    public static Object main(String args) {
        Map<String, Object> shapes = new HashMap<>();
        shapes.put("null", null);
        shapes.put("text", "");
        shapes.put("list", List.of());
        shapes.put("object", Map.of());
        shapes.put("false", false);
        shapes.put("zero", 0);
        shapes.put("fraction", 0.5);
        shapes.put("large", 9007199254740991L);
        shapes.put("nested", List.of(List.of(List.of(Map.of("a", Arrays.asList(null, List.of(true)))))));
        return shapes.get(args);
    }
}
