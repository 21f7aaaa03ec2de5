package isoline.qupath;

import java.io.IOException;
import java.time.Duration;

/** The server understood and said no, or something other than isoline answered. */
public final class Refused extends IOException {

    private static final long serialVersionUID = 1L;

    /** HTTP status; 0 where nothing was sent. */
    public final int status;
    /** What to compare: stable across versions. */
    public final String code;
    /** How long the server asks to wait before the next attempt; zero where it does not say. */
    public final Duration retryAfter;

    Refused(int status, String code, String message, Duration retryAfter) {
        super(message);
        this.status = status;
        this.code = code;
        this.retryAfter = retryAfter;
    }

    /** Return this with more to say. */
    Refused with(String words) {
        return new Refused(status, code, getMessage() + words, retryAfter);
    }
}
