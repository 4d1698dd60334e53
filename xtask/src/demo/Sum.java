import java.util.List;
import java.util.Map;

public class Sum {
    public static Map<String, Object> main(Map<String, List<Number>> args) {
        int sum = args.get("numbers").stream().mapToInt(Number::intValue).sum();
        return Map.of("sum", sum);
    }
}
