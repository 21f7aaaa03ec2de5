package isoline.qupath;

import java.io.IOException;
import java.net.ConnectException;
import java.net.http.HttpConnectTimeoutException;
import java.net.http.HttpTimeoutException;
import java.nio.channels.UnresolvedAddressException;
import java.time.Duration;
import javax.net.ssl.SSLException;

/** Messages for the user about errors in calls of a server. */
final class Explanation {

    private Explanation() {}

    /** Return a message about `error` for a user of the server at `url`, with or without a token. */
    static String of(Exception error, String url, boolean hasToken) {
        if (error instanceof Attempts.GaveUp) {
            Duration tried = ((Attempts.GaveUp) error).tried;
            String reason = of((IOException) error.getCause(), url, hasToken);
            return tried.toSeconds() < 1 ? reason
                    : sentence(reason) + " Gave up after " + tried.toSeconds() + " s.";
        }
        if (error instanceof Refused) {
            Refused refused = (Refused) error;
            if (refused.status == 401) {
                return (hasToken ? "The server does not accept this token."
                        : "The server requires a token, and none is set.") + " Enter the one for " + url +
                        "; ask the administrator of the server.";
            }
            return refused.getMessage();
        }
        if (error instanceof HttpConnectTimeoutException) {
            return url + " does not respond. Is the address right, and does a firewall allow the connection?";
        }
        if (error instanceof HttpTimeoutException) {
            return url + " does not respond: " + error.getMessage() + ".";
        }
        if (error instanceof ConnectException) {
            return isUnresolved(error)
                    ? "There is no host of that name: " + url
                    : "Nothing answers at " + url +
                            ". Is `isoline serve` running there, and is the port right?";
        }
        if (error instanceof SSLException) {
            return url + " cannot be reached over https; if it uses http, write http:// (" +
                    error.getMessage() + ")";
        }
        String said = error.getMessage() == null ? error.getClass().getSimpleName() : error.getMessage();
        return "No valid response from " + url + ": " + said +
                (url.startsWith("http:") ? ". If it uses https, write https://" : "");
    }

    /** Return `words` with a full stop, unless they already end with a punctuation mark. */
    static String sentence(String words) {
        return words.matches("(?s).*[.?!]\\z") ? words : words + ".";
    }

    private static boolean isUnresolved(Throwable error) {
        Throwable cause = error;
        while (cause != null && !(cause instanceof UnresolvedAddressException)) {
            cause = cause.getCause();
        }
        return cause != null;
    }
}
