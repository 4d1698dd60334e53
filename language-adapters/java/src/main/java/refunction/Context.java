package refunction;

import java.lang.reflect.InvocationHandler;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;

/** What a handler is given beside the event, in the shape that it asks for. */
final class Context implements InvocationHandler {
    /** What the getters of its parts are called in Lambda's interfaces, and in JSON. */
    private static final Map<String, String> PARTS = Map.of(
            "getClient", "client",
            "getCustom", "custom",
            "getEnvironment", "env",
            "getInstallationId", "installation_id",
            "getAppTitle", "app_title",
            "getAppVersionName", "app_version_name",
            "getAppVersionCode", "app_version_code",
            "getAppPackageName", "app_package_name",
            "getIdentityId", "cognitoIdentityId",
            "getIdentityPoolId", "cognitoIdentityPoolId");

    private final Map<String, Object> values = new LinkedHashMap<>();
    private final long deadline;

    private Context(String id, Long deadline, Map<?, ?> caller) {
        String name = variable("AWS_LAMBDA_FUNCTION_NAME", "function");
        String region = variable("AWS_REGION", variable("AWS_DEFAULT_REGION", "us-east-1"));
        String account = variable("AWS_ACCOUNT_ID", "012345678912");
        values.put("awsRequestId", id);
        values.put("functionName", name);
        values.put("functionVersion", variable("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"));
        values.put("memoryLimitInMB", memory());
        Object arn = caller.get("invoked_function_arn");
        values.put("invokedFunctionArn", arn != null ? arn : "arn:aws:lambda:" + region + ":" + account + ":function:" + name);
        values.put("logGroupName", variable("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/" + name));
        values.put("logStreamName", variable("AWS_LAMBDA_LOG_STREAM_NAME", "$LATEST"));
        values.put("clientContext", caller.get("client_context"));
        values.put("identity", caller.get("cognito_identity"));
        values.put("tenantId", caller.get("tenant_id"));
        values.values().removeIf(Objects::isNull);
        this.deadline = deadline == null ? System.currentTimeMillis() + 900_000 : deadline;
    }

    private static String variable(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? otherwise : value;
    }

    private static int memory() {
        try {
            return Integer.parseInt(variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"));
        } catch (NumberFormatException error) {
            return 128;
        }
    }

    /** True if it is Lambda's own interface, or one like it. */
    static boolean isContext(Class<?> type) {
        if (!type.isInterface()) return false;
        for (Method method : type.getMethods()) {
            if (method.getName().equals("getAwsRequestId")) return true;
        }
        return false;
    }

    static Object of(Class<?> type, String id, Long deadline, Map<?, ?> caller) {
        Context context = new Context(id, deadline, caller);
        return type.isInstance(context.values) ? context.values : proxy(type, context);
    }

    private static Object proxy(Class<?> type, InvocationHandler handler) {
        return Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, handler);
    }

    @Override
    public Object invoke(Object proxy, Method method, Object[] arguments) {
        return switch (method.getName()) {
            case "getRemainingTimeInMillis" -> (int) Math.max(0, deadline - System.currentTimeMillis());
            case "getLogger" -> proxy(method.getReturnType(), Context::log);
            default -> {
                String name = method.getName();
                String key = name.length() < 4 ? name : Character.toLowerCase(name.charAt(3)) + name.substring(4);
                yield answer(proxy, method, arguments, values, key);
            }
        };
    }

    /** What a getter gives, or one of the methods that every object has. */
    private static Object answer(Object proxy, Method method, Object[] arguments, Map<?, ?> values, String key) {
        return switch (method.getName()) {
            case "hashCode" -> System.identityHashCode(proxy);
            case "equals" -> proxy == arguments[0];
            case "toString" -> values.toString();
            default -> part(method.getReturnType(), values.get(key));
        };
    }

    /** A value as a getter gives it: what is an object in JSON may be one of Lambda's interfaces. */
    private static Object part(Class<?> type, Object value) {
        if (!(value instanceof Map<?, ?> values) || !type.isInterface() || type.isInstance(values)) return value;
        return proxy(type, (proxy, method, arguments) ->
                answer(proxy, method, arguments, values, PARTS.getOrDefault(method.getName(), method.getName())));
    }

    private static Object log(Object proxy, Method method, Object[] arguments) {
        if (!method.getName().equals("log")) return null;
        String text = arguments[0] instanceof byte[] it ? new String(it, StandardCharsets.UTF_8) : "" + arguments[0];
        System.out.print(text.endsWith("\n") ? text : text + "\n");
        return null;
    }
}
