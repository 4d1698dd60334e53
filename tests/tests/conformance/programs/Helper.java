package parts;

import java.util.List;

public class Helper {
    public static String join(List<String> words) {
        return String.join("-", words);
    }
}
