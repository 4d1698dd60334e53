package shop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.UUID;

public class App {
    public static class NoGood extends RuntimeException {
        NoGood(String message) {
            super(message);
        }
    }

    /** As in aws-lambda-java-core, without what logs. */
    public interface Context {
        String getAwsRequestId();

        String getLogGroupName();

        String getLogStreamName();

        String getFunctionName();

        String getFunctionVersion();

        String getInvokedFunctionArn();

        Identity getIdentity();

        ClientContext getClientContext();

        int getRemainingTimeInMillis();

        int getMemoryLimitInMB();

        String getTenantId();
    }

    public interface Identity {
        String getIdentityId();

        String getIdentityPoolId();
    }

    public interface ClientContext {
        Client getClient();

        Map<String, Object> getCustom();

        Map<String, String> getEnvironment();
    }

    public interface Client {
        String getInstallationId();

        String getAppTitle();
    }

    /** To be looked at by nobody before it is asked for. */
    static class Lazy {
        static final Object MADE = ++made;
    }

    static int made;
    /** It is loaded by that, and not initialised. */
    static final Class<?> KNOWN = Lazy.class;

    private static final Random RANDOM = new Random();
    private static final List<Object> KEPT = new ArrayList<>(List.of(new Random(5), UUID.randomUUID()));
    private static int count;
    private static Object secret;

    static {
        System.out.println("imported");
    }

    public Object handle(Object argument, Context context) throws Exception {
        count++;
        if (!(argument instanceof Map<?, ?> event) || event.get("op") == null) return argument;
        switch (event.get("op").toString()) {
            case "count": return Map.of("count", count, "made", made);
            case "draw": return List.of(RANDOM.nextDouble(), ((Random) KEPT.get(0)).nextDouble(), Math.random(), UUID.randomUUID());
            case "raise": throw new NoGood("no good");
            case "sleep":
                System.out.println("asleep");
                Thread.sleep((long) (((Number) event.get("seconds")).doubleValue() * 1000));
                return null;
            case "exit": Runtime.getRuntime().halt(3);
            case "print":
                System.out.println(event.get("text"));
                System.err.println(event.get("text"));
                return null;
            case "env": return System.getenv(event.get("name").toString());
            case "cwd": return new java.io.File("").getAbsolutePath();
            case "swap": {
                Object before = secret;
                secret = event.get("secret");
                return before;
            }
            case "large": return "x".repeat(((Number) event.get("bytes")).intValue());
            case "context": return told(context);
            default: return event;
        }
    }

    private static Map<String, Object> told(Context context) {
        Map<String, Object> told = new HashMap<>();
        told.put("awsRequestId", context.getAwsRequestId());
        told.put("logGroupName", context.getLogGroupName());
        told.put("logStreamName", context.getLogStreamName());
        told.put("functionName", context.getFunctionName());
        told.put("functionVersion", context.getFunctionVersion());
        told.put("invokedFunctionArn", context.getInvokedFunctionArn());
        told.put("memoryLimitInMB", context.getMemoryLimitInMB());
        told.put("remaining", context.getRemainingTimeInMillis());
        told.put("tenantId", context.getTenantId());
        ClientContext client = context.getClientContext();
        if (client != null) {
            told.put("client", Arrays.asList(
                    client.getClient().getInstallationId(),
                    client.getClient().getAppTitle(),
                    client.getCustom(),
                    client.getEnvironment()));
        }
        Identity identity = context.getIdentity();
        if (identity != null) told.put("identity", List.of(identity.getIdentityId(), identity.getIdentityPoolId()));
        return told;
    }

    public static Object main(Object args) {
        return args;
    }
}
