import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Leaves what it can, looks for what is left, and takes more memory than there is. */
public class Main {
    public static Object main(Map<String, Object> args) throws IOException {
        Map<String, Object> answer = new HashMap<>();
        @SuppressWarnings("unchecked")
        List<String> places = (List<String>) args.get("places");
        if (args.get("op").equals("leave")) {
            System.setProperty("kept", "hunter2");
            List<String> refused = new ArrayList<>();
            for (String place : places) {
                try {
                    Path deep = Files.createDirectories(Path.of(place, "deep", "er"));
                    Files.writeString(deep.resolve("file"), "hunter2");
                    deep.getParent().toFile().setExecutable(false);
                } catch (IOException error) {
                    refused.add(place);
                }
            }
            new ProcessBuilder("/bin/sleep", "1000").start();
            answer.put("refused", refused);
            answer.put("status", Files.readString(Path.of("/proc/self/status")));
            return answer;
        }
        if (args.get("op").equals("look")) {
            List<String> found = new ArrayList<>();
            for (String place : places) {
                found.addAll(List.of(new File(place).list()));
            }
            answer.put("found", found);
            answer.put("kept", System.getProperty("kept"));
            return answer;
        }
        List<byte[]> held = new ArrayList<>();
        while (true) {
            byte[] more = new byte[1 << 20];
            Arrays.fill(more, (byte) 1);
            held.add(more);
        }
    }
}
