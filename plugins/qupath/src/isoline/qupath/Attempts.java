package isoline.qupath;

import java.io.IOException;
import java.time.Duration;

/** The attempts at one request or one stream: how many have failed in a row, and since when. */
final class Attempts {

    /** One attempt. */
    interface Attempt<T> {
        T make() throws IOException, InterruptedException;
    }

    /** Is notified when the connection is lost and when it is restored. */
    interface Listener {

        /** Called after `failure`, before `pause`; the last attempt begins within `left` from now. */
        void lost(IOException failure, Duration pause, Duration left);

        /** Called at the first sign of life after a pause. */
        void back();
    }

    /** There are no more attempts; the cause is the last failure. */
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

    /** Begin the first attempt; the last one begins before `patience` has passed. */
    Attempts(RetryPolicy policy, Duration patience, Cancellation stop, Listener listener) {
        this.policy = policy;
        this.patience = patience;
        this.stop = stop;
        this.listener = listener;
        this.since = policy.nanoTime();
    }

    /** Make `attempt` until it succeeds and return its result. Throws the same as `pause`. */
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

    /** Record a sign of life, which resets the count and the time limit. */
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
     * Throws `failure` if it is final, GaveUp if the next attempt would be too late, and a
     * CancellationException as soon as the user cancels.
     */
    void pause(IOException failure) throws IOException, InterruptedException {
        stop.check(); // the failure may be due to the cancellation
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
