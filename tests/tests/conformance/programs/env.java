import java.util.List;

class Main {
    public static List<String> main(List<String> names) {
        return names.stream().map(System::getenv).toList();
    }
}
