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
 * One run of a model: from the request to the last object in the hierarchy; has no window.
 *
 * A region is a job of the server, which is followed; prompts are one question, which is answered.
 * `call` blocks; `cancel` may be called meanwhile from any thread, everything else once it has
 * returned. `Submission` makes the request, `JobStream` brings the events, `Results` changes the
 * hierarchy.
 */
public final class Run {

    private static final long SECOND = 1_000_000_000L;
    private static final long PATIENCE = 15 * SECOND;
    private static final long A_MOMENT_MS = 1000;
    private static final double FOCUS_PX = 64;

    private final IsolineClient server;
    /** The same, until the user stops this run, and heard while it waits. */
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
    /** How many jobs waited before this one when it was submitted. */
    private long before;
    private String state = "starting";
    private String message = "";
    private String waiting = "";
    private String warning = "";
    private long tilesDone;
    private long tiles;
    private double secondsLeft = -1;

    /**
     * Prepare a run whose objects go below `parent`: a selected object, or the root for the slide.
     *
     * `options` are keys of a request: `model`, and `parameters` and others where given.
     */
    public Run(IsolineClient client, ImageData<BufferedImage> image, PathObject parent,
            JsonObject options) {
        this.server = client;
        this.client = client.until(stop).telling(words -> await(words));
        this.submission = new Submission(image, parent, options);
        this.results = new Results(image, parent, options);
        this.last = new LastJob(image, parent, options);
    }

    /** Change the hierarchy through `executor`: the JavaFX thread, where there is a window. */
    public Run on(Executor executor) {
        results.setGui(executor);
        return this;
    }

    /** Tell `listener` how far it is, from the thread of `call`, or one that uploads for it. */
    public Run telling(Consumer<RunStatus> listener) {
        this.listener = listener;
        return this;
    }

    /** Ask `agree` before something slow, such as a large upload. */
    public Run asking(Predicate<String> agree) {
        this.agree = agree;
        return this;
    }

    /** Compute what is near the x, y of `view` first; `view` is asked every second. */
    public Run lookingAt(Supplier<double[]> view) {
        this.view = view;
        return this;
    }

    /** Replace `objects` too when it is done, unless someone has touched them. */
    public Run replacing(Collection<PathObject> objects) {
        results.setReplaceable(objects);
        return this;
    }

    /** Use what an earlier run has uploaded, if that is enough; null for nothing. */
    Run reusing(Upload.Sent sent) {
        submission.setSent(sent);
        return this;
    }

    /** Run to the end. What was received stays, however it ends. Never throws but for bugs. */
    public RunStatus call() {
        boolean isInterrupted = false;
        try {
            stop.check();
            report("starting", "Asking " + server.getUrl());
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
                    (isFollowed ? "The connection was lost; what arrived stays. " : "") + server.explain(e));
        } catch (IOException e) {
            end("failed", server.explain(e));
        } catch (RuntimeException e) {
            System.getLogger("isoline").log(System.Logger.Level.WARNING, "a run ended", e);
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

    /** Stop: at once while it waits, else within one tile. What was received stays. */
    public void cancel() {
        stoppedAt = System.nanoTime();
        stop.cancel();
        if (job != null) {
            tellToStop();
        }
    }

    /** Take back what this run added and nobody changed; return how many objects that were. */
    public int removeResults() {
        try {
            return results.removeUntouched();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return 0;
        }
    }

    /** Return what it has added. */
    public List<PathObject> getResults() {
        return results.getAdded();
    }

    /** Return what was uploaded of the image; null where the server sees the file. */
    Upload.Sent getSent() {
        return submission.getSent();
    }

    /** Return how often the hierarchy was changed. */
    public int getFlushes() {
        return results.getFlushes();
    }

    /** Return how far it is. */
    public RunStatus status() {
        return new RunStatus(state, waiting.isEmpty() ? message : waiting, waiting, results.count(), tilesDone, tiles,
                secondsLeft, results.getReader().getRefused());
    }

    // --- Clicks --------------------------------------------------------------------------------

    /** Ask what the prompts point at. The answer is taken up whole, so that it can be asked for again. */
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
            tellToStop(); // `cancel` did not know the job yet
        }
        submittedAt = System.nanoTime();
        before = submitted.get("position").getAsLong();
    }

    /** Take in events to the end of the job, or until the connection is lost for good. */
    private void follow() throws IOException, InterruptedException {
        try (JobStream stream = client.follow(job)) {
            while (!hasEnded) {
                JobEvent event = stream.next();
                if (stop.isCancelled() && (stream.isBroken() || isPatienceOver())) {
                    throw new CancellationException(); // the server cannot say that it has stopped
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
                endJob("cancelled", "Cancelled. What arrived stays.");
                break;
            case "failed":
                String remedy = said.get("remedy").getAsString();
                endJob("failed", said.get("message").getAsString() +
                        (remedy.isEmpty() ? "" : ". Remedy: " + remedy));
                break;
            default:
                break; // one of a newer server
        }
    }

    /** Tell the user who waits for what and how long, until the server begins. */
    private void tellPlace() {
        long seconds = Math.floorDiv(System.nanoTime() - submittedAt, SECOND);
        String others = before == 0 ? "" : before == 1 ? "; 1 job came before this one"
                : "; " + before + " jobs came before this one";
        if (seconds > 0) {
            await("Waiting for a place on the server: " + seconds + " s so far" + others + ".");
        }
    }

    /** Tell the server when the user looks elsewhere. */
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

    /** Have the server stop the job, in the background: it may take several attempts. */
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

    /** Stop what still runs and show what is still pending. */
    private void finish() {
        try {
            if (job != null) {
                latestFocus.stop();
            }
            if (job != null && !hasEnded && !stop.isCancelled() && !state.equals("lost")) {
                tellToStop().join(A_MOMENT_MS); // a process without a window may end right after this
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

    /** Tell what it waits for and how long; an empty text says that this is over. */
    private synchronized void await(String words) {
        waiting = words;
        listener.accept(status());
    }
}
