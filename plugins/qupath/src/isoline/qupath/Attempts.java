package isoline.qupath;

import java.io.IOException;
import java.time.Duration;

/** The attempts at one request or one stream: how many have failed in a row, and since when. */
final class Attempts {

    /** One attempt. */
    interface Attempt<T> {
        T make() throws IOException, InterruptedException;
    }

    /** Hears that a connection is lost, and that it is found again. */
    interface Listener {

        /** `failure` is followed by `pause`; after `left` from now there are no more attempts. */
        void lost(IOException failure, Duration pause, Duration left);

        /** The first sign of life after a pause. */
        void back();
    }

    /** No attempt is left; the cause is the reason of the last failure. */
    static final class GaveUp extends IOException {

        private static final long serialVersionUID = 1L;

        /** How long the attempts had failed. */
        final Duration tried;

        GaveUp(IOException failure, Duration tried) {
            super(failure.getMessage(), failure);
            this.tried = tried;
        }
    }

    private final RetryPolicy policy;
    private final Duration patience;
    private final Cancellation stop;
    private final Listener listener;
    private int failures;
    private long since;

    /** Begin with the first attempt; the last begins before `patience` has passed. */
    Attempts(RetryPolicy policy, Duration patience, Cancellation stop, Listener listener) {
        this.policy = policy;
        this.patience = patience;
        this.stop = stop;
        this.listener = listener;
        this.since = policy.nanoTime();
    }

    /** Return what `attempt` returns in the end. Throws what `pause` throws. */
    <T> T run(Attempt<T> attempt) throws IOException, InterruptedException {
        while (true) {
            stop.check();
            try {
                T answer = attempt.make();
                alive();
                return answer;
            } catch (IOException e) {
                pause(e);
            }
        }
    }

    /** Note a sign of life: the count starts again. */
    void alive() {
        since = policy.nanoTime();
        if (failures > 0) {
            failures = 0;
            listener.back();
        }
    }

    /**
     * Pause before the next attempt.
     *
     * Throws `failure` if it is final, GaveUp if the next attempt would come too late, and a
     * CancellationException as soon as the user asks to stop.
     */
    void pause(IOException failure) throws IOException, InterruptedException {
        stop.check(); // what failed may have failed because of that
        if (!policy.isTransient(failure)) {
            throw failure;
        }
        failures += 1;
        Duration pause = policy.pause(failures, failure);
        Duration tried = Duration.ofNanos(policy.nanoTime() - since);
        Duration left = patience.minus(tried);
        if (pause.compareTo(left) > 0) {
            throw new GaveUp(failure, tried);
        }
        listener.lost(failure, pause, left);
        policy.sleep(pause, stop);
    }
}
