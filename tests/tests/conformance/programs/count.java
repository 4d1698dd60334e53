import java.util.List;

class Main {
    static int calls;

    public static Object main(Object args) {
        calls += 1;
        return List.of(NUMBER, args, calls);
    }
}
