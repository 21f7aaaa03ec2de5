package isoline.qupath;

import java.io.IOException;
import java.net.http.HttpTimeoutException;
import java.time.Duration;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** The user's request to stop, which ends every wait at once. Safe to use from any thread. */
public final class Cancellation {

    private final CompletableFuture<Void> requested = new CompletableFuture<>();

    /** Ask everything that waits on this to stop. */
    public void cancel() {
        requested.complete(null);
    }

    /** Return whether the user has asked to stop. */
    public boolean isCancelled() {
        return requested.isDone();
    }

    /** Throw a CancellationException if the user has asked to stop. */
    void check() {
        if (isCancelled()) {
            throw new CancellationException("stopped by the user");
        }
    }

    /** Run `action` as soon as the user asks to stop: in that thread, or here if that was before. */
    void whenCancelled(Runnable action) {
        requested.thenRun(action);
    }

    /** Sleep for `pause`. Throws a CancellationException as soon as the user asks to stop. */
    void sleep(Duration pause) throws InterruptedException {
        try {
            requested.get(pause.toNanos(), TimeUnit.NANOSECONDS);
        } catch (TimeoutException e) {
            return; // the pause is over
        } catch (ExecutionException e) {
            throw new IllegalStateException(e); // nobody completes it with one
        }
        check();
    }

    /**
     * Return what `answer` brings, and abandon it otherwise.
     *
     * Throws an HttpTimeoutException after `silence`, and a CancellationException as soon as the
     * user asks to stop.
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
