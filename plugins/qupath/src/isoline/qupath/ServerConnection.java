package isoline.qupath;

import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;

/** The HTTP connection to one isoline server, without retries. Thread-safe. */
final class ServerConnection {

    private static final Duration CONNECT = Duration.ofSeconds(5);

    /** The address of the server, without a trailing slash. */
    final String url;
    final String token;
    private final HttpClient http = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1).connectTimeout(CONNECT).build();

    /** Use the address `typed` by a user: perhaps without http://, with a slash or /v1 at the end. */
    ServerConnection(String typed, String token) {
        String trimmed = typed == null ? "" : typed.trim();
        String whole = trimmed.contains("://") ? trimmed : "http://" + trimmed;
        this.url = whole.replaceFirst("/+(v1(/.*)?)?\\z", "");
        this.token = token == null ? "" : token.trim();
    }

    /**
     * Return the lines of the response as they arrive.
     *
     * Throws Refused for an error response, and an HttpTimeoutException if no response begins within
     * `policy.silence`.
     */
    LineReader open(Question question, RetryPolicy policy, Cancellation stop)
            throws IOException, InterruptedException {
        LineReader lines = new LineReader(policy.silence);
        boolean isOpen = false;
        try {
            checkFine(exchange(question, policy.silence, stop, info ->
                    isFine(info.statusCode()) ? lines : HttpResponse.BodySubscribers.ofByteArray()), policy);
            isOpen = true;
        } catch (IOException e) {
            isOpen = lines.hasBegun(); // it has already broken off, but the lines received are valid
            if (!isOpen) {
                throw e;
            }
        } finally {
            if (!isOpen) {
                lines.close();
            }
        }
        return lines;
    }

    /**
     * Return the body of the response, which must be complete within `silence`.
     *
     * Throws Refused for an error response.
     */
    byte[] send(Question question, Duration silence, RetryPolicy policy, Cancellation stop)
            throws IOException, InterruptedException {
        HttpResponse<byte[]> answer =
                exchange(question, silence, stop, HttpResponse.BodyHandlers.ofByteArray());
        checkFine(answer, policy);
        return answer.body();
    }

    /** Return the JSON object in the body of a response. Throws IOException if it is incomplete, or Refused. */
    JsonObject json(byte[] body) throws IOException {
        String text = new String(body, StandardCharsets.UTF_8).trim();
        try {
            return JsonParser.parseString(text).getAsJsonObject();
        } catch (JsonParseException | IllegalStateException e) {
            if (text.isEmpty() || text.startsWith("{")) {
                throw new IOException("the response is incomplete");
            }
            throw notIsoline(200, Duration.ZERO);
        }
    }

    /** Return the error for a response that is not from isoline. */
    Refused notIsoline(int status, Duration retryAfter) {
        if (status == 429 || status > 500) {
            return new Refused(status, "NotIsoline",
                    "HTTP " + status + " from " + url + ": a proxy answers there instead of isoline", retryAfter);
        }
        return new Refused(status, "NotIsoline",
                "Something answers at " + url + " (HTTP " + status + "), but it is not isoline. " +
                "Is the port right" + (status == 400 && url.startsWith("http:") ? ", or is it https://?" : "?"),
                retryAfter);
    }

    /** Send a request; `silence` is counted from when it is sent, not while it connects. */
    private HttpResponse<byte[]> exchange(Question question, Duration silence, Cancellation stop,
            HttpResponse.BodyHandler<byte[]> handler) throws IOException, InterruptedException {
        HttpRequest.Builder request = request(question.path);
        Outgoing outgoing = question.write(request);
        CompletableFuture<HttpResponse<byte[]>> answer = http.sendAsync(request.build(), handler);
        try {
            stop.await(CompletableFuture.anyOf(outgoing.begun, answer), silence);
            return stop.await(answer, silence);
        } finally {
            answer.cancel(true);
        }
    }

    private HttpRequest.Builder request(String path) throws Refused {
        HttpRequest.Builder request;
        try {
            request = HttpRequest.newBuilder(URI.create(url + path));
        } catch (IllegalArgumentException e) {
            throw new Refused(0, "NoAddress",
                    "\"" + url + "\" is not an address; write one like http://127.0.0.1:8765", Duration.ZERO);
        }
        request.header("Accept", "application/x-ndjson, application/json");
        if (!token.isEmpty()) {
            request.header("Authorization", "Bearer " + token);
        }
        return request;
    }

    private static boolean isFine(int status) {
        return status >= 200 && status < 300;
    }

    private void checkFine(HttpResponse<byte[]> answer, RetryPolicy policy) throws Refused {
        if (!isFine(answer.statusCode())) {
            throw refusal(answer, policy);
        }
    }

    private Refused refusal(HttpResponse<byte[]> answer, RetryPolicy policy) {
        int status = answer.statusCode();
        Duration retryAfter = policy.retryAfter(answer.headers().firstValue("Retry-After").orElse(""));
        if (status >= 300 && status < 400) {
            String elsewhere = answer.headers().firstValue("Location").orElse("another address");
            return new Refused(status, "Moved", url + " points to " + elsewhere + ": write that address", retryAfter);
        }
        try {
            String text = new String(answer.body(), StandardCharsets.UTF_8);
            JsonObject said = JsonParser.parseString(text).getAsJsonObject();
            String remedy = said.get("remedy").getAsString();
            return new Refused(status, said.get("code").getAsString(),
                    said.get("detail").getAsString() + (remedy.isEmpty() ? "" : ". Remedy: " + remedy), retryAfter);
        } catch (JsonParseException | IllegalStateException | NullPointerException e) {
            return notIsoline(status, retryAfter);
        }
    }
}
