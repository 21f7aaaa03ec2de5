package isoline.qupath;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.CancellationException;
import java.util.concurrent.Executor;
import java.util.function.Consumer;
import java.util.function.Predicate;
import java.util.function.Supplier;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;

/**
 * One run of a model, from the request to the last object in the hierarchy; has no window.
 *
 * A region is submitted as a job, which is followed; prompts are one request with one response.
 * `call` blocks; meanwhile `cancel` may be called from any thread, all other methods only after it
 * has returned. `Submission` creates the request, `JobStream` reads the events, `Results` changes the
 * hierarchy.
 */
public final class Run {

    private static final long SECOND = 1_000_000_000L;
    private static final long PATIENCE = 15 * SECOND;
    private static final long A_MOMENT_MS = 1000;
    private static final double FOCUS_PX = 64;

    private final IsolineClient server;
    /** The same server, with calls that end when the user cancels and that report while they wait. */
    private final IsolineClient client;
    private final Cancellation stop = new Cancellation();
    private final Submission submission;
    private final Results results;
    private final LastJob last;
    private Consumer<RunStatus> listener = status -> { };
    private Predicate<String> agree = question -> true;
    private Supplier<double[]> view = () -> null;

    private volatile String job;
    private volatile long stoppedAt;
    private boolean hasEnded;
    private LatestFocus latestFocus;
    private double[] focus;
    private long looked;

    private long submittedAt;
    /** The number of jobs before this one when it was submitted. */
    private long before;
    private String state = "starting";
    private String message = "";
    private String waiting = "";
    private String warning = "";
    private long tilesDone;
    private long tiles;
    private double secondsLeft = -1;

    /**
     * Prepare a run that adds its objects below `parent`: a selected object, or the root for the slide.
     *
     * `options` are keys of a request: `model` and, optionally, `parameters` and others.
     */
    public Run(IsolineClient client, ImageData<BufferedImage> image, PathObject parent,
            JsonObject options) {
        this.server = client;
        this.client = client.until(stop).telling(words -> await(words));
        this.submission = new Submission(image, parent, options);
        this.results = new Results(image, parent, options);
        this.last = new LastJob(image, parent, options);
    }

    /** Change the hierarchy through `executor`: the JavaFX thread, if there is a window. */
    public Run on(Executor executor) {
        results.setGui(executor);
        return this;
    }

    /** Report the status to `listener`, on the thread of `call` or one that uploads for it. */
    public Run telling(Consumer<RunStatus> listener) {
        this.listener = listener;
        return this;
    }

    /** Ask `agree` before something slow, such as a large upload. */
    public Run asking(Predicate<String> agree) {
        this.agree = agree;
        return this;
    }

    /** Compute tiles near the x, y of `view` first; `view` is called every second. */
    public Run lookingAt(Supplier<double[]> view) {
        this.view = view;
        return this;
    }

    /** Also replace `objects` when the run is done, unless the user has changed them. */
    public Run replacing(Collection<PathObject> objects) {
        results.setReplaceable(objects);
        return this;
    }

    /** Use the upload of an earlier run if it is sufficient; null for none. */
    Run reusing(Upload.Sent sent) {
        submission.setSent(sent);
        return this;
    }

    /** Run to the end and return the final status. Received objects are kept, however it ends. */
    public RunStatus call() {
        boolean isInterrupted = false;
        try {
            stop.check();
            report("starting", "Connecting to " + server.getUrl());
            if (submission.isPrompted()) {
                click();
            } else {
                submit();
                follow();
            }
        } catch (InterruptedException | CancellationException e) {
            isInterrupted = e instanceof InterruptedException;
            end("cancelled", "Cancelled.");
        } catch (Attempts.GaveUp e) {
            boolean isFollowed = job != null;
            end(isFollowed ? "lost" : "failed",
                    (isFollowed ? "The connection was lost; the results so far are kept. " : "") + server.explain(e));
        } catch (IOException e) {
            end("failed", server.explain(e));
        } catch (RuntimeException e) {
            System.getLogger("isoline").log(System.Logger.Level.WARNING, "a run failed", e);
            end("failed", e.getMessage() == null ? e.toString() : e.getMessage());
        } finally {
            isInterrupted = Thread.interrupted() || isInterrupted;
            finish();
        }
        if (isInterrupted) {
            Thread.currentThread().interrupt();
        }
        return status();
    }

    /** Cancel: at once while it waits, otherwise within one tile. Received objects are kept. */
    public void cancel() {
        stoppedAt = System.nanoTime();
        stop.cancel();
        if (job != null) {
            tellToStop();
        }
    }

    /** Remove the objects of this run that the user has not changed; return their number. */
    public int removeResults() {
        try {
            return results.removeUntouched();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return 0;
        }
    }

    /** Return the objects that it has added. */
    public List<PathObject> getResults() {
        return results.getAdded();
    }

    /** Return the upload of the image; null if the server can read the file. */
    Upload.Sent getSent() {
        return submission.getSent();
    }

    /** Return the number of changes of the hierarchy. */
    public int getFlushes() {
        return results.getFlushes();
    }

    /** Return the current status. */
    public RunStatus status() {
        return new RunStatus(state, waiting.isEmpty() ? message : waiting, waiting, results.count(), tilesDone, tiles,
                secondsLeft, results.getReader().getRefused());
    }

    // --- Clicks --------------------------------------------------------------------------------

    /** Segment the object of the prompts. The response is read completely first, so that it can be retried. */
    private void click() throws IOException, InterruptedException {
        List<JobEvent> answer = submission.send(null, client, words -> report("starting", words), agree,
                request -> client.segment(request));
        waiting = "";
        for (JobEvent event : answer) {
            take(event);
        }
    }

    // --- Jobs ----------------------------------------------------------------------------------

    private void submit() throws IOException, InterruptedException {
        focus = view.get();
        results.apply(() -> last.read());
        JsonObject submitted = submission.send(focus, client, words -> report("starting", words), agree,
                request -> last.submit(request, client));
        job = submitted.get("job").getAsString();
        results.apply(() -> last.write(job, false));
        latestFocus = new LatestFocus(server, job);
        if (stop.isCancelled()) {
            tellToStop(); // the job had no id yet when `cancel` was called
        }
        submittedAt = System.nanoTime();
        before = submitted.get("position").getAsLong();
    }

    /** Process events to the end of the job, or until the connection cannot be restored. */
    private void follow() throws IOException, InterruptedException {
        try (JobStream stream = client.follow(job)) {
            while (!hasEnded) {
                JobEvent event = stream.next();
                if (stop.isCancelled() && (stream.isBroken() || isPatienceOver())) {
                    throw new CancellationException(); // the server does not confirm that it has stopped
                }
                look();
                if (event != null) {
                    take(event);
                } else if (state.equals("starting") && !stream.isBroken()) {
                    tellPlace();
                }
                if (stream.isBroken() ? results.flush() : results.flushIfDue()) {
                    report(state, message);
                }
            }
        }
    }

    private void take(JobEvent event) {
        JsonObject said = event.said;
        switch (event.kind) {
            case "started":
                tiles = said.get("tiles").getAsLong();
                for (JsonElement label : said.getAsJsonArray("labels")) {
                    results.addClass(label.getAsJsonObject().get("name").getAsString());
                }
                report("running", "Running");
                break;
            case "contours":
                results.take(event.features, said.getAsJsonArray("replaces"));
                break;
            case "progress":
                tilesDone = said.get("tiles_done").getAsLong();
                tiles = said.get("tiles").getAsLong();
                JsonElement left = said.get("seconds_left");
                secondsLeft = left == null || left.isJsonNull() ? -1 : left.getAsDouble();
                report("running", "Running");
                break;
            case "warned":
                warning = said.get("message").getAsString();
                report("running", warning);
                break;
            case "done":
                long failed = said.get("tiles_failed").getAsLong();
                String done = failed == 0 ? "Done." : "Done, but " + failed + " tiles failed.";
                endJob("done", warning.isEmpty() ? done : done + " " + warning);
                break;
            case "cancelled":
                endJob("cancelled", "Cancelled. The results so far are kept.");
                break;
            case "failed":
                String remedy = said.get("remedy").getAsString();
                endJob("failed", said.get("message").getAsString() +
                        (remedy.isEmpty() ? "" : ". Remedy: " + remedy));
                break;
            default:
                break; // an event of a newer server
        }
    }

    /** Report to the user how long the job has waited, until the server starts it. */
    private void tellPlace() {
        long seconds = Math.floorDiv(System.nanoTime() - submittedAt, SECOND);
        String others = before == 0 ? "" : before == 1 ? "; 1 job came before this one"
                : "; " + before + " jobs came before this one";
        if (seconds > 0) {
            await("Waiting for a place on the server: " + seconds + " s so far" + others + ".");
        }
    }

    /** Move the focus if the user is looking elsewhere. */
    private void look() {
        boolean isSoon = System.nanoTime() - looked < SECOND;
        double[] there = isSoon ? null : view.get();
        if (there == null) {
            return;
        }
        looked = System.nanoTime();
        if (focus == null || Math.hypot(there[0] - focus[0], there[1] - focus[1]) > FOCUS_PX) {
            focus = there;
            latestFocus.look(there[0], there[1]);
        }
    }

    private boolean isPatienceOver() {
        return System.nanoTime() - stoppedAt > PATIENCE;
    }

    /** Cancel the job on the server, in the background, since it may take several attempts. */
    private Thread tellToStop() {
        String running = job;
        return Background.run(() -> {
            server.cancel(running);
            return null;
        }, server);
    }

    // --- The end -------------------------------------------------------------------------------

    private void endJob(String how, String words) {
        hasEnded = true;
        results.dropPieces();
        end(how, words);
    }

    private void end(String how, String words) {
        state = how;
        message = words;
        waiting = "";
        long refused = results.getReader().getRefused();
        if (refused > 0) {
            message += " QuPath could not read " + refused + " objects: " + results.getReader().getFirstRefusal();
        }
    }

    /** Cancel the job if it is still running, and show pending objects. */
    private void finish() {
        try {
            if (job != null) {
                latestFocus.stop();
            }
            if (job != null && !hasEnded && !stop.isCancelled() && !state.equals("lost")) {
                tellToStop().join(A_MOMENT_MS); // a headless process may exit right after this
            }
            boolean isDone = state.equals("done");
            if (isDone && !last.isFullyReplaced()) {
                results.replaceAll();
            }
            results.flush();
            if (job != null && hasEnded) {
                boolean isWhole = isDone || last.isFullyReplaced() || !results.hasEarlier();
                results.apply(() -> last.write(job, isWhole));
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        report(state, message);
    }

    private synchronized void report(String how, String words) {
        state = how;
        message = words;
        waiting = "";
        listener.accept(status());
    }

    /** Report what it waits for and how long; an empty text ends the wait. */
    private synchronized void await(String words) {
        waiting = words;
        listener.accept(status());
    }
}
