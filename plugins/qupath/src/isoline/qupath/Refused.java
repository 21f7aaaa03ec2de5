package isoline.qupath;

import java.io.IOException;
import java.time.Duration;

/** The server refused the request, or is not an isoline server. */
public final class Refused extends IOException {

    private static final long serialVersionUID = 1L;

    /** The HTTP status; 0 if nothing was sent. */
    public final int status;
    /** The kind of error, to be compared; stable across versions. */
    public final String code;
    /** The pause that the server requests before the next attempt; zero if it requests none. */
    public final Duration retryAfter;

    Refused(int status, String code, String message, Duration retryAfter) {
        super(message);
        this.status = status;
        this.code = code;
        this.retryAfter = retryAfter;
    }

    /** Return this with `words` appended to the message. */
    Refused with(String words) {
        return new Refused(status, code, getMessage() + words, retryAfter);
    }
}
