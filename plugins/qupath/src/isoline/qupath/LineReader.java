package isoline.qupath;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.http.HttpTimeoutException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * The lines of a stream, read a few ahead in a thread of its own.
 *
 * In Java 17 a blocked read swallows the interrupt with which QuPath kills a script; waiting for a
 * line here does not.
 */
final class LineReader implements AutoCloseable {

    /** What comes after the last line; no line can be this. */
    private static final String END = "\n";
    private static final int MOST_LINES = 16;
    private static final long SECOND = 1_000_000_000L;

    private final InputStream body;
    private final Duration silence;
    private final BlockingQueue<String> lines = new ArrayBlockingQueue<>(MOST_LINES);
    private final Thread thread = new Thread(() -> read(), "isoline-reader");
    private volatile long heard = System.nanoTime();

    /** Read the lines of `body`, which is closed with this and dead after `silence`. */
    LineReader(InputStream body, Duration silence) {
        this.body = body;
        this.silence = silence;
        thread.setDaemon(true);
        thread.start();
    }

    /**
     * Return the next line; null where a second passes without one.
     *
     * Throws IOException at the end of the stream, and after a silence.
     */
    String next() throws IOException, InterruptedException {
        long left = silence.toNanos() - (System.nanoTime() - heard);
        String line = lines.poll(Math.max(0, Math.min(SECOND, left)), TimeUnit.NANOSECONDS);
        if (line == null && System.nanoTime() - heard >= silence.toNanos()) {
            throw new HttpTimeoutException("silent for " + silence.toSeconds() + " s");
        }
        if (END.equals(line)) {
            throw new IOException("the stream ended before the job did");
        }
        return line;
    }

    /** Hang up; whoever waits for a line finds the end of the stream. */
    @Override
    public void close() {
        thread.interrupt();
        lines.clear();
        lines.offer(END);
        try {
            body.close();
        } catch (IOException e) {
            System.getLogger("isoline").log(System.Logger.Level.DEBUG, e.toString());
        }
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

    /** A last line without its end was torn by the network: it is not one. */
    private void readLines() throws IOException, InterruptedException {
        byte[] bytes = new byte[1 << 16];
        ByteArrayOutputStream line = new ByteArrayOutputStream();
        for (int count = body.read(bytes); count >= 0; count = body.read(bytes)) {
            heard = System.nanoTime();
            int start = 0;
            for (int k = 0; k < count; k++) {
                if (bytes[k] == 10) {
                    line.write(bytes, start, k - start);
                    lines.put(line.toString(StandardCharsets.UTF_8));
                    heard = System.nanoTime(); // the reader of the lines was slow, not the server
                    line.reset();
                    start = k + 1;
                }
            }
            line.write(bytes, start, count - start);
        }
    }
}
