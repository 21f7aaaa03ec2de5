package isoline.qupath;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CancellationException;
import java.util.function.Consumer;

/**
 * A client of one isoline server, which retries requests by the policy of the protocol.
 *
 * Independent of QuPath and JavaFX. Thread-safe.
 */
public final class IsolineClient {

    /** A large tile on a slow connection takes longer than the timeout for a response. */
    private static final long SLOWEST_UPLOAD_BYTES_PER_S = 65_536;

    private final ServerConnection server;
    private final RetryPolicy policy;
    private final Cancellation stop;
    private final Consumer<String> say;

    /** Use the server at `url`, as typed by a user: perhaps without http://, with a slash or /v1 at the end. */
    public IsolineClient(String url, String token) {
        this(new ServerConnection(url, token), RetryPolicy.ofProtocol(), new Cancellation(), words -> { });
    }

    private IsolineClient(ServerConnection server, RetryPolicy policy, Cancellation stop, Consumer<String> say) {
        this.server = server;
        this.policy = policy;
        this.stop = stop;
        this.say = say;
    }

    /** Return a client of the same server that follows `policy`. */
    public IsolineClient following(RetryPolicy policy) {
        return new IsolineClient(server, policy, stop, say);
    }

    /** Return a client of the same server whose calls throw a CancellationException once `stop` is cancelled. */
    public IsolineClient until(Cancellation stop) {
        return new IsolineClient(server, policy, stop, say);
    }

    /**
     * Return a client of the same server that reports to `say` what it waits for and how long.
     *
     * `say` receives an empty text when the wait is over, and is called on the waiting thread.
     */
    public IsolineClient telling(Consumer<String> say) {
        return new IsolineClient(server, policy, stop, say);
    }

    /** Return the normalised address of the server. */
    public String getUrl() {
        return server.url;
    }

    /** Return a message for the user about an error in a call of this server. */
    public String explain(Exception error) {
        return Explanation.of(error, server.url, !server.token.isEmpty());
    }

    // --- Routes --------------------------------------------------------------------------------

    /** Return the models, each with `name`, `title`, `parameters`, `problem` and others. */
    public List<JsonObject> models() throws IOException, InterruptedException {
        List<JsonObject> models = new ArrayList<>();
        for (JsonElement model : answer(Question.of("GET", "/v1/models")).getAsJsonArray("models")) {
            models.add(model.getAsJsonObject());
        }
        return models;
    }

    /** Queue a request and return its job; every attempt has the same `Idempotency-Key`. */
    public JsonObject submit(JsonObject request) throws IOException, InterruptedException {
        stop.check();
        Question submission = Question.of("POST", "/v1/jobs", request)
                .with("Idempotency-Key", UUID.randomUUID().toString());
        try {
            return answer(submission);
        } catch (InterruptedException | CancellationException e) {
            // the server may have created the job although its response was not received
            Background.run(() -> withdraw(submission), this);
            throw e;
        }
    }

    /**
     * Segment the object that prompts indicate, and return all events of the response.
     *
     * Nothing is stored. Cancelling closes the connection, which also ends the work on the server.
     */
    List<JobEvent> segment(JsonObject request) throws IOException, InterruptedException {
        Question question = Question.of("POST", "/v1/segment", request);
        return attempts(policy.request).run(() -> readToEnd(server.open(question, policy, stop)));
    }

    /** Follow the events of a job; the stream is resumed whenever the connection breaks. */
    JobStream follow(String job) {
        return new JobStream(job, (after) -> events(job, after), attempts(policy.stream));
    }

    /** Move the focus to a point in image pixels: the tiles nearest to it are computed first. */
    public void focus(String job, double x, double y) throws IOException, InterruptedException {
        JsonArray point = new JsonArray();
        point.add(x);
        point.add(y);
        JsonObject body = new JsonObject();
        body.add(RequestKeys.FOCUS, point);
        answer(Question.of("PATCH", "/v1/jobs/" + job, body));
    }

    /** Cancel a job; its results so far are kept. */
    public void cancel(String job) throws IOException, InterruptedException {
        answer(Question.of("DELETE", "/v1/jobs/" + job));
    }

    /** Announce the upload of an image for a request; return the pixels that the server needs. */
    public JsonObject announce(JsonObject upload) throws IOException, InterruptedException {
        return answer(Question.of("POST", "/v1/uploads", upload));
    }

    /** Send one tile of an upload; it is retried as long as a stream, or earlier tiles would be lost too. */
    public void sendTile(String upload, int level, int column, int row, byte[] png)
            throws IOException, InterruptedException {
        String place = String.join("/", "/v1/uploads", upload, "tiles",
                String.valueOf(level), String.valueOf(column), String.valueOf(row));
        Question tile = new Question("PUT", place, png).with("Content-Type", "image/png");
        Duration silence = policy.silence.plusSeconds(Math.floorDiv((long) tile.size(), SLOWEST_UPLOAD_BYTES_PER_S));
        attempts(policy.stream).run(() -> server.send(tile, silence, policy, stop));
    }

    /** Return a message about whether this server can be used, and if not, why. Never throws or retries. */
    public String test() {
        IsolineClient once = following(policy.once());
        try {
            JsonObject health = once.answer(Question.of("GET", "/v1/health"));
            if (!health.has("workers")) {
                throw server.notIsoline(200, Duration.ZERO);
            }
            int usable = 0;
            for (JsonObject model : once.models()) {
                usable += model.get("problem") == null || model.get("problem").isJsonNull() ? 1 : 0;
            }
            boolean isReady = "ready".equals(health.get("status").getAsString());
            return "Connected to isoline " + health.get("version").getAsString() + ": " + usable +
                    " models" + (isReady ? "." : ", its workers are still starting.");
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return "The test was interrupted.";
        } catch (IOException | RuntimeException e) {
            return explain(e);
        }
    }

    // --- Attempts ------------------------------------------------------------------------------

    private JsonObject answer(Question question) throws IOException, InterruptedException {
        return attempts(policy.request).run(() -> server.json(server.send(question, policy.silence, policy, stop)));
    }

    private LineReader events(String job, long after) throws IOException, InterruptedException {
        return server.open(Question.of("GET", "/v1/jobs/" + job + "/events?after=" + after), policy, stop);
    }

    private List<JobEvent> readToEnd(LineReader answer) throws IOException, InterruptedException {
        List<JobEvent> events = new ArrayList<>();
        long began = policy.nanoTime();
        try (LineReader lines = answer) {
            stop.whenCancelled(() -> lines.close());
            while (events.isEmpty() || !events.get(events.size() - 1).isLast()) {
                String line = lines.next();
                stop.check();
                if (line != null && !line.isEmpty()) {
                    events.add(JobEvent.read(line));
                } else {
                    long seconds = Duration.ofNanos(policy.nanoTime() - began).toSeconds();
                    say.accept("Waiting for " + server.url + " to answer: " + seconds + " s so far.");
                }
            }
        }
        return events;
    }

    /** Cancel the job of a submission whose response was not awaited. */
    private Void withdraw(Question submission) throws IOException, InterruptedException {
        IsolineClient unhurried = until(new Cancellation()).telling(words -> { });
        byte[] answer = server.send(submission, policy.silence, policy, unhurried.stop);
        unhurried.cancel(server.json(answer).get("job").getAsString());
        return null;
    }

    private Attempts attempts(Duration patience) {
        return new Attempts(policy, patience, stop, new Attempts.Listener() {

            @Override
            public void lost(IOException failure, Duration pause, Duration left) {
                say.accept(Explanation.sentence(explain(failure)) + " Trying again in " + wholeSeconds(pause) +
                        " s, for another " + wholeSeconds(left) + " s at most.");
            }

            @Override
            public void back() {
                say.accept("");
            }
        });
    }

    private static long wholeSeconds(Duration duration) {
        return duration.plusMillis(999).toSeconds();
    }
}
