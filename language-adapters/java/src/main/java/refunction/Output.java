package refunction;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/** What functions print: written line by line, and all of it before each answer. */
final class Output {
    private final PrintStream out = stream(FileDescriptor.out);
    private final PrintStream err = stream(FileDescriptor.err);

    Output() {
        System.setOut(out);
        System.setErr(err);
    }

    private static PrintStream stream(FileDescriptor descriptor) {
        return new PrintStream(new Lines(new FileOutputStream(descriptor)), false, StandardCharsets.UTF_8);
    }

    void flush() {
        out.flush();
        err.flush();
        // A function may have put others in their place.
        flush(System.out, out);
        flush(System.err, err);
    }

    private static void flush(PrintStream stream, PrintStream ours) {
        if (stream == ours || stream == null) return;
        try {
            stream.flush();
        } catch (Throwable ignored) {
            // It is the tenant's own, and so is what it keeps.
        }
    }

    /** Keeps the beginning of a line until there is its end: a line is one write. */
    private static final class Lines extends OutputStream {
        private final OutputStream sink;
        private final byte[] kept = new byte[8192];
        private int length;

        Lines(OutputStream sink) {
            this.sink = sink;
        }

        @Override
        public synchronized void write(int b) throws IOException {
            write(new byte[] {(byte) b}, 0, 1);
        }

        @Override
        public synchronized void write(byte[] bytes, int from, int count) throws IOException {
            if (count > kept.length - length) flush();
            if (count > kept.length) {
                sink.write(bytes, from, count);
                return;
            }
            System.arraycopy(bytes, from, kept, length, count);
            length += count;
            for (int index = from; index < from + count; index++) {
                if (bytes[index] == '\n') {
                    flush();
                    return;
                }
            }
        }

        @Override
        public synchronized void flush() throws IOException {
            int count = length;
            length = 0;
            if (count > 0) sink.write(kept, 0, count);
        }
    }
}
