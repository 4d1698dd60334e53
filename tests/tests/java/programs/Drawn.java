import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.SplittableRandom;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;

/** Draws when it is loaded, as a library may that is preloaded. */
public class Drawn {
    static {
        Math.random();
        StrictMath.random();
        new Random().nextInt();
        new SplittableRandom().nextInt();
        ThreadLocalRandom.current().nextInt();
        Collections.shuffle(new ArrayList<>(List.of(1, 2, 3)));
        UUID.randomUUID();
        try {
            SecureRandom.getInstance("SHA1PRNG").nextInt();
        } catch (java.security.NoSuchAlgorithmException error) {
            throw new IllegalStateException(error);
        }
    }
}
