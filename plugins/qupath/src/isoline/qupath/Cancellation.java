package isoline.qupath;

import java.io.IOException;
import java.net.http.HttpTimeoutException;
import java.time.Duration;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** A request by the user to cancel, which ends every wait at once. Thread-safe. */
public final class Cancellation {

    private final CompletableFuture<Void> requested = new CompletableFuture<>();

    /** Cancel everything that waits for this. */
    public void cancel() {
        requested.complete(null);
    }

    /** Return whether the user has cancelled. */
    public boolean isCancelled() {
        return requested.isDone();
    }

    /** Throw a CancellationException if the user has cancelled. */
    void check() {
        if (isCancelled()) {
            throw new CancellationException("stopped by the user");
        }
    }

    /** Run `action` when the user cancels, in that thread; at once if they already have. */
    void whenCancelled(Runnable action) {
        requested.thenRun(action);
    }

    /** Sleep for `pause`. Throws a CancellationException as soon as the user cancels. */
    void sleep(Duration pause) throws InterruptedException {
        try {
            requested.get(pause.toNanos(), TimeUnit.NANOSECONDS);
        } catch (TimeoutException e) {
            return; // the pause is over
        } catch (ExecutionException e) {
            throw new IllegalStateException(e); // it is never completed exceptionally
        }
        check();
    }

    /**
     * Wait for `answer` and return its result; if the wait ends otherwise, abandon it.
     *
     * Throws the IOException with which it fails, an HttpTimeoutException after `silence`, and a
     * CancellationException as soon as the user cancels.
     */
    <T> T await(CompletableFuture<T> answer, Duration silence) throws IOException, InterruptedException {
        try {
            CompletableFuture.anyOf(answer, requested).get(silence.toNanos(), TimeUnit.NANOSECONDS);
            check();
            return answer.get();
        } catch (TimeoutException e) {
            throw new HttpTimeoutException("silent for " + silence.toSeconds() + " s");
        } catch (ExecutionException e) {
            if (e.getCause() instanceof IOException) {
                throw (IOException) e.getCause();
            }
            throw new IOException(e.getCause().getMessage(), e.getCause());
        } finally {
            answer.cancel(true);
        }
    }
}
