package isoline.qupath;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.http.HttpResponse;
import java.net.http.HttpTimeoutException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.Flow;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * The lines of a response as they arrive, buffered a few lines ahead of the reader.
 *
 * Java's own stream of a response discards received data when the connection breaks, and in Java 17
 * reading it swallows the interrupt with which QuPath kills a script.
 */
final class LineReader implements HttpResponse.BodySubscriber<byte[]>, AutoCloseable {

    /** Follows the last line; no line is equal to it. */
    private static final String END = "\n";
    private static final int MOST_LINES = 16;
    private static final long SECOND = 1_000_000_000L;

    private final Duration silence;
    private final BlockingQueue<String> lines = new LinkedBlockingQueue<>();
    private final ByteArrayOutputStream line = new ByteArrayOutputStream();
    private Flow.Subscription subscription;
    private boolean isAsking;
    private boolean isClosed;
    private volatile long heard = System.nanoTime();

    /** Read a response, which is considered lost after `silence`. */
    LineReader(Duration silence) {
        this.silence = silence;
    }

    /**
     * Return the next line; null if a second passes without one.
     *
     * Throws IOException at the end of the response, and an HttpTimeoutException after a silence.
     */
    String next() throws IOException, InterruptedException {
        long left = silence.toNanos() - (System.nanoTime() - heard);
        String next = lines.poll(Math.max(0, Math.min(SECOND, left)), TimeUnit.NANOSECONDS);
        if (next == null && System.nanoTime() - heard >= silence.toNanos()) {
            throw new HttpTimeoutException("silent for " + silence.toSeconds() + " s");
        }
        if (END.equals(next)) {
            throw new IOException("the stream ended before the job did");
        }
        askForMore();
        return next;
    }

    /** Return whether a successful response has begun. */
    synchronized boolean hasBegun() {
        return subscription != null;
    }

    /** Close the connection; a thread that waits for a line gets the end. */
    @Override
    public synchronized void close() {
        isClosed = true;
        if (subscription != null) {
            subscription.cancel();
        }
        lines.clear();
        lines.add(END);
    }

    // --- Called by Java's HTTP client ----------------------------------------------------------

    /** Complete at once, so that the call returns with the headers. */
    @Override
    public CompletionStage<byte[]> getBody() {
        return CompletableFuture.completedFuture(new byte[0]);
    }

    @Override
    public synchronized void onSubscribe(Flow.Subscription given) {
        subscription = given;
        if (isClosed) {
            given.cancel();
        }
        askForMore();
    }

    @Override
    public synchronized void onNext(List<ByteBuffer> buffers) {
        isAsking = false;
        heard = System.nanoTime();
        for (ByteBuffer buffer : buffers) {
            byte[] bytes = new byte[buffer.remaining()];
            buffer.get(bytes);
            take(bytes);
        }
        askForMore();
    }

    @Override
    public void onError(Throwable error) {
        System.getLogger("isoline").log(System.Logger.Level.DEBUG, error.toString());
        lines.add(END);
    }

    /** Discards a last line without a line end, which is incomplete. */
    @Override
    public void onComplete() {
        lines.add(END);
    }

    private void take(byte[] bytes) {
        int start = 0;
        for (int k = 0; k < bytes.length; k++) {
            if (bytes[k] == 10) {
                line.write(bytes, start, k - start);
                lines.add(line.toString(StandardCharsets.UTF_8));
                line.reset();
                start = k + 1;
            }
        }
        line.write(bytes, start, bytes.length - start);
    }

    private synchronized void askForMore() {
        if (!isAsking && !isClosed && subscription != null && lines.size() < MOST_LINES) {
            isAsking = true;
            heard = System.nanoTime(); // the reader was slow, not the server
            subscription.request(1);
        }
    }
}
