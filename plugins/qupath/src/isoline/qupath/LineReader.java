package isoline.qupath;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * Lines of a stream, read ahead by a few in a thread of its own.
 *
 * In Java 17 a blocked read swallows the interrupt with which QuPath kills a script; waiting for a
 * line here does not.
 */
final class LineReader implements AutoCloseable {

    /** What comes after the last line; no line can be this. */
    static final String END = "\n";

    private static final int MOST_LINES = 16;

    private final InputStream body;
    private final BlockingQueue<String> lines = new ArrayBlockingQueue<>(MOST_LINES);
    private final Thread thread = new Thread(() -> read(), "isoline-reader");

    /** Read the lines of `body`, which is closed with this. */
    LineReader(InputStream body) {
        this.body = body;
        thread.setDaemon(true);
        thread.start();
    }

    /** Return the next line, `END` after the last, null if a second passes without one. */
    String next() throws InterruptedException {
        return lines.poll(1, TimeUnit.SECONDS);
    }

    @Override
    public void close() throws IOException {
        thread.interrupt();
        body.close();
    }

    private void read() {
        try {
            try {
                readLines();
            } catch (IOException e) {
                System.getLogger("isoline").log(System.Logger.Level.DEBUG, e.toString());
            }
            lines.put(END);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt(); // nobody listens any more
        }
    }

    /** A last line that has no end was torn by the network: it is not one. */
    private void readLines() throws IOException, InterruptedException {
        byte[] bytes = new byte[1 << 16];
        ByteArrayOutputStream line = new ByteArrayOutputStream();
        for (int count = body.read(bytes); count >= 0; count = body.read(bytes)) {
            int start = 0;
            for (int k = 0; k < count; k++) {
                if (bytes[k] == 10) {
                    line.write(bytes, start, k - start);
                    lines.put(line.toString(StandardCharsets.UTF_8));
                    line.reset();
                    start = k + 1;
                }
            }
            line.write(bytes, start, count - start);
        }
    }
}
