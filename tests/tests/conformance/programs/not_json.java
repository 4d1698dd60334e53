import java.util.Map;

class Main {
    public static Object main(Object args) {
        return Map.of("inside", Thread.currentThread());
    }
}
