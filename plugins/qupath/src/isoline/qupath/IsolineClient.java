package isoline.qupath;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.InputStream;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpConnectTimeoutException;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpTimeoutException;
import java.nio.channels.UnresolvedAddressException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import javax.net.ssl.SSLException;

/** One isoline server, over HTTP. Knows neither QuPath nor a window; safe to use from any thread. */
public final class IsolineClient {

    /** The server understood and said no, or something else than isoline answered. */
    public static final class Refused extends IOException {

        private static final long serialVersionUID = 1L;

        /** HTTP status. */
        public final int status;
        /** What to compare: stable across versions. */
        public final String code;

        Refused(int status, String code, String message) {
            super(message);
            this.status = status;
            this.code = code;
        }

        /** Return this with more to say. */
        Refused with(String words) {
            return new Refused(status, code, getMessage() + words);
        }
    }

    private static final Duration CONNECT = Duration.ofSeconds(5);
    private static final Duration ANSWER = Duration.ofSeconds(60);

    private final String url;
    private final String token;
    private final HttpClient http = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1).connectTimeout(CONNECT).build();

    /** `url` may be what a user types: without http://, with a slash or /v1 at the end. */
    public IsolineClient(String url, String token) {
        String typed = url == null ? "" : url.trim();
        String whole = typed.contains("://") ? typed : "http://" + typed;
        this.url = whole.replaceFirst("/+(v1(/.*)?)?\\z", "");
        this.token = token == null ? "" : token.trim();
    }

    /** Return the address of the server, as it is used. */
    public String getUrl() {
        return url;
    }

    /** Return what the server can run: each with `name`, `title`, `parameters`, `problem`. */
    public List<JsonObject> models() throws IOException, InterruptedException {
        List<JsonObject> models = new ArrayList<>();
        for (JsonElement model : call("GET", "/v1/models", null).getAsJsonArray("models")) {
            models.add(model.getAsJsonObject());
        }
        return models;
    }

    /** Queue a request and return its job. */
    public JsonObject submit(JsonObject request) throws IOException, InterruptedException {
        return call("POST", "/v1/jobs", request);
    }

    /** Say which pixels are about to be uploaded and for what; return which are wanted. */
    public JsonObject announce(JsonObject upload) throws IOException, InterruptedException {
        return call("POST", "/v1/uploads", upload);
    }

    /** Send one tile of an upload. */
    public void sendTile(String upload, int level, int column, int row, byte[] png)
            throws IOException, InterruptedException {
        String place = String.join("/", "/v1/uploads", upload, "tiles",
                String.valueOf(level), String.valueOf(column), String.valueOf(row));
        HttpRequest request = to(place).PUT(HttpRequest.BodyPublishers.ofByteArray(png))
                .timeout(ANSWER).build();
        try (InputStream body = send(request)) {
            body.readAllBytes();
        }
    }

    /** Return the stream of what a job says after event number `after`: one event a line. */
    public InputStream events(String job, long after) throws IOException, InterruptedException {
        return send(to("/v1/jobs/" + job + "/events?after=" + after).GET().build());
    }

    /** Look at a point of the image from now on: tiles nearest to it run first. */
    public void focus(String job, double x, double y) throws IOException, InterruptedException {
        JsonArray point = new JsonArray();
        point.add(x);
        point.add(y);
        JsonObject body = new JsonObject();
        body.add("focus", point);
        call("PATCH", "/v1/jobs/" + job, body);
    }

    /** Stop a job; what it has found stays. */
    public void cancel(String job) throws IOException, InterruptedException {
        call("DELETE", "/v1/jobs/" + job, null);
    }

    /** Say in words whether this server can be used, and if not, why. Never throws. */
    public String test() {
        try {
            JsonObject health = call("GET", "/v1/health", null);
            if (!health.has("workers")) {
                throw notIsoline(200);
            }
            int usable = 0;
            for (JsonObject model : models()) {
                usable += model.get("problem") == null || model.get("problem").isJsonNull() ? 1 : 0;
            }
            boolean ready = "ready".equals(health.get("status").getAsString());
            return "Connected to isoline " + health.get("version").getAsString() + ": " + usable +
                    " models" + (ready ? "." : ", its workers are still starting.");
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return "The test was interrupted.";
        } catch (IOException | RuntimeException e) {
            return explain(e);
        }
    }

    /** Say in words what went wrong when this server was called. */
    public String explain(Exception error) {
        if (error instanceof Refused) {
            Refused refused = (Refused) error;
            if (refused.status == 401) {
                return (token.isEmpty() ? "The server wants a token, and none is set."
                        : "The server does not accept this token.") + " Enter the one of " + url +
                        ": whoever runs the server knows it.";
            }
            return refused.getMessage();
        }
        if (error instanceof HttpConnectTimeoutException || error instanceof HttpTimeoutException) {
            return url + " does not answer. Is the address right, and does a firewall let it through?";
        }
        if (error instanceof ConnectException) {
            return isUnresolved(error)
                    ? "There is no machine of that name: " + url
                    : "Nothing answers at " + url +
                            ". Is `isoline serve` running there, and is the port right?";
        }
        if (error instanceof SSLException) {
            return url + " does not speak https properly; if it speaks http, write http:// (" +
                    error.getMessage() + ")";
        }
        String said = error.getMessage() == null ? error.getClass().getSimpleName() : error.getMessage();
        return "No proper answer from " + url + ": " + said + httpsHint();
    }

    private String httpsHint() {
        return url.startsWith("http:") ? ". If it is a server with https, write https://" : "";
    }

    private static boolean isUnresolved(Throwable error) {
        Throwable cause = error;
        while (cause != null && !(cause instanceof UnresolvedAddressException)) {
            cause = cause.getCause();
        }
        return cause != null;
    }

    private JsonObject call(String method, String path, JsonObject body)
            throws IOException, InterruptedException {
        HttpRequest.BodyPublisher sent = body == null ? HttpRequest.BodyPublishers.noBody()
                : HttpRequest.BodyPublishers.ofString(body.toString());
        HttpRequest.Builder request = to(path).timeout(ANSWER).method(method, sent);
        if (body != null) {
            request.header("Content-Type", "application/json");
        }
        try (InputStream answer = send(request.build())) {
            String text = new String(answer.readAllBytes(), StandardCharsets.UTF_8);
            return JsonParser.parseString(text).getAsJsonObject();
        } catch (JsonParseException | IllegalStateException e) {
            throw notIsoline(200);
        }
    }

    private HttpRequest.Builder to(String path) throws Refused {
        HttpRequest.Builder request;
        try {
            request = HttpRequest.newBuilder(URI.create(url + path));
        } catch (IllegalArgumentException e) {
            throw new Refused(0, "NoAddress",
                    "\"" + url + "\" is no address; write one like http://127.0.0.1:8765");
        }
        request.header("Accept", "application/x-ndjson, application/json");
        if (!token.isEmpty()) {
            request.header("Authorization", "Bearer " + token);
        }
        return request;
    }

    private InputStream send(HttpRequest request) throws IOException, InterruptedException {
        HttpResponse<InputStream> response =
                http.send(request, HttpResponse.BodyHandlers.ofInputStream());
        int status = response.statusCode();
        if (status >= 200 && status < 300) {
            return response.body();
        }
        if (status >= 300 && status < 400) {
            String elsewhere = response.headers().firstValue("Location").orElse("another address");
            throw new Refused(status, "Moved", url + " points to " + elsewhere + ": write that address");
        }
        try (InputStream body = response.body()) {
            String text = new String(body.readAllBytes(), StandardCharsets.UTF_8);
            JsonObject said = JsonParser.parseString(text).getAsJsonObject();
            String remedy = said.get("remedy").getAsString();
            throw new Refused(status, said.get("code").getAsString(),
                    said.get("detail").getAsString() + (remedy.isEmpty() ? "" : ". Remedy: " + remedy));
        } catch (JsonParseException | IllegalStateException | NullPointerException e) {
            throw notIsoline(status);
        }
    }

    private Refused notIsoline(int status) {
        return new Refused(status, "NotIsoline",
                "Something answers at " + url + " (HTTP " + status + "), but it is not isoline. " +
                "Is the port right" + (status == 400 && url.startsWith("http:") ? ", or is it https://?" : "?"));
    }
}
