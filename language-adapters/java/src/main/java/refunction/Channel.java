package refunction;

import java.io.Closeable;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * The two pipes to the supervisor: frames of a little-endian length, a kind, and that
 * many bytes of JSON.
 */
final class Channel implements Closeable {
    private static final int REQUESTS = 3;
    private static final int ANSWERS = 4;
    private static final int HEADER_BYTES = 5;
    /** A length is a claim: memory is taken as the bytes arrive. */
    private static final int AT_ONCE = 1 << 20;

    private final FileInputStream requests;
    private final FileOutputStream answers;
    private final byte[] header = new byte[HEADER_BYTES];

    record Frame(char kind, String text) {}

    private Channel(FileInputStream requests, FileOutputStream answers) {
        this.requests = requests;
        this.answers = answers;
    }

    static Channel toSupervisor() throws ReflectiveOperationException {
        return new Channel(new FileInputStream(descriptor(REQUESTS)), new FileOutputStream(descriptor(ANSWERS)));
    }

    /** From which empty frames come without end, and where nobody hears the answers. */
    static Channel toNobody() throws IOException {
        return new Channel(new FileInputStream("/dev/zero"), new FileOutputStream("/dev/null"));
    }

    @Override
    public void close() throws IOException {
        requests.close();
        answers.close();
    }

    /** Java has no way to open a number; its file in /proc may not be written to. */
    private static FileDescriptor descriptor(int number) throws ReflectiveOperationException {
        var constructor = FileDescriptor.class.getDeclaredConstructor(int.class);
        constructor.setAccessible(true);
        return constructor.newInstance(number);
    }

    /** The next frame, or null when the supervisor is gone. Here the snapshot is taken. */
    Frame next() throws IOException {
        if (!fill(header, 0, HEADER_BYTES)) return null;
        int length = header[0] & 0xff | (header[1] & 0xff) << 8 | (header[2] & 0xff) << 16 | (header[3] & 0xff) << 24;
        char kind = (char) header[4];
        byte[] payload = new byte[Math.min(length, AT_ONCE)];
        for (int filled = 0; filled < length; ) {
            if (filled == payload.length) {
                payload = Arrays.copyOf(payload, (int) Math.min(length, 2L * payload.length));
            }
            if (!fill(payload, filled, payload.length - filled)) return null;
            filled = payload.length;
        }
        return new Frame(kind, new String(payload, StandardCharsets.UTF_8));
    }

    private boolean fill(byte[] buffer, int from, int length) throws IOException {
        for (int filled = 0; filled < length; ) {
            int got = requests.read(buffer, from + filled, length - filled);
            if (got < 0) return false;
            filled += got;
        }
        return true;
    }

    void answer(char kind, String text) throws IOException {
        byte[] payload = text.getBytes(StandardCharsets.UTF_8);
        byte[] frame = new byte[HEADER_BYTES + payload.length];
        for (int index = 0; index < 4; index++) {
            frame[index] = (byte) (payload.length >>> 8 * index);
        }
        frame[4] = (byte) kind;
        System.arraycopy(payload, 0, frame, HEADER_BYTES, payload.length);
        answers.write(frame);
    }
}
