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
 * One run of a model: from the request to the last object in the hierarchy. No window.
 *
 * `call` blocks; `cancel` may be called meanwhile from any thread, the rest when it has returned.
 * `Submission` asks, `JobStream` listens, `Results` changes the hierarchy.
 */
public final class Run {

    private static final long SECOND = 1_000_000_000L;
    private static final long PATIENCE = 15 * SECOND;
    private static final double FOCUS_PX = 64;

    private final IsolineClient client;
    private final Submission submission;
    private final Results results;
    private Consumer<RunStatus> listener = status -> { };
    private Predicate<String> agree = question -> true;
    private Supplier<double[]> view = () -> null;

    private volatile String job;
    private volatile boolean isStopped;
    private volatile long stoppedAt;
    private boolean hasEnded;
    private double[] focus;
    private long looked;

    private String state = "starting";
    private String message = "";
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
        this.client = client;
        this.submission = new Submission(client, image, parent, options);
        this.results = new Results(image, parent, options);
    }

    /** Change the hierarchy through `executor`: the JavaFX thread, where there is a window. */
    public Run on(Executor executor) {
        results.setGui(executor);
        return this;
    }

    /** Tell `listener` how far it is, from the thread of `call`. */
    public Run telling(Consumer<RunStatus> listener) {
        this.listener = listener;
        return this;
    }

    /** Ask `agree` before something slow, such as a large upload. */
    public Run asking(Predicate<String> agree) {
        this.agree = agree;
        return this;
    }

    /** Compute first what is near the x, y that `view` gives, asked again each second. */
    public Run lookingAt(Supplier<double[]> view) {
        this.view = view;
        return this;
    }

    /** Replace `objects` too, as long as nobody has touched them. */
    public Run replacing(Collection<PathObject> objects) {
        results.setReplaceable(objects);
        return this;
    }

    /** Use what an earlier run has uploaded, if there is enough of it; null where there is nothing. */
    Run reusing(Upload.Sent sent) {
        submission.setSent(sent);
        return this;
    }

    /** Run to the end. What was received stays, however it ends. Never throws but for bugs. */
    public RunStatus call() {
        boolean isInterrupted = false;
        try {
            submit();
            follow();
        } catch (InterruptedException | CancellationException e) {
            isInterrupted = e instanceof InterruptedException;
            end("cancelled", "Cancelled.");
        } catch (IOException e) {
            end("failed", client.explain(e));
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

    /** Stop within one tile. What was received stays. */
    public void cancel() {
        stoppedAt = System.nanoTime();
        isStopped = true;
        String running = job;
        if (running != null) {
            background(() -> client.cancel(running));
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

    /** Return what the server has of the image; null where it sees the file. */
    Upload.Sent getSent() {
        return submission.getSent();
    }

    /** Return how often the hierarchy was changed. */
    public int getFlushes() {
        return results.getFlushes();
    }

    /** Return how far it is. */
    public RunStatus status() {
        return new RunStatus(state, message, results.count(), tilesDone, tiles, secondsLeft,
                results.getReader().getRefused());
    }

    private void submit() throws IOException, InterruptedException {
        focus = view.get();
        report("starting", "Asking " + client.getUrl());
        job = submission.submit(focus, words -> report("starting", words), agree, () -> isStopped);
        if (isStopped) {
            cancel();
        }
    }

    /** Take in events to the end of the job, or until the connection is lost for good. */
    private void follow() throws IOException, InterruptedException {
        try (JobStream stream = new JobStream(client, job)) {
            while (!hasEnded && !stream.isLost()) {
                JobEvent event = stream.next();
                if (isStopped && (stream.isBroken() || isPatienceOver())) {
                    throw new CancellationException(); // the server cannot say that it has stopped
                }
                look();
                if (event != null) {
                    take(event);
                }
                boolean isShown = stream.isBroken() ? results.flush() : results.flushIfDue();
                if (stream.isBroken()) {
                    report(state, "Connection lost, trying again");
                } else if (isShown) {
                    report(state, message);
                }
            }
            if (!hasEnded) {
                end("lost", "The connection was lost, what arrived stays: " + stream.getReason());
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
                long bad = said.get("tiles_failed").getAsLong();
                String done = bad == 0 ? "Done." : "Done, but " + bad + " tiles failed.";
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
                break; // of a newer server
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
            background(() -> client.focus(job, there[0], there[1]));
        }
    }

    private boolean isPatienceOver() {
        return System.nanoTime() - stoppedAt > PATIENCE;
    }

    // --- The end -------------------------------------------------------------------------------

    private void endJob(String how, String words) {
        hasEnded = true;
        if (!how.equals("failed")) {
            results.dropPieces(); // the server has said all of their unions
        }
        end(how, words);
    }

    private void end(String how, String words) {
        state = how;
        message = words;
        long refused = results.getReader().getRefused();
        if (refused > 0) {
            message += " QuPath could not read " + refused + " objects: " + results.getReader().getFirstRefusal();
        }
    }

    /** Stop what still runs and show what is still pending. */
    private void finish() {
        try {
            if (job != null && !hasEnded && !state.equals("lost")) {
                client.cancel(job);
            }
        } catch (IOException e) {
            message += " The server could not be told to stop: " + client.explain(e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        try {
            if (state.equals("done")) {
                results.replaceEarlier();
            }
            results.flush();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        report(state, message);
    }

    private void report(String how, String words) {
        state = how;
        message = words;
        listener.accept(status());
    }

    /** A call of the server whose failure changes nothing. */
    private interface Attempt {
        void make() throws IOException, InterruptedException;
    }

    private void background(Attempt attempt) {
        Thread thread = new Thread(() -> {
            try {
                attempt.make();
            } catch (IOException e) {
                System.getLogger("isoline").log(System.Logger.Level.DEBUG, client.explain(e));
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }, "isoline-call");
        thread.setDaemon(true);
        thread.start();
    }
}
