package isoline.qupath;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.awt.image.BufferedImage;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CancellationException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Predicate;
import java.util.function.Supplier;
import java.util.regex.Pattern;
import qupath.lib.images.ImageData;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.images.servers.PixelCalibration;
import qupath.lib.io.GsonTools;
import qupath.lib.io.PathIO;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;

/**
 * One run of a model: from the request to the last object in the hierarchy. No window.
 *
 * `call` blocks; the other methods may be called meanwhile from any thread.
 */
public final class Run {

    /** How far a run is, or how it ended. */
    public static final class Status {
        /** One of "starting", "running", "done", "failed", "cancelled", "lost". */
        public final String state;
        /** In words, for the user. */
        public final String message;
        public final long objects;
        public final long tilesDone;
        public final long tiles;
        /** Seconds; negative where nobody knows. */
        public final double secondsLeft;
        /** Features that QuPath could not read. */
        public final long refused;

        Status(String state, String message, long objects, long tilesDone, long tiles,
                double secondsLeft, long refused) {
            this.state = state;
            this.message = message;
            this.objects = objects;
            this.tilesDone = tilesDone;
            this.tiles = tiles;
            this.secondsLeft = secondsLeft;
            this.refused = refused;
        }
    }

    private static final long SECOND = 1_000_000_000L;
    private static final long SILENCE = 15 * SECOND;
    private static final long LONGEST_PAUSE = 20 * SECOND;
    private static final int MOST_PENDING = 100_000;
    private static final int MOST_LINES = 16;
    private static final String NO_MORE = "no more";
    private static final int RETRIES = 6;
    private static final double FOCUS_PX = 64;
    private static final Pattern METADATA = Pattern.compile(",\"metadata\":\\{[^{}]*\\}");
    private static final String DETECTION = "[{\"type\":\"Feature\",\"geometry\":{\"type\":\"Polygon\"," +
            "\"coordinates\":[[[0,0],[0,1],[1,1],[0,0]]]},\"properties\":{\"objectType\":\"detection\"}}]";

    private final IsolineClient client;
    private final ImageData<BufferedImage> image;
    private final PathObject parent;
    private final JsonObject options;

    private Executor gui = work -> work.run();
    private Consumer<Status> listener = status -> { };
    private Predicate<String> agree = question -> true;
    private Supplier<double[]> view = () -> null;
    private Collection<PathObject> replaceable = List.of();
    private Upload.Sent sent;

    private volatile boolean stopped;
    private volatile long stoppedAt;
    private boolean hasEnded;
    private boolean hasFailed;
    private volatile String job;
    private long after = -1;
    private double[] focus;
    private long looked;

    private final List<PathObject> pending = new ArrayList<>();
    private final List<PathObject> added = new ArrayList<>();
    /** Provisional pieces by id, until their union replaces them. */
    private final Map<String, PathObject> pieces = new HashMap<>();
    private final Set<PathObject> replaced = new HashSet<>();
    /** Objects of earlier runs that stay: their ids are taken. */
    private final Set<String> kept = new HashSet<>();
    private final Set<String> classes = new HashSet<>();
    /** Of an older QuPath, see `Marks`. */
    private final boolean hasForgetful = !canRemember();
    private boolean hasReplacedEarlier;
    private long lastFlush;
    private long flushPause;
    private int flushes;

    private String state = "starting";
    private String message = "";
    private String warning = "";
    private long tilesDone;
    private long tiles;
    private double secondsLeft = -1;
    private long refused;
    private String firstRefusal = "";

    /**
     * Prepare a run whose objects go below `parent`: a selected object, or the root for the slide.
     *
     * `options` are keys of a request: `model`, and `parameters` and others where given.
     */
    public Run(IsolineClient client, ImageData<BufferedImage> image, PathObject parent,
            JsonObject options) {
        this.client = client;
        this.image = image;
        this.parent = parent;
        this.options = options;
    }

    /** Change the hierarchy through `executor`: the JavaFX thread, where there is a window. */
    public Run on(Executor executor) {
        this.gui = executor;
        return this;
    }

    /** Tell `listener` how far it is, from the thread of `call`. */
    public Run telling(Consumer<Status> listener) {
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
        this.replaceable = objects;
        return this;
    }

    /** Use what an earlier run has uploaded, if there is enough of it; null where there is nothing. */
    Run reusing(Upload.Sent sent) {
        this.sent = sent;
        return this;
    }

    /** Run to the end. What was received stays, however it ends. Never throws but for bugs. */
    public Status call() {
        boolean interrupted = false;
        try {
            focus = view.get();
            submit();
            follow();
        } catch (InterruptedException | CancellationException e) {
            interrupted = e instanceof InterruptedException;
            end("cancelled", "Cancelled.");
        } catch (IOException | IllegalArgumentException e) {
            end("failed", client.explain(e));
        } catch (RuntimeException e) {
            System.getLogger("isoline").log(System.Logger.Level.WARNING, "a run ended", e);
            end("failed", e.getMessage() == null ? e.toString() : e.getMessage());
        } finally {
            interrupted = Thread.interrupted() || interrupted;
            finish();
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
        return status();
    }

    /** Stop within one tile. What was received stays. */
    public void cancel() {
        stopped = true;
        stoppedAt = System.nanoTime();
        String running = job;
        if (running != null) {
            background(() -> client.cancel(running));
        }
    }

    /** Take back what this run added and nobody changed; return how many objects that were. */
    public int removeResults() {
        List<PathObject> mine = new ArrayList<>();
        apply(() -> {
            for (PathObject object : added) {
                if (object.getParent() != null && Marks.isUntouched(object)) {
                    mine.add(object);
                }
            }
            added.clear();
            remove(mine);
            changed();
        });
        return mine.size();
    }

    /** Return what it has added. */
    public List<PathObject> getResults() {
        return new ArrayList<>(added);
    }

    /** Return what the server has of the image; null where it sees the file. */
    Upload.Sent getSent() {
        return sent;
    }

    /** Return how often the hierarchy was changed. */
    public int getFlushes() {
        return flushes;
    }

    /** Return how far it is. */
    public Status status() {
        return new Status(state, message, added.size() + pending.size(), tilesDone, tiles,
                secondsLeft, refused);
    }

    // --- The request ---------------------------------------------------------------------------

    private void submit() throws IOException, InterruptedException {
        JsonObject request = request();
        report("starting", "Asking " + client.getUrl());
        try {
            if (sent != null && sent.isAround(request.getAsJsonArray("prompts"))) {
                pointAtUpload(request);
            } else if (!request.has("image")) {
                upload(request);
            }
            job = client.submit(request).get("job").getAsString();
        } catch (IsolineClient.Refused e) {
            if (!e.code.equals("UnknownImage") && !e.code.equals("WrongImage")) {
                throw e;
            }
            upload(request);
            job = client.submit(request).get("job").getAsString();
        }
        if (stopped) {
            cancel();
        }
    }

    private JsonObject request() {
        ImageServer<BufferedImage> server = image.getServer();
        JsonObject request = options.deepCopy();
        request.addProperty("format", "qupath");
        String uri = fileUri(server);
        if (uri != null) {
            request.addProperty("image", uri);
            JsonArray size = new JsonArray();
            size.add(server.getWidth());
            size.add(server.getHeight());
            request.add("image_size", size);
        }
        JsonArray spacing = spacing(server);
        if (spacing != null) {
            request.add("spacing_um", spacing);
        }
        if (server.nZSlices() > 1) {
            request.addProperty("z", plane());
        }
        if (parent.getROI() != null && parent.getROI().isArea()) {
            // toJsonTree throws in QuPath 0.6 and 0.7
            String feature = GsonTools.getInstance().toJson(parent, PathObject.class);
            request.add("region", JsonParser.parseString(feature).getAsJsonObject().get("geometry"));
        }
        if (focus != null) {
            JsonArray point = new JsonArray();
            point.add(focus[0]);
            point.add(focus[1]);
            request.add("focus", point);
        }
        return request;
    }

    private void upload(JsonObject request) throws IOException, InterruptedException {
        ImageServer<BufferedImage> server = image.getServer();
        int t = parent.getROI() == null ? 0 : parent.getROI().getT();
        Upload upload = new Upload(client, server, plane(), t);
        sent = upload.send(request, spacing(server), words -> report("starting", words), agree, () -> stopped);
        pointAtUpload(request);
    }

    private void pointAtUpload(JsonObject request) {
        request.addProperty("image", sent.image);
        request.remove("image_size"); // those are of the file that the server does not see
        request.remove("z");
    }

    private int plane() {
        if (options.has("z")) {
            return options.get("z").getAsInt();
        }
        return parent.getROI() == null ? 0 : parent.getROI().getZ();
    }

    /** Return where the file is, null where there is none that shows what the viewer shows. */
    private static String fileUri(ImageServer<BufferedImage> server) {
        // a slide that QuPath shows turned has the size and the URI of the file and other pixels
        String type = server.getServerType().toLowerCase();
        Collection<URI> uris = server.getURIs();
        if (type.contains("rotat") || type.contains("transform") || uris.size() != 1) {
            return null;
        }
        String uri = uris.iterator().next().toString();
        return uri.startsWith("file:") ? uri : null;
    }

    private static JsonArray spacing(ImageServer<BufferedImage> server) {
        PixelCalibration calibration = server.getPixelCalibration();
        if (!calibration.hasPixelSizeMicrons()) {
            return null;
        }
        JsonArray spacing = new JsonArray();
        spacing.add(calibration.getPixelWidthMicrons());
        spacing.add(calibration.getPixelHeightMicrons());
        return spacing;
    }

    // --- The stream ----------------------------------------------------------------------------

    /** Read events to the end of the job; a lost connection is taken up where it broke off. */
    private void follow() throws IOException, InterruptedException {
        int failures = 0;
        String lost = "the server closed the stream";
        while (failures <= RETRIES) {
            long before = after;
            try (InputStream body = client.events(job, after)) {
                if (takeAll(body)) {
                    return;
                }
            } catch (IsolineClient.Refused e) {
                if (e.status != 429 && e.status < 502) {
                    throw e;
                }
                lost = e.getMessage();
            } catch (IOException e) {
                lost = client.explain(e);
            }
            flush();
            failures = after > before ? 1 : failures + 1;
            if (failures <= RETRIES) {
                report(state, "Connection lost, trying again");
                Thread.sleep(Math.min(4000L, 100L << failures));
            }
        }
        end("lost", "The connection was lost, what arrived stays: " + lost);
    }

    /**
     * Take in events until the stream ends; return whether the job has ended too.
     *
     * Lines are read in a thread of their own: in Java 17 a blocked read swallows the interrupt
     * with which QuPath kills a script.
     */
    private boolean takeAll(InputStream body) throws IOException, InterruptedException {
        BlockingQueue<String> lines = new ArrayBlockingQueue<>(MOST_LINES);
        Thread reader = new Thread(() -> read(body, lines), "isoline-reader");
        reader.setDaemon(true);
        reader.start();
        long heard = System.nanoTime();
        try {
            while (!hasEnded) {
                String line = lines.poll(1, TimeUnit.SECONDS);
                tick();
                if (line == null) {
                    if (System.nanoTime() - heard > SILENCE) {
                        throw new IOException("nothing was heard of the server");
                    }
                } else if (line.equals(NO_MORE)) {
                    return false;
                } else if (!line.isEmpty()) {
                    take(line);
                }
                heard = line == null ? heard : System.nanoTime();
                flushIfDue();
            }
            return true;
        } finally {
            reader.interrupt();
        }
    }

    private static void read(InputStream body, BlockingQueue<String> lines) {
        try {
            try (BufferedReader reader = new BufferedReader(
                    new InputStreamReader(body, StandardCharsets.UTF_8), 1 << 16)) {
                String line = reader.readLine();
                while (line != null) {
                    lines.put(line);
                    line = reader.readLine();
                }
            } catch (IOException e) {
                System.getLogger("isoline").log(System.Logger.Level.DEBUG, e.toString());
            }
            lines.put(NO_MORE);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt(); // nobody listens any more
        }
    }

    /** Take in one event. Raises IOException for what is no event. */
    private void take(String line) throws IOException {
        // the features of an event are its last key: they go to QuPath as text, parsed once
        int at = line.indexOf(",\"features\":[");
        String features = null;
        JsonObject event;
        try {
            if (at > 0 && line.endsWith("]}")) {
                features = line.substring(at + 12, line.length() - 1);
                event = JsonParser.parseString(line.substring(0, at) + "}").getAsJsonObject();
            } else {
                event = JsonParser.parseString(line).getAsJsonObject();
            }
        } catch (JsonParseException | IllegalStateException e) {
            throw new IOException("the server sent something that is no event");
        }
        long seq = event.get("seq").getAsLong();
        if (seq <= after) {
            return;
        }
        after = seq;
        switch (event.get("event").getAsString()) {
            case "started":
                tiles = event.get("tiles").getAsLong();
                for (JsonElement label : event.getAsJsonArray("labels")) {
                    classes.add(label.getAsJsonObject().get("name").getAsString());
                }
                report("running", "Running");
                break;
            case "contours":
                takeFeatures(features == null ? "[]" : features, event.getAsJsonArray("replaces"));
                break;
            case "progress":
                tilesDone = event.get("tiles_done").getAsLong();
                tiles = event.get("tiles").getAsLong();
                JsonElement left = event.get("seconds_left");
                secondsLeft = left == null || left.isJsonNull() ? -1 : left.getAsDouble();
                report("running", "Running");
                break;
            case "warned":
                warning = event.get("message").getAsString();
                report("running", warning);
                break;
            case "done":
                long bad = event.get("tiles_failed").getAsLong();
                hasEnded = true;
                String done = bad == 0 ? "Done." : "Done, but " + bad + " tiles failed.";
                end("done", warning.isEmpty() ? done : done + " " + warning);
                break;
            case "cancelled":
                hasEnded = true;
                end("cancelled", "Cancelled. What arrived stays.");
                break;
            case "failed":
                String remedy = event.get("remedy").getAsString();
                hasEnded = true;
                hasFailed = true;
                end("failed", event.get("message").getAsString() +
                        (remedy.isEmpty() ? "" : ". Remedy: " + remedy));
                break;
            default:
                break; // of a newer server
        }
    }

    private void takeFeatures(String features, JsonArray replaces) {
        for (JsonElement id : replaces) {
            PathObject piece = pieces.remove(id.getAsString());
            if (piece != null) {
                replaced.add(piece);
            }
        }
        for (PathObject object : read(features)) {
            if (object.getMetadata().containsKey(Marks.PROVISIONAL)) {
                pieces.put(object.getID().toString(), object);
            }
            if (!hasForgetful || Marks.canRemember(object)) {
                Marks.set(object, options);
            }
            pending.add(object);
        }
    }

    /** Return the objects of a JSON list of features; one that QuPath refuses costs only itself. */
    private List<PathObject> read(String features) {
        try {
            return readable(features);
        } catch (IOException | RuntimeException whole) {
            List<PathObject> objects = new ArrayList<>();
            for (JsonElement feature : JsonParser.parseString(features).getAsJsonArray()) {
                try {
                    objects.addAll(readable("[" + feature + "]"));
                } catch (IOException | RuntimeException e) {
                    refused += 1;
                    firstRefusal = firstRefusal.isEmpty() ? String.valueOf(e.getMessage()) : firstRefusal;
                }
            }
            return objects;
        }
    }

    /** Return whether this QuPath's detections have metadata. */
    private static boolean canRemember() {
        try {
            return Marks.canRemember(parse(DETECTION).get(0));
        } catch (IOException e) {
            return true;
        }
    }

    private List<PathObject> readable(String features) throws IOException {
        // else QuPath 0.5 writes a warning with a stack trace for every detection
        boolean isDropped = hasForgetful && !features.contains("\"objectType\":\"annotation\"");
        return parse(isDropped ? METADATA.matcher(features).replaceAll("") : features);
    }

    private static List<PathObject> parse(String features) throws IOException {
        String collection = "{\"type\":\"FeatureCollection\",\"features\":" + features + "}";
        return PathIO.readObjectsFromGeoJSON(
                new ByteArrayInputStream(collection.getBytes(StandardCharsets.UTF_8)));
    }

    /** Notice where the user looks, and a server that does not hear that it should stop. */
    private void tick() {
        if (stopped && System.nanoTime() - stoppedAt > SILENCE) {
            throw new CancellationException();
        }
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

    // --- The hierarchy -------------------------------------------------------------------------

    /**
     * Bring what is pending into the hierarchy, if the last time is long enough ago.
     *
     * Each change makes QuPath draw everything anew: at most once a second, more seldom the more
     * objects there are and the longer the last change took.
     */
    private void flushIfDue() throws InterruptedException {
        boolean isFull = pending.size() >= MOST_PENDING;
        long pause = isFull ? SECOND : flushPause;
        boolean isDue = lastFlush == 0 || System.nanoTime() - lastFlush >= pause;
        if (isDue && (!pending.isEmpty() || !replaced.isEmpty())) {
            flush();
        }
    }

    private void flush() throws InterruptedException {
        if (pending.isEmpty() && replaced.isEmpty()) {
            return;
        }
        long began = System.nanoTime();
        FutureTask<Void> change = new FutureTask<>(this::change, null);
        gui.execute(change);
        await(change);
        flushes += 1;
        lastFlush = System.nanoTime();
        long pause = SECOND + added.size() * 10_000L + 4 * (lastFlush - began);
        flushPause = Math.min(pause, LONGEST_PAUSE);
        report(state, message);
    }

    private void change() {
        if (!hasReplacedEarlier) {
            hasReplacedEarlier = true;
            removeEarlier();
        }
        List<PathObject> fresh = new ArrayList<>();
        for (PathObject object : pending) {
            if (!replaced.contains(object) && !kept.contains(object.getID().toString())) {
                fresh.add(object);
            }
        }
        List<PathObject> old = new ArrayList<>();
        for (PathObject piece : replaced) {
            if (piece.getParent() != null) {
                old.add(piece);
            }
        }
        remove(old);
        if (!old.isEmpty()) {
            added.removeAll(new HashSet<>(old));
        }
        parent.addChildObjects(fresh);
        added.addAll(fresh);
        pending.clear();
        replaced.clear();
        changed();
    }

    /** Remove what an earlier run of this model and these prompts left, except what the user changed. */
    private void removeEarlier() {
        boolean isPrompted = options.has("prompts");
        // prompts give annotations; to look through a million cells at each click takes its time
        Collection<PathObject> there = isPrompted ? image.getHierarchy().getAnnotationObjects()
                : parent.getChildObjects();
        List<PathObject> earlier = new ArrayList<>();
        for (PathObject object : there) {
            if (!Marks.isOf(object, options, classes)) {
                continue;
            }
            boolean isEarlier = replaceable.contains(object) || Marks.hasPromptsOf(object, options);
            if (isEarlier && Marks.isUntouched(object)) {
                earlier.add(object);
            } else {
                kept.add(object.getID().toString());
            }
        }
        remove(earlier);
    }

    private void remove(List<PathObject> objects) {
        Map<PathObject, List<PathObject>> byParent = new HashMap<>();
        for (PathObject object : objects) {
            byParent.computeIfAbsent(object.getParent(), key -> new ArrayList<>()).add(object);
        }
        byParent.forEach((above, children) -> above.removeChildObjects(children));
    }

    private void changed() {
        PathObjectHierarchy hierarchy = image.getHierarchy();
        hierarchy.fireHierarchyChangedEvent(this, parent);
    }

    // --- The end -------------------------------------------------------------------------------

    private void end(String how, String words) {
        state = how;
        message = words;
        if (refused > 0) {
            message += " QuPath could not read " + refused + " objects: " + firstRefusal;
        }
    }

    /** Stop what still runs, show what is still pending, take away pieces that stayed open. */
    private void finish() {
        try {
            if (hasEnded && !hasFailed) {
                replaced.addAll(pieces.values()); // the server has said all of their unions
                pieces.clear();
            } else if (job != null && !hasEnded && !state.equals("lost")) {
                client.cancel(job);
            }
        } catch (IOException e) {
            message += " The server could not be told to stop: " + client.explain(e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        try {
            if (state.equals("done") && !hasReplacedEarlier) {
                apply(this::change); // it found nothing: what it found before is gone too
            }
            flush();
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

    private void apply(Runnable work) {
        FutureTask<Void> change = new FutureTask<>(work, null);
        gui.execute(change);
        try {
            await(change);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private static void await(FutureTask<Void> change) throws InterruptedException {
        try {
            change.get();
        } catch (ExecutionException e) {
            throw new IllegalStateException("QuPath refused the objects: " + e.getCause(), e.getCause());
        }
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
