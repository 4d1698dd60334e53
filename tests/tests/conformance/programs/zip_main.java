import java.util.List;
import parts.Helper;

class Main {
    public static String main(List<String> args) {
        return Helper.join(args);
    }
}
