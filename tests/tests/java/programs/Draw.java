import java.io.File;
import java.nio.file.Files;
import java.security.KeyPairGenerator;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.SplittableRandom;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;
import java.util.random.RandomGenerator;
import javax.crypto.KeyGenerator;

/** Draws from everything that is random. */
public class Draw {
    static String bytes(SecureRandom random) {
        byte[] bytes = new byte[16];
        random.nextBytes(bytes);
        return Base64.getEncoder().encodeToString(bytes);
    }

    public static Map<String, Object> main(Object args) throws Exception {
        Map<String, Object> drawn = new LinkedHashMap<>();
        drawn.put("SecureRandom", bytes(new SecureRandom()));
        drawn.put("its seed", Base64.getEncoder().encodeToString(SecureRandom.getSeed(16)));
        for (String name : List.of("NativePRNG", "NativePRNGNonBlocking", "SHA1PRNG", "DRBG")) {
            drawn.put(name, bytes(SecureRandom.getInstance(name)));
        }
        drawn.put("strong", bytes(SecureRandom.getInstanceStrong()));
        drawn.put("UUID", UUID.randomUUID().toString());
        drawn.put("Math.random", Math.random());
        drawn.put("StrictMath.random", StrictMath.random());
        drawn.put("Random", new Random().nextLong());
        drawn.put("another Random", new Random().nextLong());
        drawn.put("SplittableRandom", new SplittableRandom().nextLong());
        drawn.put("ThreadLocalRandom", ThreadLocalRandom.current().nextLong());
        long[] other = new long[1];
        Thread thread = new Thread(() -> other[0] = ThreadLocalRandom.current().nextLong());
        thread.start();
        thread.join();
        drawn.put("ThreadLocalRandom of another thread", other[0]);
        for (String name : List.of("L64X128MixRandom", "Xoroshiro128PlusPlus", "L32X64MixRandom")) {
            drawn.put(name, RandomGenerator.of(name).nextLong());
        }
        List<Integer> cards = new ArrayList<>();
        for (int card = 0; card < 52; card++) cards.add(card);
        Collections.shuffle(cards);
        drawn.put("shuffle", cards.toString());
        File file = File.createTempFile("draw", null);
        drawn.put("temporary file", file.getName());
        drawn.put("another", Files.createTempFile("draw", null).getFileName().toString());
        KeyGenerator keys = KeyGenerator.getInstance("AES");
        drawn.put("key", Base64.getEncoder().encodeToString(keys.generateKey().getEncoded()));
        KeyPairGenerator pairs = KeyPairGenerator.getInstance("Ed25519");
        drawn.put("pair", Base64.getEncoder().encodeToString(pairs.generateKeyPair().getPublic().getEncoded()));
        return drawn;
    }
}
