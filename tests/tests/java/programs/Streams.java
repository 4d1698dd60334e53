import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;

public class Streams implements RequestStreamHandler {
    @Override
    public void handleRequest(InputStream input, OutputStream output, Context context) throws IOException {
        output.write(("{\n \"id\": \"" + context.getAwsRequestId() + "\",\n \"event\": ").getBytes(StandardCharsets.UTF_8));
        input.transferTo(output);
        output.write("\n}\n".getBytes(StandardCharsets.UTF_8));
    }

    public void two(InputStream input, OutputStream output) throws IOException {
        input.transferTo(output);
    }

    public static void broken(InputStream input, OutputStream output) throws IOException {
        output.write("{\"a\":".getBytes(StandardCharsets.UTF_8));
    }

    public int length(InputStream input) throws IOException {
        return input.readAllBytes().length;
    }
}
