import java.util.ArrayList;
import java.util.List;
import java.util.Map;

public class Failing {
    static class Hostile extends RuntimeException {
        @Override
        public String getMessage() {
            throw new IllegalStateException("no message");
        }

        @Override
        public StackTraceElement[] getStackTrace() {
            throw new IllegalStateException("no stack");
        }
    }

    static class Circle {
        public Circle getSelf() {
            return this;
        }
    }

    static int deep(int depth) {
        return deep(depth + 1) + 1;
    }

    static void inner() {
        List.of("a").forEach(it -> {
            throw new IllegalArgumentException("refused: " + it);
        });
    }

    public static Object main(Map<String, Object> args) throws Exception {
        switch ((String) args.get("how")) {
            case "exception" -> inner();
            case "cause" -> throw new RuntimeException("outer", new java.io.IOException("inner"));
            case "suppressed" -> {
                Exception main = new Exception("main");
                main.addSuppressed(new java.io.IOException("beside"));
                throw main;
            }
            case "no message" -> throw new Exception();
            case "hostile" -> throw new Hostile();
            case "recursion" -> deep(0);
            case "memory" -> {
                List<byte[]> kept = new ArrayList<>();
                while (true) kept.add(new byte[1 << 20]);
            }
            case "not JSON" -> {
                return Map.of("inside", List.of(new Thread()));
            }
            case "infinite" -> {
                return List.of(Double.POSITIVE_INFINITY);
            }
            case "circle" -> {
                return new Circle();
            }
            case "error" -> throw new AssertionError("asserted");
            case "exit" -> System.exit(3);
            case "halt" -> Runtime.getRuntime().halt(4);
            case "interrupt" -> Thread.currentThread().interrupt();
            case "interrupted" -> {
                return Thread.interrupted();
            }
            default -> {}
        }
        return "served";
    }
}
