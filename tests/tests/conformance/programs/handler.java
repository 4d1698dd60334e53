import java.util.List;
import java.util.Map;

class Main {
    public Object handler(Object event, Map<String, Object> context) {
        return List.of(event, context.get("awsRequestId"));
    }
}
