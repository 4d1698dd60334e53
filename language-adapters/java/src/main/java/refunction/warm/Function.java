package refunction.warm;

import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * Does a little of what functions do, so that the classes and call sites for it are there.
 * It draws no random numbers: what does so first has to be a tenant.
 */
public final class Function {
    public static Map<String, Object> main(Map<String, Object> event) throws Exception {
        if (Boolean.TRUE.equals(event.get("fail"))) {
            throw new IllegalStateException("warm", new RuntimeException("inner"));
        }
        Map<String, Object> answer = new HashMap<>(event);
        answer.put("text", "a" + event.get("name") + 1 + 'c' + 2.5 + 3L);
        answer.put("formatted", String.format("%s %d %.2f %5x", "a", 1, 2.5, 255));
        answer.put("sorted", List.of(3, 1, 2).stream().sorted().map(it -> it + 1).collect(Collectors.toList()));
        answer.put("grouped", List.of("a", "bb").stream().collect(Collectors.groupingBy(String::length)));
        answer.put("found", Pattern.compile("(\\w+)-(\\d+)").matcher("ab-12").replaceAll("$2"));
        answer.put("split", "a,b".split(","));
        answer.put("time", DateTimeFormatter.ISO_DATE_TIME.format(Instant.now().atZone(ZoneOffset.UTC)));
        answer.put("exact", new BigDecimal("1.10").multiply(BigDecimal.TEN));
        answer.put("digest", MessageDigest.getInstance("SHA-256").digest("x".getBytes(StandardCharsets.UTF_8)).length);
        answer.put("future", CompletableFuture.completedFuture(1).thenApply(it -> it + 1).join());
        Thread thread = new Thread(() -> new ConcurrentHashMap<String, Integer>().merge("a", 1, Integer::sum));
        thread.start();
        thread.join();
        List<Runnable> later = new ArrayList<>();
        later.add(() -> answer.put("ran", true));
        later.forEach(Runnable::run);
        return answer;
    }
}
