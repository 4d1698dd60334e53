import java.nio.file.Files;
import java.nio.file.Path;
import java.security.Security;
import java.util.Map;
import java.util.concurrent.locks.LockSupport;
import java.util.logging.Logger;

public class TenantA {
    static Logger kept;

    public static Map<String, Object> main(Map<String, Object> args) throws Exception {
        if (args == null) {
            return TenantB.main(args);                     // tenant B's code
        }
        String card = (String) args.get("card");
        System.setProperty("card", card);                  // a system property
        Files.writeString(Path.of("/tmp/card"), card);     // a file
        Security.setProperty("card", card);                // a security property
        new Thread(LockSupport::park, card).start();       // a thread
        kept = Logger.getLogger(card);                     // a logger
        return Map.of("charged", 42, "card", "..." + card.substring(card.length() - 4));
    }
}
