package isoline.qupath;

import com.google.gson.JsonObject;
import java.net.http.HttpRequest;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/** An HTTP request, for any number of attempts. */
final class Question {

    private static final byte[] NOTHING = new byte[0];

    final String path;
    private final String method;
    private final byte[] body;
    private final Map<String, String> headers = new LinkedHashMap<>();

    /** Create a request with `method` for `path`, which begins with a slash. */
    Question(String method, String path, byte[] body) {
        this.method = method;
        this.path = path;
        this.body = body;
    }

    /** Return a request without a body. */
    static Question of(String method, String path) {
        return new Question(method, path, NOTHING);
    }

    /** Return a request with `json` as its body. */
    static Question of(String method, String path, JsonObject json) {
        return new Question(method, path, json.toString().getBytes(StandardCharsets.UTF_8))
                .with("Content-Type", "application/json");
    }

    /** Add a header and return this. */
    Question with(String name, String value) {
        headers.put(name, value);
        return this;
    }

    /** Return the size of the body in bytes. */
    int size() {
        return body.length;
    }

    /** Write this into `request`; return the body for this attempt. */
    Outgoing write(HttpRequest.Builder request) {
        Outgoing outgoing = new Outgoing(body);
        request.method(method, outgoing);
        headers.forEach((name, value) -> request.header(name, value));
        return outgoing;
    }
}
