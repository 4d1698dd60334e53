import com.google.gson.JsonObject;

/** An action as OpenWhisk's documentation has them. */
public class Action {
    public static JsonObject main(JsonObject args) {
        JsonObject answer = new JsonObject();
        answer.addProperty("greeting", "Hello " + args.getAsJsonPrimitive("name").getAsString() + "!");
        return answer;
    }
}
