import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Set;

public class Signatures {
    public record Point(int x, long y, Optional<String> label) {}

    public static class Base<T> {
        public List<T> generic(List<T> items) {
            // Of the declared type, not merely printed like it.
            for (Object item : items) if (!(item instanceof Point)) throw new ClassCastException("" + item.getClass());
            return items;
        }
    }

    public static class Points extends Base<Point> {}

    public static String text(String text) {
        return text + "!";
    }

    public static int number(int number) {
        return number + 1;
    }

    public static double fraction(Double number) {
        return number / 2;
    }

    public static boolean not(boolean it) {
        return !it;
    }

    public static BigDecimal exact(BigDecimal number) {
        return number.add(BigDecimal.ONE);
    }

    public static BigInteger large(BigInteger number) {
        return number.add(BigInteger.ONE);
    }

    public static OptionalInt maybe(List<Integer> numbers) {
        return numbers.stream().mapToInt(it -> it).max();
    }

    public static <T extends Comparable<T>> T least(List<T> items) {
        return items.stream().min(Comparable::compareTo).orElse(null);
    }

    public static LocalDate dayAfter(LocalDate day) {
        return day.plusDays(1);
    }

    public static int sum(int[] numbers) {
        return Arrays.stream(numbers).sum();
    }

    public static Set<String> set(Set<String> words) {
        return words;
    }

    public static Point point(Point point) {
        return new Point(point.y() > 5 ? 1 : 0, point.x(), point.label());
    }

    public static Map<Integer, Point> points(Map<Integer, Point> points) {
        for (Map.Entry<Integer, Point> it : points.entrySet()) if (it.getKey() + it.getValue().x() < 0) return null;
        return points;
    }

    public static String nothing() {
        return "called";
    }

    public static void silent(Object argument) {}

    public String instance(Map<String, Object> event, Map<String, Object> context) {
        return event.get("a") + " " + context.get("awsRequestId");
    }

    public static List<Object> kinds(List<Object> values) {
        List<Object> kinds = new ArrayList<>();
        for (Object value : values) kinds.add(value == null ? null : value.getClass().getSimpleName());
        return kinds;
    }
}
