package isoline.qupath;

import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.concurrent.Flow;
import java.util.function.Function;

/** HTTP to one isoline server, one attempt at a time. Safe to use from any thread. */
final class ServerConnection {

    private static final Duration CONNECT = Duration.ofSeconds(5);

    /** The address of the server, without a slash at its end. */
    final String url;
    final String token;
    private final HttpClient http = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1).connectTimeout(CONNECT).build();

    /** `typed` is what a user types: perhaps without http://, with a slash or /v1 at the end. */
    ServerConnection(String typed, String token) {
        String trimmed = typed == null ? "" : typed.trim();
        String whole = trimmed.contains("://") ? trimmed : "http://" + trimmed;
        this.url = whole.replaceFirst("/+(v1(/.*)?)?\\z", "");
        this.token = token == null ? "" : token.trim();
    }

    /** Return a request of `path`; `json` is its body, null for none. Throws Refused for a bad address. */
    HttpRequest.Builder request(String method, String path, JsonObject json) throws Refused {
        HttpRequest.BodyPublisher body = method.equals("GET") ? new Unrepeatable()
                : json == null ? HttpRequest.BodyPublishers.noBody()
                : HttpRequest.BodyPublishers.ofString(json.toString());
        HttpRequest.Builder request;
        try {
            request = HttpRequest.newBuilder(URI.create(url + path)).method(method, body);
        } catch (IllegalArgumentException e) {
            throw new Refused(0, "NoAddress",
                    "\"" + url + "\" is not an address; write one like http://127.0.0.1:8765", Duration.ZERO);
        }
        request.header("Accept", "application/x-ndjson, application/json");
        if (json != null) {
            request.header("Content-Type", "application/json");
        }
        if (!token.isEmpty()) {
            request.header("Authorization", "Bearer " + token);
        }
        return request;
    }

    /**
     * Return the body of the answer as it comes.
     *
     * Throws Refused for an answer that says no, and an HttpTimeoutException where none begins
     * within `policy.silence`.
     */
    InputStream open(HttpRequest request, RetryPolicy policy, Cancellation stop)
            throws IOException, InterruptedException {
        HttpResponse<InputStream> answer = stop.await(http.sendAsync(request, info -> streamed(info)), policy.silence);
        if (!isFine(answer.statusCode())) {
            throw refusal(answer.statusCode(), answer, answer.body().readAllBytes(), policy);
        }
        return answer.body();
    }

    /**
     * Return the body of the answer, which is to be complete within `silence`.
     *
     * Throws Refused for an answer that says no.
     */
    byte[] send(HttpRequest request, Duration silence, RetryPolicy policy, Cancellation stop)
            throws IOException, InterruptedException {
        HttpResponse<byte[]> answer =
                stop.await(http.sendAsync(request, HttpResponse.BodyHandlers.ofByteArray()), silence);
        if (!isFine(answer.statusCode())) {
            throw refusal(answer.statusCode(), answer, answer.body(), policy);
        }
        return answer.body();
    }

    /** Return the JSON object in the body of an answer. Throws IOException for half of one. */
    JsonObject json(byte[] body) throws IOException {
        String text = new String(body, StandardCharsets.UTF_8).trim();
        try {
            return JsonParser.parseString(text).getAsJsonObject();
        } catch (JsonParseException | IllegalStateException e) {
            if (text.isEmpty() || text.startsWith("{")) {
                throw new IOException("the answer broke off");
            }
            throw notIsoline(200, Duration.ZERO);
        }
    }

    /** Return what to say where something other than isoline answers. */
    Refused notIsoline(int status, Duration retryAfter) {
        if (status > 500) {
            return new Refused(status, "NotIsoline", "HTTP " + status + " from " + url +
                    ": a proxy answers there, and isoline behind it does not", retryAfter);
        }
        return new Refused(status, "NotIsoline",
                "Something answers at " + url + " (HTTP " + status + "), but it is not isoline. " +
                "Is the port right" + (status == 400 && url.startsWith("http:") ? ", or is it https://?" : "?"),
                retryAfter);
    }

    /** An answer that says no is read whole, so that it too is complete within the silence. */
    private static HttpResponse.BodySubscriber<InputStream> streamed(HttpResponse.ResponseInfo info) {
        if (isFine(info.statusCode())) {
            return HttpResponse.BodySubscribers.ofInputStream();
        }
        Function<byte[], InputStream> opened = bytes -> new ByteArrayInputStream(bytes); // typed for Groovy
        return HttpResponse.BodySubscribers.mapping(HttpResponse.BodySubscribers.ofByteArray(), opened);
    }

    private static boolean isFine(int status) {
        return status >= 200 && status < 300;
    }

    private Refused refusal(int status, HttpResponse<?> answer, byte[] body, RetryPolicy policy) {
        Duration retryAfter = policy.retryAfter(answer.headers().firstValue("Retry-After").orElse(""));
        if (status >= 300 && status < 400) {
            String elsewhere = answer.headers().firstValue("Location").orElse("another address");
            return new Refused(status, "Moved", url + " points to " + elsewhere + ": write that address", retryAfter);
        }
        try {
            JsonObject said = JsonParser.parseString(new String(body, StandardCharsets.UTF_8)).getAsJsonObject();
            String remedy = said.get("remedy").getAsString();
            return new Refused(status, said.get("code").getAsString(),
                    said.get("detail").getAsString() + (remedy.isEmpty() ? "" : ". Remedy: " + remedy), retryAfter);
        } catch (JsonParseException | IllegalStateException | NullPointerException e) {
            return notIsoline(status, retryAfter);
        }
    }

    /**
     * No body, for one attempt.
     *
     * Java repeats a GET by itself, at once and up to five times, where the server closes the
     * connection without an answer. The attempts are this client's to count.
     */
    private static final class Unrepeatable implements HttpRequest.BodyPublisher {

        private boolean isSent;

        @Override
        public synchronized long contentLength() {
            if (isSent) {
                throw new IllegalStateException("the server closed the connection without an answer");
            }
            isSent = true;
            return 0;
        }

        @Override
        public void subscribe(Flow.Subscriber<? super ByteBuffer> subscriber) {
            HttpRequest.BodyPublishers.noBody().subscribe(subscriber);
        }
    }
}
