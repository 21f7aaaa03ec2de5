package isoline.qupath;

import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.time.format.DateTimeParseException;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;

/** When to retry, and for how long: "Trying again" in docs/protocol.md. */
public final class RetryPolicy {

    /** Time and random numbers, which tests replace. */
    public interface Surroundings {

        /** Return the nanoseconds since an arbitrary moment. */
        long nanoTime();

        /** Return the current time. */
        Instant now();

        /** Return a number from 0 to 1. */
        double random();

        /** Sleep for `pause`. Throws a CancellationException as soon as `stop` is cancelled. */
        void sleep(Duration pause, Cancellation stop) throws InterruptedException;
    }

    private static final class Machine implements Surroundings {

        @Override
        public long nanoTime() {
            return System.nanoTime();
        }

        @Override
        public Instant now() {
            return Instant.now();
        }

        @Override
        public double random() {
            return ThreadLocalRandom.current().nextDouble();
        }

        @Override
        public void sleep(Duration pause, Cancellation stop) throws InterruptedException {
            stop.sleep(pause);
        }
    }

    private static final Set<Integer> TRANSIENT = Set.of(429, 502, 503, 504);
    private static final double FIRST_PAUSE_S = 0.25d;
    private static final double LONGEST_PAUSE_S = 8d;
    private static final int MOST_DOUBLINGS = 5;
    /** The random fraction added to or subtracted from a pause, so that clients do not all return at once. */
    private static final double SPREAD = 0.25d;
    /** The random fraction added to a pause that the server requested. */
    private static final double SPREAD_OF_RETRY_AFTER = 0.1d;

    /** A connection on which nothing arrives for this long is considered lost. */
    public final Duration silence;
    /** A short request is given up if its next attempt would begin this long after the first. */
    public final Duration request;
    /** A stream is given up if its next attempt would begin this long after the last sign of life. */
    public final Duration stream;

    private final Surroundings surroundings;

    /** Create a policy; see the fields. */
    public RetryPolicy(Duration silence, Duration request, Duration stream, Surroundings surroundings) {
        this.silence = silence;
        this.request = request;
        this.stream = stream;
        this.surroundings = surroundings;
    }

    /** Return the policy of the protocol. */
    public static RetryPolicy ofProtocol() {
        return new RetryPolicy(Duration.ofSeconds(15), Duration.ofSeconds(30), Duration.ofSeconds(300), machine());
    }

    /** Return the time and the random numbers of this machine. */
    public static Surroundings machine() {
        return new Machine();
    }

    /** Return this policy without retries. */
    RetryPolicy once() {
        return new RetryPolicy(silence, Duration.ZERO, Duration.ZERO, surroundings);
    }

    /** Return whether another attempt may succeed: there was no response, or the server was busy. */
    boolean isTransient(IOException failure) {
        return !(failure instanceof Refused) || TRANSIENT.contains(((Refused) failure).status);
    }

    /** Return the pause before the next attempt after `failures` in a row, the last of them `failure`. */
    Duration pause(int failures, IOException failure) {
        Duration asked = failure instanceof Refused ? ((Refused) failure).retryAfter : Duration.ZERO;
        double chance = surroundings.random();
        if (!asked.isZero()) {
            return scaled(asked, 1 + SPREAD_OF_RETRY_AFTER * chance);
        }
        double doubled = FIRST_PAUSE_S * (1 << Math.min(failures - 1, MOST_DOUBLINGS));
        double seconds = Math.min(doubled, LONGEST_PAUSE_S);
        return scaled(Duration.ofSeconds(1), seconds * (1 - SPREAD + 2 * SPREAD * chance));
    }

    /** Return the pause in a `Retry-After` header (RFC 9110, 10.2.3); zero if it is invalid or has passed. */
    Duration retryAfter(String header) {
        String text = header.trim();
        if (text.matches("[0-9]{1,9}")) {
            return Duration.ofSeconds(Long.parseLong(text));
        }
        try {
            Instant moment = ZonedDateTime.parse(text, DateTimeFormatter.RFC_1123_DATE_TIME).toInstant();
            Duration left = Duration.between(surroundings.now(), moment);
            return left.isNegative() ? Duration.ZERO : left;
        } catch (DateTimeParseException e) {
            return Duration.ZERO;
        }
    }

    /** Return the nanoseconds since an arbitrary moment. */
    long nanoTime() {
        return surroundings.nanoTime();
    }

    /** Sleep for `pause`. Throws a CancellationException as soon as `stop` is cancelled. */
    void sleep(Duration pause, Cancellation stop) throws InterruptedException {
        surroundings.sleep(pause, stop);
    }

    private static Duration scaled(Duration duration, double factor) {
        return Duration.ofNanos(Math.round(duration.toNanos() * factor));
    }
}
