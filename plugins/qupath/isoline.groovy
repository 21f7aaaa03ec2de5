/*
 * Isoline for QuPath 0.5, 0.6 and 0.7 without any installation.
 *
 * In the script editor: open an image, select an annotation, run this script. It asks for the server,
 * the model and its parameters; objects appear while the slide is still running.
 *
 * With arguments, in the editor's "Run for project" or from the command line:
 *
 *     QuPath script isoline.groovy --project P.qpproj --save --args "--model nuclei --objects annotations"
 *
 *     --server URL        http://127.0.0.1:8765 without it
 *     --token TOKEN       or the environment variable ISOLINE_TOKEN
 *     --model NAME        without it the models of the server are listed
 *     --parameters JSON   of the model, such as {"sensitivity": 0.6}
 *     --options JSON      any other keys of a request, such as {"channel": ["DAPI"]}
 *     --objects WHERE     selected (the default), annotations or slide
 *     --prompts HOW       with a model that takes prompts, the points, boxes, lines and outlines of
 *                         --objects point at "one" object together, or at an object "each"
 *
 * Made by plugins/qupath/build from the sources of the extension: change them, not this file.
 * Apache License 2.0.
 */
import com.google.gson.Gson
import com.google.gson.JsonArray
import com.google.gson.JsonElement
import com.google.gson.JsonObject
import com.google.gson.JsonParseException
import com.google.gson.JsonParser
import com.google.gson.JsonPrimitive
import groovy.transform.CompileStatic
import java.awt.Graphics2D
import java.awt.image.BufferedImage
import java.awt.image.WritableRaster
import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.IOException
import java.net.ConnectException
import java.net.URI
import java.net.http.HttpClient
import java.net.http.HttpConnectTimeoutException
import java.net.http.HttpRequest
import java.net.http.HttpResponse
import java.net.http.HttpTimeoutException
import java.nio.ByteBuffer
import java.nio.channels.UnresolvedAddressException
import java.nio.charset.StandardCharsets
import java.time.Duration
import java.time.Instant
import java.time.ZonedDateTime
import java.time.format.DateTimeFormatter
import java.time.format.DateTimeParseException
import java.util.ArrayList
import java.util.Collection
import java.util.HashMap
import java.util.HashSet
import java.util.LinkedHashMap
import java.util.List
import java.util.Locale
import java.util.Map
import java.util.Optional
import java.util.Set
import java.util.UUID
import java.util.concurrent.BlockingQueue
import java.util.concurrent.Callable
import java.util.concurrent.CancellationException
import java.util.concurrent.CompletableFuture
import java.util.concurrent.CompletionService
import java.util.concurrent.CompletionStage
import java.util.concurrent.ExecutionException
import java.util.concurrent.Executor
import java.util.concurrent.ExecutorCompletionService
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors
import java.util.concurrent.Flow
import java.util.concurrent.FutureTask
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.ThreadLocalRandom
import java.util.concurrent.TimeUnit
import java.util.concurrent.TimeoutException
import java.util.function.Consumer
import java.util.function.Predicate
import java.util.function.Supplier
import java.util.regex.Pattern
import javafx.application.Platform
import javafx.event.ActionEvent
import javafx.geometry.Insets
import javafx.scene.Scene
import javafx.scene.control.Alert
import javafx.scene.control.Button
import javafx.scene.control.ButtonType
import javafx.scene.control.CheckBox
import javafx.scene.control.ComboBox
import javafx.scene.control.Control
import javafx.scene.control.Dialog
import javafx.scene.control.Label
import javafx.scene.control.PasswordField
import javafx.scene.control.ProgressBar
import javafx.scene.control.RadioButton
import javafx.scene.control.TextField
import javafx.scene.control.ToggleGroup
import javafx.scene.control.Tooltip
import javafx.scene.input.KeyCombination
import javafx.scene.layout.GridPane
import javafx.scene.layout.HBox
import javafx.scene.layout.Region
import javafx.scene.layout.VBox
import javafx.stage.Stage
import javafx.stage.Window
import javax.imageio.ImageIO
import javax.net.ssl.SSLException
import qupath.lib.geom.Point2
import qupath.lib.gui.QuPathGUI
import qupath.lib.images.ImageData
import qupath.lib.images.servers.ImageServer
import qupath.lib.images.servers.PixelCalibration
import qupath.lib.io.GsonTools
import qupath.lib.io.PathIO
import qupath.lib.objects.PathObject
import qupath.lib.objects.classes.PathClass
import qupath.lib.objects.hierarchy.PathObjectHierarchy
import qupath.lib.objects.hierarchy.events.PathObjectHierarchyEvent
import qupath.lib.objects.hierarchy.events.PathObjectHierarchyListener
import qupath.lib.plugins.workflow.DefaultScriptableWorkflowStep
import qupath.lib.regions.RegionRequest
import qupath.lib.scripting.QP

Map<String, String> given = Arguments.parse(binding.hasVariable('args') ? binding.getVariable('args') : null)
def image = QP.getCurrentImageData()
def gui = QuPathGUI.getInstance()
String secret = given['token'] ?: System.getenv('ISOLINE_TOKEN')
def client = new IsolineClient(given['server'] ?: 'http://127.0.0.1:8765', secret)

if (image == null) {
    throw new IllegalStateException('Open an image first.')
}
if (given['model']) {
    return Unattended.run(client, image, gui != null, given, binding)
}
if (gui != null) {
    Platform.runLater { Attended.ask(gui, image, client.getUrl(), secret ?: '', binding) }
    return
}
client.telling { words -> Unattended.tell(words) }.models().each { model ->
    println model.get('name').getAsString() + ': ' + model.get('description').getAsString()
    println '    ' + model.get('parameters')
}

/** What follows `--args`. */
class Arguments {

    static final List<String> KNOWN = ['server', 'token', 'model', 'parameters', 'options', 'objects', 'prompts']

    static Map<String, String> parse(Object args) {
        Map<String, String> given = [:]
        List<String> words = []
        for (Object each in (args ?: [])) {
            words.addAll(split(String.valueOf(each)))
        }
        for (int k = 0; k < words.size(); k += 2) {
            String key = words[k].replaceFirst('^--', '')
            if (!KNOWN.contains(key) || k + 1 >= words.size()) {
                throw new IllegalArgumentException("${words[k]}: known are --${KNOWN.join(', --')}, each with a value")
            }
            given[key] = words[k + 1]
        }
        return given
    }

    /** QuPath may hand over all arguments as one word, or in brackets. */
    private static List<String> split(String text) {
        if (!(text =~ /^\s*\[?--\w+\s/)) {
            return [text]
        }
        List<String> words = []
        def matcher = text.trim().replaceFirst(/^\[(.*)\]$/, '$1') =~ /--\w+|\{.*?\}(?=\s+--|\s*$)|"[^"]*"|\S+/
        while (matcher.find()) {
            words.add(matcher.group().replaceAll(/^"|"$/, ''))
        }
        return words
    }
}

/** Runs without asking: in a batch, or headless. */
class Unattended {

    static long run(IsolineClient client, ImageData<BufferedImage> image, boolean hasWindow,
            Map<String, String> given, Object binding) {
        String where = given['objects'] ?: 'selected'
        if (!Isoline.WHERE.contains(where)) {
            throw new IllegalArgumentException("--objects: one of ${Isoline.WHERE.join(', ')}")
        }
        JsonObject options = JsonParser.parseString(given['options'] ?: '{}').getAsJsonObject()
        options.addProperty(RequestKeys.MODEL, given['model'])
        if (given['parameters']) {
            options.add(RequestKeys.PARAMETERS, JsonParser.parseString(given['parameters']))
        }
        List<Run> runs = given['prompts'] ? prompted(client, image, options, where, given['prompts'])
            : Isoline.parents(image, where).collect { new Run(client, image, it, options) }
        if (runs.isEmpty()) {
            println "Isoline: no annotation to run on (--objects ${where})"
        }
        long objects = 0
        for (Run run in runs) {
            if (hasWindow) {
                run.on { work -> Platform.runLater(work) }
            }
            RunStatus end = run.telling { status -> tell(status.waiting) }.call()
            println "Isoline: ${end.message} ${end.objects} objects"
            objects += end.objects
            if (end.state != 'done') {
                throw new IllegalStateException(end.message)
            }
        }
        Step.record(client, image, options, given.subMap(['prompts']) + [objects: where], binding)
        return objects
    }

    /** Print what a call waits for; an empty text says that the wait is over. */
    static void tell(String words) {
        if (words) {
            println "Isoline: ${words}"
        }
    }

    /** Return a run for what all prompts point at, or one for each. */
    private static List<Run> prompted(IsolineClient client, ImageData<BufferedImage> image, JsonObject options,
            String where, String how) {
        if (!(how in ['one', 'each']) || where == 'slide') {
            throw new IllegalArgumentException('--prompts: one or each, of --objects selected or annotations')
        }
        List<Run> runs = []
        Isoline.drawn(image, where).groupBy { it.getROI().getZ() }.each { z, drawn ->
            JsonArray prompts = Prompts.of(drawn)
            for (JsonArray request in (how == 'each' ? Prompts.oneByOne(prompts) : [prompts])) {
                JsonObject asked = options.deepCopy()
                asked.add(RequestKeys.PROMPTS, request)
                if (image.getServer().nZSlices() > 1) {
                    asked.addProperty(RequestKeys.Z, z)
                }
                runs.add(new Run(client, image, image.getHierarchy().getRootObject(), asked))
            }
        }
        return runs
    }
}

/** The step of a workflow that makes the same run again: this file, if it is one, with arguments. */
class Step {

    static void record(IsolineClient client, ImageData<BufferedImage> image, JsonObject options,
            Map<String, String> more, Object binding) {
        JsonObject others = options.deepCopy()
        Map<String, String> given = [server: client.getUrl(), model: others.remove(RequestKeys.MODEL).getAsString()]
        if (others.has(RequestKeys.PARAMETERS)) {
            given['parameters'] = others.remove(RequestKeys.PARAMETERS).toString()
        }
        if (others.size() > 0) {
            given['options'] = others.toString()
        }
        List<String> words = []
        (given + more).each { key, value -> words.addAll(["'--" + key + "'", Isoline.quoted(value)]) }
        def path = binding.hasVariable('qupath.script.file') ? binding.getVariable('qupath.script.file') : null
        Isoline.record(image, client.getUrl(), options, more['objects'], path == null
            ? '// Isoline: run isoline.groovy with the arguments ' + words.join(' ')
            : "run(new File(${Isoline.quoted(String.valueOf(path))}), [${words.join(', ')}] as String[])")
    }
}

/** Asks in windows, as the extension does. */
class Attended {

    static void ask(QuPathGUI gui, ImageData<BufferedImage> image, String url, String secret, Object binding) {
        String[] server = SettingsDialog.ask(url, secret, gui.getStage())
        if (server == null) {
            return
        }
        IsolineClient client = new IsolineClient(server[0], server[1])
        WaitingWindow.models(client, gui.getStage(),
            { List<JsonObject> models -> choose(gui, image, client, models, binding) },
            { String words -> say(gui, words) })
    }

    static void choose(QuPathGUI gui, ImageData<BufferedImage> image, IsolineClient client,
            List<JsonObject> models, Object binding) {
        List<JsonObject> offered = (Isoline.models(models, false) + Isoline.models(models, true)).unique()
        JsonObject options = RunForm.ask(offered, gui.getStage(), !image.getServer().isRGB())
        if (options == null) {
            return
        }
        String name = options.get(RequestKeys.MODEL).getAsString()
        if (!Isoline.isAutomatic(offered.find { it.get('name').getAsString() == name })) {
            ClickWindow.open(client, image, options, gui.getStage(),
                { JsonObject request -> Step.record(client, image, request, [objects: 'slide'], binding) })
            return
        }
        List<PathObject> parents = Isoline.parents(image, 'selected')
        if (parents.isEmpty()) {
            say(gui, 'Select one or more areas first (annotations, TMA cores), or pass --objects slide.')
            return
        }
        def viewer = gui.getViewer()
        List<Run> runs = parents.collect { new Run(client, image, it, options) }
        ProgressWindow.start(runs, 'Isoline: ' + name, gui.getStage(),
            { [viewer.getCenterPixelX(), viewer.getCenterPixelY()] as double[] })
        Step.record(client, image, options, [objects: 'selected'], binding)
    }

    private static void say(QuPathGUI gui, String words) {
        Alert alert = new Alert(Alert.AlertType.INFORMATION, words)
        alert.initOwner(gui.getStage())
        alert.show()
    }
}

/** What scripts call, and what the menu and the script share. */
@CompileStatic
final class Isoline {

    /** Objects to run on: the selected ones, every annotation, or the whole slide. */
    public static final List<String> WHERE = List.of("selected", "annotations", "slide");

    private static volatile String token = System.getenv("ISOLINE_TOKEN");

    private Isoline() {}

    /** Use this token from now on; it is never written into a script. */
    public static void setToken(String given) {
        token = given;
    }

    /**
     * Run a model on the current image and wait for the end; what a recorded workflow calls.
     *
     * `options` is JSON with the keys of a request, such as {"model": "nuclei"}; `where` is one
     * of "selected", "annotations" and "slide". Returns how many objects were added.
     */
    public static long run(String url, String options, String where) {
        ImageData<BufferedImage> image = QP.getCurrentImageData();
        IsolineClient client = new IsolineClient(url, token);
        JsonObject request = JsonParser.parseString(options).getAsJsonObject();
        long objects = 0;
        for (PathObject parent : parents(image, where)) {
            RunStatus end = new Run(client, image, parent, request).telling(status -> log(status.waiting)).call();
            objects += end.objects;
            if (!end.state.equals("done")) {
                throw new IllegalStateException(end.message);
            }
        }
        record(image, url, request, where, scriptFor(url, request, where));
        return objects;
    }

    private static void log(String words) {
        if (!words.isEmpty()) {
            System.getLogger("isoline").log(System.Logger.Level.INFO, words);
        }
    }

    /** Return what to run on; empty where nothing suitable is selected. */
    public static List<PathObject> parents(ImageData<?> image, String where) {
        List<PathObject> parents = new ArrayList<>();
        if (where.equals("slide")) {
            parents.add(image.getHierarchy().getRootObject());
            return parents;
        }
        Collection<PathObject> objects = where.equals("annotations")
                ? image.getHierarchy().getAnnotationObjects()
                : image.getHierarchy().getSelectionModel().getSelectedObjects();
        for (PathObject object : objects) {
            boolean isResult = object.getMetadata().containsKey(Marks.MODEL);
            boolean isArea = object.getROI() != null && object.getROI().isArea();
            // a region that a run made is not to be run on again, unless someone selects it
            if (isArea && !(isResult && where.equals("annotations"))) {
                parents.add(object);
            }
        }
        return parents;
    }

    /** Return what the user drew to point with: `selected`, or all `annotations` that no run made. */
    public static List<PathObject> drawn(ImageData<?> image, String where) {
        List<PathObject> drawn = new ArrayList<>(image.getHierarchy().getAnnotationObjects());
        drawn.removeIf(object -> object.getMetadata().containsKey(Marks.MODEL));
        if (where.equals("selected")) {
            drawn.retainAll(image.getHierarchy().getSelectionModel().getSelectedObjects());
        }
        return drawn;
    }

    /** Return the models for pictures: those that take prompts, or those that take regions. */
    public static List<JsonObject> models(List<JsonObject> all, boolean prompted) {
        List<JsonObject> models = new ArrayList<>();
        for (JsonObject model : all) {
            boolean isForPictures = model.getAsJsonArray("dimensions").contains(new JsonPrimitive(2));
            boolean does = prompted ? model.getAsJsonArray("prompts").size() > 0 : isAutomatic(model);
            if (isForPictures && does) {
                models.add(model);
            }
        }
        return models;
    }

    /** Return whether `model` segments regions by itself; it may take prompts too. */
    public static boolean isAutomatic(JsonObject model) {
        return model.get("automatic").getAsBoolean();
    }

    /** Record a step that makes the same run again when the workflow becomes a script. */
    public static void record(ImageData<?> image, String url, JsonObject options, String where,
            String script) {
        Map<String, String> shown = new LinkedHashMap<>();
        shown.put("server", url);
        shown.put("objects", where);
        for (Map.Entry<String, JsonElement> option : options.entrySet()) {
            shown.put(option.getKey(), option.getValue().toString());
        }
        String name = "Isoline: " + options.get(RequestKeys.MODEL).getAsString();
        image.getHistoryWorkflow().addStep(new DefaultScriptableWorkflowStep(name, shown, script));
    }

    /** Return the line of a script that makes a run with the extension. */
    public static String scriptFor(String url, JsonObject options, String where) {
        return "isoline.qupath.Isoline.run(" + quoted(url) + ", " + quoted(new Gson().toJson(options)) +
                ", " + quoted(where) + ")";
    }

    /** Return `text` as a Groovy string. */
    public static String quoted(String text) {
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'";
    }
}

/**
 * One run of a model: from the request to the last object in the hierarchy; has no window.
 *
 * A region is a job of the server, which is followed; prompts are one question, which is answered.
 * `call` blocks; `cancel` may be called meanwhile from any thread, everything else once it has
 * returned. `Submission` makes the request, `JobStream` brings the events, `Results` changes the
 * hierarchy.
 */
@CompileStatic
final class Run {

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

/** Runs on several objects, one after another and told of as one. No window. */
@CompileStatic
final class Runs {

    private final List<Run> runs;
    private volatile boolean hasEnded;

    /** Prepare `runs`, one at least. */
    public Runs(List<Run> runs) {
        this.runs = runs;
    }

    /** Run all to the end, or to the first that is not done; `listener` hears how far they are. */
    public RunStatus call(Consumer<RunStatus> listener) {
        RunStatus end = callAll(listener);
        hasEnded = true;
        return end;
    }

    /** Return whether there is nothing left to cancel. */
    public boolean hasEnded() {
        return hasEnded;
    }

    private RunStatus callAll(Consumer<RunStatus> listener) {
        RunStatus end = runs.get(0).status();
        long objects = 0;
        for (int k = 0; k < runs.size(); k++) {
            String which = runs.size() == 1 ? "" : "Region " + (k + 1) + " of " + runs.size() + ": ";
            long before = objects;
            end = runs.get(k).telling(status -> listener.accept(status.among(which, before))).call();
            objects += end.objects;
            if (!end.state.equals("done")) {
                return end.among(which, before);
            }
        }
        return end.among("", objects - end.objects);
    }

    /** Stop the one that runs, and begin none of those that follow. */
    public void cancel() {
        runs.forEach(run -> run.cancel());
    }

    /** Take back what they added and nobody changed; return how many objects that were. */
    public int removeResults() {
        int removed = 0;
        for (Run run : runs) {
            removed += run.removeResults();
        }
        return removed;
    }
}

/** How far a run is, or how it ended. */
@CompileStatic
final class RunStatus {

    /** One of "starting", "running", "done", "failed", "cancelled", "lost". */
    public final String state;
    /** In words, for the user. */
    public final String message;
    /** What it waits for and how long, in words; empty where it does not wait. */
    public final String waiting;
    public final long objects;
    public final long tilesDone;
    public final long tiles;
    /** Seconds; negative where that is not known. */
    public final double secondsLeft;
    /** Features that QuPath could not read. */
    public final long refused;

    RunStatus(String state, String message, String waiting, long objects, long tilesDone, long tiles,
            double secondsLeft, long refused) {
        this.state = state;
        this.message = message;
        this.waiting = waiting;
        this.objects = objects;
        this.tilesDone = tilesDone;
        this.tiles = tiles;
        this.secondsLeft = secondsLeft;
        this.refused = refused;
    }

    /** Return this as that of one run among others, which have found `before` objects so far. */
    RunStatus among(String which, long before) {
        return new RunStatus(state, which + message, waiting.isEmpty() ? "" : which + waiting, before + objects,
                tilesDone, tiles, secondsLeft, refused);
    }
}

/**
 * The job of the last run of a model below an object: the next one replaces its results.
 *
 * It is a property of the image, so QuPath saves it along with those results. `read` and `write`
 * are called on the thread of the GUI.
 */
@CompileStatic
final class LastJob {

    private static final String PARTIAL = "partial ";
    private static final Set<String> UNUSABLE = Set.of("UnknownJob", "NotSupported");

    private final ImageData<?> image;
    private final String key;
    private String saved = "";
    private boolean isNamed;

    /** `options` are keys of a request: `model` at least. */
    LastJob(ImageData<?> image, PathObject parent, JsonObject options) {
        this.image = image;
        // the root has another id in each session
        boolean isSlide = parent.equals(image.getHierarchy().getRootObject());
        this.key = String.join(".", "isoline.job", options.get(RequestKeys.MODEL).getAsString(),
                isSlide ? "slide" : parent.getID().toString());
    }

    /** Read which job it is. */
    void read() {
        Object property = image.getProperty(key);
        saved = property == null ? "" : property.toString();
    }

    /** Make `job` the last one; `isWhole` says that the server knows all that it and earlier ones left. */
    void write(String job, boolean isWhole) {
        image.setProperty(key, isWhole ? job : PARTIAL + job);
    }

    /** Submit `request` in place of the job, or on its own where the server cannot replace that job. */
    JsonObject submit(JsonObject request, IsolineClient client) throws IOException, InterruptedException {
        if (saved.isEmpty()) {
            return client.submit(request);
        }
        request.addProperty(RequestKeys.REPLACES, saved.replace(PARTIAL, ""));
        try {
            JsonObject submitted = client.submit(request);
            isNamed = true;
            return submitted;
        } catch (Refused e) {
            if (!UNUSABLE.contains(e.code)) {
                throw e;
            }
        }
        request.remove(RequestKeys.REPLACES);
        return client.submit(request);
    }

    /**
     * Return whether the events of the submitted job say everything that they replace.
     *
     * They do not where the server could not replace the earlier job, or where events of that job
     * never arrived here: what those replaced is still in the hierarchy, but no longer on the server.
     */
    boolean isFullyReplaced() {
        return isNamed && !saved.startsWith(PARTIAL);
    }
}

/** Turns what the user asks for into a request; its pixels are uploaded if they must be. */
@CompileStatic
final class Submission {

    /** Sends a request and returns what the server makes of it. */
    interface Sender<T> {
        T send(JsonObject request) throws IOException, InterruptedException;
    }

    private final ImageServer<BufferedImage> server;
    private final PathObject parent;
    private final JsonObject options;
    private Upload.Sent sent;

    /** `options` are keys of a request: `model`, and `parameters` and others where given. */
    Submission(ImageData<BufferedImage> image, PathObject parent, JsonObject options) {
        this.server = image.getServer();
        this.parent = parent;
        this.options = options;
    }

    /** Use what was uploaded before, if that is enough; null for nothing. */
    void setSent(Upload.Sent sent) {
        this.sent = sent;
    }

    /** Return what was uploaded of the image; null where the server sees the file. */
    Upload.Sent getSent() {
        return sent;
    }

    /** Return whether it points at one object, rather than naming a region. */
    boolean isPrompted() {
        return options.has(RequestKeys.PROMPTS);
    }

    /**
     * Send the request with `sender` and return what that returns.
     *
     * Tiles near the x, y of `focus` come first; null is nowhere. `client` takes an upload, `say`
     * hears how far that is, and `agree` is asked before a large one.
     */
    <T> T send(double[] focus, IsolineClient client, Consumer<String> say, Predicate<String> agree,
            Sender<T> sender) throws IOException, InterruptedException {
        JsonObject request = request(focus);
        try {
            if (sent != null && sent.isAround(request.getAsJsonArray(RequestKeys.PROMPTS))) {
                pointAtUpload(request);
            } else if (!request.has(RequestKeys.IMAGE)) {
                upload(request, client, say, agree);
            }
            return sender.send(request);
        } catch (Refused e) {
            if (!isUnseen(e)) {
                throw withRemedy(e);
            }
        }
        try {
            upload(request, client, say, agree);
            return sender.send(request);
        } catch (Refused e) {
            throw withRemedy(e);
        }
    }

    /** Return whether the server does not have the file, or another one under its name. */
    private static boolean isUnseen(Refused refused) {
        return refused.code.equals("UnknownImage") || refused.code.equals("WrongImage");
    }

    private Refused withRemedy(Refused refused) {
        boolean isSizeless = refused.code.equals("BadSpacing") && spacing() == null;
        return isSizeless ? refused.with(". In QuPath: double-click on Pixel width in the Image tab") : refused;
    }

    private void upload(JsonObject request, IsolineClient client, Consumer<String> say, Predicate<String> agree)
            throws IOException, InterruptedException {
        int t = parent.getROI() == null ? 0 : parent.getROI().getT();
        Upload upload = new Upload(client, server, plane(), t);
        sent = upload.send(request, spacing(), say, agree);
        pointAtUpload(request);
    }

    private void pointAtUpload(JsonObject request) {
        request.addProperty(RequestKeys.IMAGE, sent.image);
        request.remove(RequestKeys.IMAGE_SIZE); // these describe the file that the server does not see
        request.remove(RequestKeys.Z);
    }

    private JsonObject request(double[] focus) {
        JsonObject request = options.deepCopy();
        request.addProperty(RequestKeys.FORMAT, "qupath");
        String uri = fileUri();
        if (uri != null) {
            JsonArray size = new JsonArray();
            size.add(server.getWidth());
            size.add(server.getHeight());
            request.addProperty(RequestKeys.IMAGE, uri);
            request.add(RequestKeys.IMAGE_SIZE, size);
        }
        JsonArray spacing = spacing();
        if (spacing != null) {
            request.add(RequestKeys.SPACING_UM, spacing);
        }
        if (server.nZSlices() > 1) {
            request.addProperty(RequestKeys.Z, plane());
        }
        if (parent.getROI() != null && parent.getROI().isArea()) {
            // toJsonTree throws in QuPath 0.6 and 0.7
            String feature = GsonTools.getInstance().toJson(parent, PathObject.class);
            request.add(RequestKeys.REGION, JsonParser.parseString(feature).getAsJsonObject().get("geometry"));
        }
        if (focus != null) {
            JsonArray point = new JsonArray();
            point.add(focus[0]);
            point.add(focus[1]);
            request.add(RequestKeys.FOCUS, point);
        }
        return request;
    }

    private int plane() {
        if (options.has(RequestKeys.Z)) {
            return options.get(RequestKeys.Z).getAsInt();
        }
        return parent.getROI() == null ? 0 : parent.getROI().getZ();
    }

    /** Return where the file is; null where no file shows what the viewer shows. */
    private String fileUri() {
        // a slide that QuPath shows turned has the size and the URI of the file and other pixels
        String type = server.getServerType().toLowerCase();
        Collection<URI> uris = server.getURIs();
        if (type.contains("rotat") || type.contains("transform") || uris.size() != 1) {
            return null;
        }
        String uri = uris.iterator().next().toString();
        return uri.startsWith("file:") ? uri : null;
    }

    private JsonArray spacing() {
        PixelCalibration calibration = server.getPixelCalibration();
        if (!calibration.hasPixelSizeMicrons()) {
            return null;
        }
        JsonArray spacing = new JsonArray();
        spacing.add(calibration.getPixelWidthMicrons());
        spacing.add(calibration.getPixelHeightMicrons());
        return spacing;
    }
}

/**
 * The keys that this client writes into a request; a user's own options may have others.
 *
 * The tests read this file and compare it with the server's schema.
 */
@CompileStatic
final class RequestKeys {

    static final String IMAGE = "image";
    static final String IMAGE_SIZE = "image_size";
    static final String SPACING_UM = "spacing_um";
    static final String CHANNEL = "channel";
    static final String Z = "z";
    static final String MODEL = "model";
    static final String PARAMETERS = "parameters";
    static final String REGION = "region";
    static final String PROMPTS = "prompts";
    static final String FOCUS = "focus";
    static final String FORMAT = "format";
    static final String REPLACES = "replaces";

    private RequestKeys() {}
}

/** Sends the pixels of a region to a server that does not see the file, in lossless tiles. */
@CompileStatic
final class Upload {

    /** For this many pixels or more the user is asked first. */
    public static final long ASK_FROM_PIXELS = 30_000_000;

    private static final int THREADS = 4;
    private static final int AROUND_PX = 512;

    /** Pixels that a server has. */
    static final class Sent {

        /** The name of the image there. */
        final String image;
        private final JsonArray area;
        private final JsonArray size;

        Sent(String image, JsonArray area, JsonArray size) {
            this.image = image;
            this.area = area;
            this.size = size;
        }

        /** Return whether there is enough around each of `prompts` to ask about them again. */
        boolean isAround(JsonArray prompts) {
            for (JsonElement prompt : prompts) {
                for (JsonElement point : prompt.getAsJsonObject().getAsJsonArray("points")) {
                    for (int axis = 0; axis < 2; axis++) {
                        double at = point.getAsJsonArray().get(axis).getAsDouble();
                        double low = area.get(axis).getAsDouble();
                        double high = area.get(axis + 2).getAsDouble();
                        boolean isNear = at >= low && at <= high
                                && (low == 0 || at - low >= AROUND_PX)
                                && (high == size.get(axis).getAsDouble() || high - at >= AROUND_PX);
                        if (!isNear) {
                            return false;
                        }
                    }
                }
            }
            return true;
        }
    }

    private final IsolineClient client;
    private final ImageServer<BufferedImage> server;
    private final int z;
    private final int t;

    /** Upload from plane `z` and time `t` of `server`. */
    public Upload(IsolineClient client, ImageServer<BufferedImage> server, int z, int t) {
        this.client = client;
        this.server = server;
        this.z = z;
        this.t = t;
    }

    /**
     * Send what `request` needs and return what the server then has.
     *
     * `say` is told how far it is; `agree` is asked before a large upload.
     */
    Sent send(JsonObject request, JsonArray spacing, Consumer<String> say, Predicate<String> agree)
            throws IOException, InterruptedException {
        JsonObject announced = announcement(request, spacing);
        JsonObject wanted = client.announce(announced);
        long pixels = wanted.get("pixels").getAsLong();
        String size = Math.round(pixels / 1e6d) + " million pixels (about " +
                Math.round(pixels * 1.7d / 1e6d) + " MB)";
        if (pixels >= ASK_FROM_PIXELS && !agree.test("The server does not see the file of this " +
                "image. Upload " + size + "? A smaller region, or [file_uris] in the server's " +
                "configuration, is faster.")) {
            throw new CancellationException("nothing was uploaded");
        }
        say.accept("The server does not see the file: uploading " + size);
        ExecutorService threads = Executors.newFixedThreadPool(THREADS);
        try {
            CompletionService<Void> sending = new ExecutorCompletionService<>(threads);
            List<Callable<Void>> tiles = tiles(wanted);
            tiles.forEach(tile -> sending.submit(tile));
            for (int done = 1; done <= tiles.size(); done++) {
                sending.take().get(); // the first that fails ends the upload
                say.accept("Uploading: " + done + " of " + tiles.size() + " tiles");
            }
        } catch (ExecutionException e) {
            if (e.getCause() instanceof IOException) {
                throw (IOException) e.getCause();
            }
            if (e.getCause() instanceof CancellationException) {
                throw (CancellationException) e.getCause();
            }
            throw new IllegalStateException("QuPath cannot read the pixels of this image: " + e.getCause(), e);
        } finally {
            threads.shutdownNow();
        }
        JsonArray area = wanted.getAsJsonArray("levels").get(0).getAsJsonObject().getAsJsonArray("area");
        return new Sent(wanted.get("image").getAsString(), area, announced.getAsJsonArray("size"));
    }

    private JsonObject announcement(JsonObject request, JsonArray spacing) {
        JsonArray size = new JsonArray();
        size.add(server.getWidth());
        size.add(server.getHeight());
        JsonObject announcement = new JsonObject();
        announcement.add("size", size);
        if (spacing != null) {
            announcement.add("spacing_um", spacing);
        }
        if (!server.isRGB()) {
            String type = server.getPixelType().name().toLowerCase();
            if (!type.equals("uint8") && !type.equals("uint16")) {
                throw new IllegalStateException("The server does not see the file of this image, and pixels of " +
                        "type " + type + " cannot be uploaded. Remedy: [file_uris] in the server's configuration");
            }
            JsonArray channels = new JsonArray();
            for (int c = 0; c < server.nChannels(); c++) {
                channels.add(server.getChannel(c).getName());
            }
            announcement.add("channels", channels);
            announcement.addProperty("dtype", type);
        }
        JsonObject purpose = request.deepCopy();
        // these describe the file that the server does not see
        for (String key : List.of(RequestKeys.IMAGE, RequestKeys.IMAGE_SIZE, RequestKeys.SPACING_UM, RequestKeys.Z)) {
            purpose.remove(key);
        }
        announcement.add("request", purpose);
        return announcement;
    }

    private List<Callable<Void>> tiles(JsonObject wanted) {
        String upload = wanted.get("upload").getAsString();
        int side = wanted.get("tile_px").getAsInt();
        List<Callable<Void>> tiles = new ArrayList<>();
        int level = 0;
        for (JsonElement each : wanted.getAsJsonArray("levels")) {
            JsonArray area = each.getAsJsonObject().getAsJsonArray("area");
            int downsample = each.getAsJsonObject().get("downsample").getAsInt();
            int x0 = area.get(0).getAsInt();
            int y0 = area.get(1).getAsInt();
            int x1 = area.get(2).getAsInt();
            int y1 = area.get(3).getAsInt();
            for (int row = Math.floorDiv(y0, side); row * side < y1; row++) {
                for (int column = Math.floorDiv(x0, side); column * side < x1; column++) {
                    int left = Math.max(x0, column * side);
                    int top = Math.max(y0, row * side);
                    int width = Math.min(x1, (column + 1) * side) - left;
                    int height = Math.min(y1, (row + 1) * side) - top;
                    int c = column;
                    int r = row;
                    int l = level;
                    tiles.add(() -> {
                        client.sendTile(upload, l, c, r, png(downsample, left, top, width, height));
                        return null;
                    });
                }
            }
            level += 1;
        }
        return tiles;
    }

    /** Return a tile, `x`, `y`, `width` and `height` in pixels of its level, as the server wants it. */
    private byte[] png(int downsample, int x, int y, int width, int height) throws IOException {
        int left = x * downsample;
        int top = y * downsample;
        RegionRequest region = RegionRequest.createInstance(server.getPath(), downsample, left, top,
                Math.min(width * downsample, server.getWidth() - left),
                Math.min(height * downsample, server.getHeight() - top), z, t);
        BufferedImage pixels = server.readRegion(region);
        BufferedImage tile = server.isRGB() ? opaque(pixels, width, height) : stacked(pixels, width, height);
        ByteArrayOutputStream png = new ByteArrayOutputStream();
        ImageIO.write(tile, "PNG", png);
        return png.toByteArray();
    }

    /** Return `pixels` as RGB without alpha; an overview may be a pixel too large or too small. */
    private static BufferedImage opaque(BufferedImage pixels, int width, int height) {
        BufferedImage rgb = new BufferedImage(width, height, BufferedImage.TYPE_3BYTE_BGR);
        Graphics2D graphics = rgb.createGraphics();
        graphics.drawImage(pixels, 0, 0, width, height, null);
        graphics.dispose();
        return rgb;
    }

    /** Return the channels of `pixels`, one below the other, as grey of the same depth. */
    private BufferedImage stacked(BufferedImage pixels, int width, int height) {
        int bands = server.nChannels();
        boolean deep = server.getPixelType().name().equals("UINT16");
        BufferedImage grey = new BufferedImage(width, height * bands,
                deep ? BufferedImage.TYPE_USHORT_GRAY : BufferedImage.TYPE_BYTE_GRAY);
        WritableRaster raster = grey.getRaster();
        for (int band = 0; band < bands; band++) {
            for (int y = 0; y < height; y++) {
                for (int x = 0; x < width; x++) {
                    raster.setSample(x, band * height + y, 0, pixels.getRaster().getSample(
                            Math.min(x, pixels.getWidth() - 1), Math.min(y, pixels.getHeight() - 1), band));
                }
            }
        }
        return grey;
    }
}

/**
 * The routes of one isoline server, each tried again by the policy of the protocol.
 *
 * Knows neither QuPath nor a window; safe to use from any thread.
 */
@CompileStatic
final class IsolineClient {

    /** A large tile on a slow line takes longer than the silence that is allowed before an answer. */
    private static final long SLOWEST_UPLOAD_BYTES_PER_S = 65_536;

    private final ServerConnection server;
    private final RetryPolicy policy;
    private final Cancellation stop;
    private final Consumer<String> say;

    /** `url` may be what a user types: without http://, with a slash or /v1 at the end. */
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

    /** Return a client of the same server whose calls end at once, with a CancellationException, with `stop`. */
    public IsolineClient until(Cancellation stop) {
        return new IsolineClient(server, policy, stop, say);
    }

    /**
     * Return a client of the same server that tells `say` what it waits for and how long.
     *
     * `say` hears an empty text when the wait is over, and is called in the thread that waits.
     */
    public IsolineClient telling(Consumer<String> say) {
        return new IsolineClient(server, policy, stop, say);
    }

    /** Return the address of the server, as it is used. */
    public String getUrl() {
        return server.url;
    }

    /** Say in words what went wrong when this server was called. */
    public String explain(Exception error) {
        return Explanation.of(error, server.url, !server.token.isEmpty());
    }

    // --- Routes --------------------------------------------------------------------------------

    /** Return what the server can run: each with `name`, `title`, `parameters`, `problem`. */
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
            // the server may have created the job without saying so, and nobody would follow it
            Background.run(() -> withdraw(submission), this);
            throw e;
        }
    }

    /**
     * Ask what prompts point at and return the events of the answer, from the first to the last.
     *
     * Nothing is stored. Stopping hangs up, which ends the work on the server too.
     */
    List<JobEvent> segment(JsonObject request) throws IOException, InterruptedException {
        Question question = Question.of("POST", "/v1/segment", request);
        return attempts(policy.request).run(() -> readToEnd(server.open(question, policy, stop)));
    }

    /** Follow the events of a job, resumed whenever the connection breaks. */
    JobStream follow(String job) {
        return new JobStream(job, (after) -> events(job, after), attempts(policy.stream));
    }

    /** Look at a point of the image from now on: tiles nearest to it run first. */
    public void focus(String job, double x, double y) throws IOException, InterruptedException {
        JsonArray point = new JsonArray();
        point.add(x);
        point.add(y);
        JsonObject body = new JsonObject();
        body.add(RequestKeys.FOCUS, point);
        answer(Question.of("PATCH", "/v1/jobs/" + job, body));
    }

    /** Stop a job; what it has found stays. */
    public void cancel(String job) throws IOException, InterruptedException {
        answer(Question.of("DELETE", "/v1/jobs/" + job));
    }

    /** Say which pixels are about to be uploaded and for what; return which are wanted. */
    public JsonObject announce(JsonObject upload) throws IOException, InterruptedException {
        return answer(Question.of("POST", "/v1/uploads", upload));
    }

    /** Send one tile of an upload; as patient as a stream, since the tiles before it would be lost too. */
    public void sendTile(String upload, int level, int column, int row, byte[] png)
            throws IOException, InterruptedException {
        String place = String.join("/", "/v1/uploads", upload, "tiles",
                String.valueOf(level), String.valueOf(column), String.valueOf(row));
        Question tile = new Question("PUT", place, png).with("Content-Type", "image/png");
        Duration silence = policy.silence.plusSeconds(Math.floorDiv((long) tile.size(), SLOWEST_UPLOAD_BYTES_PER_S));
        attempts(policy.stream).run(() -> server.send(tile, silence, policy, stop));
    }

    /** Say in words whether this server can be used now, and if not, why. Never throws, never tries again. */
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

    /** Cancel the job of a submission whose answer nobody waited for. */
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

/** The events of a job, each once and in order; a stream that breaks is resumed where it broke. */
@CompileStatic
final class JobStream implements AutoCloseable {

    /** Opens the events after a number. */
    interface Source {
        LineReader open(long after) throws IOException, InterruptedException;
    }

    private final String job;
    private final Source source;
    private final Attempts attempts;
    private LineReader lines;
    /** The number of the last event that was read whole. */
    private long after = -1;
    /** Why the connection broke, until the next attempt. */
    private IOException broken;

    JobStream(String job, Source source, Attempts attempts) {
        this.job = job;
        this.source = source;
        this.attempts = attempts;
    }

    /** Return the id of the job. */
    String getJob() {
        return job;
    }

    /** Return whether the connection has broken, so that the next call of `next` begins with a pause. */
    boolean isBroken() {
        return broken != null;
    }

    /**
     * Return the next event; null where a second passes without one, and when the connection breaks.
     *
     * Throws Refused if the server does not let this job be followed, Attempts.GaveUp if the
     * connection is lost for good, and a CancellationException if the user stops a pause.
     */
    JobEvent next() throws IOException, InterruptedException {
        if (broken != null) {
            IOException failure = broken;
            broken = null;
            attempts.pause(failure);
        }
        try {
            if (lines == null) {
                lines = source.open(after);
            }
            return read(lines.next());
        } catch (IOException e) {
            broken = e;
            close();
            return null;
        }
    }

    @Override
    public void close() {
        if (lines != null) {
            lines.close();
            lines = null;
        }
    }

    private JobEvent read(String line) throws IOException {
        if (line == null) {
            return null;
        }
        JobEvent event = line.isEmpty() ? null : JobEvent.read(line); // a heartbeat is empty
        attempts.alive();
        if (event == null || event.seq <= after) {
            return null;
        }
        after = event.seq;
        return event;
    }
}

/**
 * The lines of an answer as they come, a few ahead of whoever reads them.
 *
 * Java's own stream of an answer forgets what it has received when the connection breaks, and in
 * Java 17 reading it swallows the interrupt with which QuPath kills a script.
 */
@CompileStatic
final class LineReader implements HttpResponse.BodySubscriber<byte[]>, AutoCloseable {

    /** What comes after the last line; no line can be this. */
    private static final String END = "\n";
    private static final int MOST_LINES = 16;
    private static final long SECOND = 1_000_000_000L;

    private final Duration silence;
    private final BlockingQueue<String> lines = new LinkedBlockingQueue<>();
    private final ByteArrayOutputStream line = new ByteArrayOutputStream();
    private Flow.Subscription subscription;
    private boolean isAsking;
    private boolean isClosed;
    private volatile long heard = System.nanoTime();

    /** Read an answer that is dead after `silence`. */
    LineReader(Duration silence) {
        this.silence = silence;
    }

    /**
     * Return the next line; null where a second passes without one.
     *
     * Throws IOException at the end of the answer, and after a silence.
     */
    String next() throws IOException, InterruptedException {
        long left = silence.toNanos() - (System.nanoTime() - heard);
        String next = lines.poll(Math.max(0, Math.min(SECOND, left)), TimeUnit.NANOSECONDS);
        if (next == null && System.nanoTime() - heard >= silence.toNanos()) {
            throw new HttpTimeoutException("silent for " + silence.toSeconds() + " s");
        }
        if (END.equals(next)) {
            throw new IOException("the stream ended before the job did");
        }
        askForMore();
        return next;
    }

    /** Return whether an answer that is fine has begun. */
    synchronized boolean hasBegun() {
        return subscription != null;
    }

    /** Hang up; whoever waits for a line finds the end. */
    @Override
    public synchronized void close() {
        isClosed = true;
        if (subscription != null) {
            subscription.cancel();
        }
        lines.clear();
        lines.add(END);
    }

    // --- Called by Java's HTTP client ----------------------------------------------------------

    /** The head of the answer is all that is waited for. */
    @Override
    public CompletionStage<byte[]> getBody() {
        return CompletableFuture.completedFuture(new byte[0]);
    }

    @Override
    public synchronized void onSubscribe(Flow.Subscription given) {
        subscription = given;
        if (isClosed) {
            given.cancel();
        }
        askForMore();
    }

    @Override
    public synchronized void onNext(List<ByteBuffer> buffers) {
        isAsking = false;
        heard = System.nanoTime();
        for (ByteBuffer buffer : buffers) {
            byte[] bytes = new byte[buffer.remaining()];
            buffer.get(bytes);
            take(bytes);
        }
        askForMore();
    }

    @Override
    public void onError(Throwable error) {
        System.getLogger("isoline").log(System.Logger.Level.DEBUG, error.toString());
        lines.add(END);
    }

    /** A last line without its end was torn by the network: it is not one. */
    @Override
    public void onComplete() {
        lines.add(END);
    }

    private void take(byte[] bytes) {
        int start = 0;
        for (int k = 0; k < bytes.length; k++) {
            if (bytes[k] == 10) {
                line.write(bytes, start, k - start);
                lines.add(line.toString(StandardCharsets.UTF_8));
                line.reset();
                start = k + 1;
            }
        }
        line.write(bytes, start, bytes.length - start);
    }

    private synchronized void askForMore() {
        if (!isAsking && !isClosed && subscription != null && lines.size() < MOST_LINES) {
            isAsking = true;
            heard = System.nanoTime(); // whoever reads was slow, not the server
            subscription.request(1);
        }
    }
}

/** One event of a job: a line of its stream. */
@CompileStatic
final class JobEvent {

    private static final String FEATURES = ",\"features\":[";
    private static final Set<String> LAST = Set.of("done", "failed", "cancelled");

    public final long seq;
    public final String kind;
    /** Everything but the features. */
    final JsonObject said;
    /** A JSON list. It stays text until QuPath reads it: parsed once, not twice. */
    final String features;

    private JobEvent(JsonObject said, String features) {
        this.seq = said.get("seq").getAsLong();
        this.kind = said.get("event").getAsString();
        this.said = said;
        this.features = features;
    }

    /** Return whether nothing comes after this event. */
    boolean isLast() {
        return LAST.contains(kind);
    }

    /** Return the event in `line`. Throws IOException if it is not one. */
    static JobEvent read(String line) throws IOException {
        try {
            int at = line.indexOf(FEATURES); // always the last key
            if (at < 0 || !line.endsWith("]}")) {
                return new JobEvent(JsonParser.parseString(line).getAsJsonObject(), "[]");
            }
            JsonObject head = JsonParser.parseString(line.substring(0, at) + "}").getAsJsonObject();
            return new JobEvent(head, line.substring(at + FEATURES.length() - 1, line.length() - 1));
        } catch (RuntimeException e) { // Gson has a different one for each mistake
            throw new IOException("a line of the stream is not an event");
        }
    }
}

/**
 * Tells the server where the user looks, without keeping anyone waiting.
 *
 * Of several changes only the latest is tried again. Used from one thread.
 */
@CompileStatic
final class LatestFocus {

    private final IsolineClient client;
    private final String job;
    private Cancellation sending = new Cancellation();

    LatestFocus(IsolineClient client, String job) {
        this.client = client;
        this.job = job;
    }

    /** Look at `x`, `y` in image coordinates from now on. */
    void look(double x, double y) {
        stop();
        Cancellation mine = new Cancellation();
        sending = mine;
        Background.run(() -> {
            client.until(mine).focus(job, x, y);
            return null;
        }, client);
    }

    /** Give up telling it. */
    void stop() {
        sending.cancel();
    }
}

/** Calls of a server whose failure changes nothing, off the thread that wants them. */
@CompileStatic
final class Background {

    private Background() {}

    /** Make `call` in a thread of its own; what `client` says of a failure goes into the log. */
    static Thread run(Attempts.Attempt<Void> call, IsolineClient client) {
        Thread thread = new Thread(() -> {
            try {
                call.make();
            } catch (IOException e) {
                System.getLogger("isoline").log(System.Logger.Level.DEBUG, client.explain(e));
            } catch (InterruptedException | CancellationException e) {
                Thread.currentThread().interrupt(); // nobody wants it any more
            }
        }, "isoline-call");
        thread.setDaemon(true);
        thread.start();
        return thread;
    }
}

/** What is tried again, after which pause and for how long: "Trying again" in docs/protocol.md. */
@CompileStatic
final class RetryPolicy {

    /** Time and chance, which tests replace. */
    public interface Surroundings {

        /** Return nanoseconds since some moment. */
        long nanoTime();

        /** Return the time of day. */
        Instant now();

        /** Return a number from 0 to 1. */
        double random();

        /** Sleep for `pause`. Throws a CancellationException as soon as `stop` is cancelled. */
        void sleep(Duration pause, Cancellation stop) throws InterruptedException;
    }

    private static final class Machine implements Surroundings {

        @Override
        public long nanoTime() {
            return System.nanoTime();
        }

        @Override
        public Instant now() {
            return Instant.now();
        }

        @Override
        public double random() {
            return ThreadLocalRandom.current().nextDouble();
        }

        @Override
        public void sleep(Duration pause, Cancellation stop) throws InterruptedException {
            stop.sleep(pause);
        }
    }

    private static final Set<Integer> TRANSIENT = Set.of(429, 502, 503, 504);
    private static final double FIRST_PAUSE_S = 0.25d;
    private static final double LONGEST_PAUSE_S = 8d;
    private static final int MOST_DOUBLINGS = 5;
    /** Of a pause, up and down: clients that were cut off together do not come back together. */
    private static final double SPREAD = 0.25d;
    /** Of the pause that the server asked for, only up. */
    private static final double SPREAD_OF_RETRY_AFTER = 0.1d;

    /** After this long without a byte the connection is dead. */
    public final Duration silence;
    /** A short request is given up when its next attempt would begin this long after the first. */
    public final Duration request;
    /** A stream is given up when the next attempt would begin this long after the last sign of life. */
    public final Duration stream;

    private final Surroundings surroundings;

    /** Be as patient as this; see the fields. */
    public RetryPolicy(Duration silence, Duration request, Duration stream, Surroundings surroundings) {
        this.silence = silence;
        this.request = request;
        this.stream = stream;
        this.surroundings = surroundings;
    }

    /** Return the protocol's own policy. */
    public static RetryPolicy ofProtocol() {
        return new RetryPolicy(Duration.ofSeconds(15), Duration.ofSeconds(30), Duration.ofSeconds(300), machine());
    }

    /** Return the time and the chance of this machine. */
    public static Surroundings machine() {
        return new Machine();
    }

    /** Return this policy without a second attempt. */
    RetryPolicy once() {
        return new RetryPolicy(silence, Duration.ZERO, Duration.ZERO, surroundings);
    }

    /** Return whether another attempt may succeed: there was no answer, or one of a busy server. */
    boolean isTransient(IOException failure) {
        return !(failure instanceof Refused) || TRANSIENT.contains(((Refused) failure).status);
    }

    /** Return the pause before the next attempt after `failures` in a row, the last of them `failure`. */
    Duration pause(int failures, IOException failure) {
        Duration asked = failure instanceof Refused ? ((Refused) failure).retryAfter : Duration.ZERO;
        double chance = surroundings.random();
        if (!asked.isZero()) {
            return scaled(asked, 1 + SPREAD_OF_RETRY_AFTER * chance);
        }
        double doubled = FIRST_PAUSE_S * (1 << Math.min(failures - 1, MOST_DOUBLINGS));
        double seconds = Math.min(doubled, LONGEST_PAUSE_S);
        return scaled(Duration.ofSeconds(1), seconds * (1 - SPREAD + 2 * SPREAD * chance));
    }

    /** Return how long a `Retry-After` (RFC 9110, 10.2.3) asks to wait; zero where it does not say. */
    Duration retryAfter(String header) {
        String text = header.trim();
        if (text.matches("[0-9]{1,9}")) {
            return Duration.ofSeconds(Long.parseLong(text));
        }
        try {
            Instant moment = ZonedDateTime.parse(text, DateTimeFormatter.RFC_1123_DATE_TIME).toInstant();
            Duration left = Duration.between(surroundings.now(), moment);
            return left.isNegative() ? Duration.ZERO : left;
        } catch (DateTimeParseException e) {
            return Duration.ZERO;
        }
    }

    /** Return nanoseconds since some moment. */
    long nanoTime() {
        return surroundings.nanoTime();
    }

    /** Sleep for `pause`. Throws a CancellationException as soon as `stop` is cancelled. */
    void sleep(Duration pause, Cancellation stop) throws InterruptedException {
        surroundings.sleep(pause, stop);
    }

    private static Duration scaled(Duration duration, double factor) {
        return Duration.ofNanos(Math.round(duration.toNanos() * factor));
    }
}

/** The attempts at one request or one stream: how many have failed in a row, and since when. */
@CompileStatic
final class Attempts {

    /** One attempt. */
    interface Attempt<T> {
        T make() throws IOException, InterruptedException;
    }

    /** Hears that a connection is lost, and that it is found again. */
    interface Listener {

        /** `failure` is followed by `pause`; after `left` from now there are no more attempts. */
        void lost(IOException failure, Duration pause, Duration left);

        /** The first sign of life after a pause. */
        void back();
    }

    /** No attempt is left; the cause is the reason of the last failure. */
    static final class GaveUp extends IOException {

        private static final long serialVersionUID = 1L;

        /** How long the attempts had failed. */
        final Duration tried;

        GaveUp(IOException failure, Duration tried) {
            super(failure.getMessage(), failure);
            this.tried = tried;
        }
    }

    private final RetryPolicy policy;
    private final Duration patience;
    private final Cancellation stop;
    private final Listener listener;
    private int failures;
    private long since;

    /** Begin with the first attempt; the last begins before `patience` has passed. */
    Attempts(RetryPolicy policy, Duration patience, Cancellation stop, Listener listener) {
        this.policy = policy;
        this.patience = patience;
        this.stop = stop;
        this.listener = listener;
        this.since = policy.nanoTime();
    }

    /** Return what `attempt` returns in the end. Throws what `pause` throws. */
    <T> T run(Attempt<T> attempt) throws IOException, InterruptedException {
        while (true) {
            stop.check();
            try {
                T answer = attempt.make();
                alive();
                return answer;
            } catch (IOException e) {
                pause(e);
            }
        }
    }

    /** Note a sign of life: the count starts again. */
    void alive() {
        since = policy.nanoTime();
        if (failures > 0) {
            failures = 0;
            listener.back();
        }
    }

    /**
     * Pause before the next attempt.
     *
     * Throws `failure` if it is final, GaveUp if the next attempt would come too late, and a
     * CancellationException as soon as the user asks to stop.
     */
    void pause(IOException failure) throws IOException, InterruptedException {
        stop.check(); // what failed may have failed because of that
        if (!policy.isTransient(failure)) {
            throw failure;
        }
        failures += 1;
        Duration pause = policy.pause(failures, failure);
        Duration tried = Duration.ofNanos(policy.nanoTime() - since);
        Duration left = patience.minus(tried);
        if (pause.compareTo(left) > 0) {
            throw new GaveUp(failure, tried);
        }
        listener.lost(failure, pause, left);
        policy.sleep(pause, stop);
    }
}

/** The user's request to stop, which ends every wait at once. Safe to use from any thread. */
@CompileStatic
final class Cancellation {

    private final CompletableFuture<Void> requested = new CompletableFuture<>();

    /** Ask everything that waits on this to stop. */
    public void cancel() {
        requested.complete(null);
    }

    /** Return whether the user has asked to stop. */
    public boolean isCancelled() {
        return requested.isDone();
    }

    /** Throw a CancellationException if the user has asked to stop. */
    void check() {
        if (isCancelled()) {
            throw new CancellationException("stopped by the user");
        }
    }

    /** Run `action` as soon as the user asks to stop: in that thread, or here if that was before. */
    void whenCancelled(Runnable action) {
        requested.thenRun(action);
    }

    /** Sleep for `pause`. Throws a CancellationException as soon as the user asks to stop. */
    void sleep(Duration pause) throws InterruptedException {
        try {
            requested.get(pause.toNanos(), TimeUnit.NANOSECONDS);
        } catch (TimeoutException e) {
            return; // the pause is over
        } catch (ExecutionException e) {
            throw new IllegalStateException(e); // nobody completes it with one
        }
        check();
    }

    /**
     * Return what `answer` brings, and abandon it otherwise.
     *
     * Throws an HttpTimeoutException after `silence`, and a CancellationException as soon as the
     * user asks to stop.
     */
    <T> T await(CompletableFuture<T> answer, Duration silence) throws IOException, InterruptedException {
        try {
            CompletableFuture.anyOf(answer, requested).get(silence.toNanos(), TimeUnit.NANOSECONDS);
            check();
            return answer.get();
        } catch (TimeoutException e) {
            throw new HttpTimeoutException("silent for " + silence.toSeconds() + " s");
        } catch (ExecutionException e) {
            if (e.getCause() instanceof IOException) {
                throw (IOException) e.getCause();
            }
            throw new IOException(e.getCause().getMessage(), e.getCause());
        } finally {
            answer.cancel(true);
        }
    }
}

/** HTTP to one isoline server, one attempt at a time. Safe to use from any thread. */
@CompileStatic
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

    /**
     * Return the lines of the answer as they come.
     *
     * Throws Refused for an answer that says no, and an HttpTimeoutException where none begins
     * within `policy.silence`.
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
            isOpen = lines.hasBegun(); // it broke off already, and what came before counts
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
     * Return the body of the answer, which is to be complete within `silence`.
     *
     * Throws Refused for an answer that says no.
     */
    byte[] send(Question question, Duration silence, RetryPolicy policy, Cancellation stop)
            throws IOException, InterruptedException {
        HttpResponse<byte[]> answer =
                exchange(question, silence, stop, HttpResponse.BodyHandlers.ofByteArray());
        checkFine(answer, policy);
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
        if (status == 429 || status > 500) {
            return new Refused(status, "NotIsoline",
                    "HTTP " + status + " from " + url + ": a proxy answers there instead of isoline", retryAfter);
        }
        return new Refused(status, "NotIsoline",
                "Something answers at " + url + " (HTTP " + status + "), but it is not isoline. " +
                "Is the port right" + (status == 400 && url.startsWith("http:") ? ", or is it https://?" : "?"),
                retryAfter);
    }

    /** The silence begins when the request is sent; until then, there is the time to connect. */
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

/** What a server is asked, for as many attempts as it takes. */
@CompileStatic
final class Question {

    private static final byte[] NOTHING = new byte[0];

    final String path;
    private final String method;
    private final byte[] body;
    private final Map<String, String> headers = new LinkedHashMap<>();

    /** Ask with `method` for `path`, which begins with a slash. */
    Question(String method, String path, byte[] body) {
        this.method = method;
        this.path = path;
        this.body = body;
    }

    /** Ask without a body. */
    static Question of(String method, String path) {
        return new Question(method, path, NOTHING);
    }

    /** Ask with `json` as the body. */
    static Question of(String method, String path, JsonObject json) {
        return new Question(method, path, json.toString().getBytes(StandardCharsets.UTF_8))
                .with("Content-Type", "application/json");
    }

    /** Add a header. */
    Question with(String name, String value) {
        headers.put(name, value);
        return this;
    }

    /** Return how many bytes the body has. */
    int size() {
        return body.length;
    }

    /** Write this into `request`; return the body that goes with this one attempt. */
    Outgoing write(HttpRequest.Builder request) {
        Outgoing outgoing = new Outgoing(body);
        request.method(method, outgoing);
        headers.forEach((name, value) -> request.header(name, value));
        return outgoing;
    }
}

/**
 * The body of one attempt, which knows when that begins and that there is only one.
 *
 * Java repeats a GET by itself, at once, where the server closes the connection without an answer;
 * the attempts are this client's to count.
 */
@CompileStatic
final class Outgoing implements HttpRequest.BodyPublisher {

    /** Completed when there is a connection and the request is about to be sent. */
    final CompletableFuture<Void> begun = new CompletableFuture<>();
    private final HttpRequest.BodyPublisher body;

    Outgoing(byte[] bytes) {
        this.body = HttpRequest.BodyPublishers.ofByteArray(bytes);
    }

    @Override
    public long contentLength() {
        if (!begun.complete(null)) {
            throw new IllegalStateException("the server closed the connection without an answer");
        }
        return body.contentLength();
    }

    @Override
    public void subscribe(Flow.Subscriber<? super ByteBuffer> subscriber) {
        body.subscribe(subscriber);
    }
}

/** The server understood and said no, or something other than isoline answered. */
@CompileStatic
final class Refused extends IOException {

    private static final long serialVersionUID = 1L;

    /** HTTP status; 0 where nothing was sent. */
    public final int status;
    /** What to compare: stable across versions. */
    public final String code;
    /** How long the server asks to wait before the next attempt; zero where it does not say. */
    public final Duration retryAfter;

    Refused(int status, String code, String message, Duration retryAfter) {
        super(message);
        this.status = status;
        this.code = code;
        this.retryAfter = retryAfter;
    }

    /** Return this with more to say. */
    Refused with(String words) {
        return new Refused(status, code, getMessage() + words, retryAfter);
    }
}

/** What went wrong when a server was called, in words for the user. */
@CompileStatic
final class Explanation {

    private Explanation() {}

    /** Return what `error` means to someone who uses the server at `url`, with or without a token. */
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
                        "; ask whoever runs the server.";
            }
            return refused.getMessage();
        }
        if (error instanceof HttpConnectTimeoutException) {
            return url + " does not answer. Is the address right, and does a firewall let it through?";
        }
        if (error instanceof HttpTimeoutException) {
            return url + " does not answer: " + error.getMessage() + ".";
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
        return "No proper answer from " + url + ": " + said +
                (url.startsWith("http:") ? ". If it is a server with https, write https://" : "");
    }

    /** Return `words` with a full stop, where they do not end with a mark of their own. */
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

/**
 * What a run puts into the hierarchy and takes out of it, many objects at a time.
 *
 * Used from the thread of the run; the hierarchy itself changes on that of `gui` alone.
 */
@CompileStatic
final class Results {

    private final ImageData<?> image;
    private final PathObject parent;
    private final JsonObject request;
    private final FeatureReader reader = new FeatureReader();
    private final Pace pace = new Pace();
    private Executor gui = work -> work.run();
    private Collection<PathObject> replaceable = List.of();

    /** Classes that the model gives. */
    private final Set<String> classes = new HashSet<>();
    private final List<PathObject> pending = new ArrayList<>();
    private final List<PathObject> added = new ArrayList<>();
    /** Provisional pieces by id, until something replaces them. */
    private final Map<String, PathObject> pieces = new HashMap<>();
    private final Set<PathObject> replacedPieces = new HashSet<>();
    /** What earlier runs of the model left, by id; null before the first change. */
    private Map<UUID, PathObject> earlier;
    private final Set<UUID> replacedEarlier = new HashSet<>();
    private boolean isReplacingAll;
    private int flushes;

    /** Put objects of `request` below `parent`. */
    Results(ImageData<?> image, PathObject parent, JsonObject request) {
        this.image = image;
        this.parent = parent;
        this.request = request;
    }

    /** Change the hierarchy through `executor`. */
    void setGui(Executor executor) {
        gui = executor;
    }

    /** Count `objects` among what an earlier run left. */
    void setReplaceable(Collection<PathObject> objects) {
        replaceable = objects;
    }

    /** Know an object of this class for one of the model's. */
    void addClass(String name) {
        classes.add(name);
    }

    /** Take in a JSON list of features, and the ids of pieces and earlier objects that they replace. */
    void take(String features, JsonArray replaces) {
        for (JsonElement id : replaces) {
            PathObject piece = pieces.remove(id.getAsString());
            if (piece == null) {
                replacedEarlier.add(UUID.fromString(id.getAsString()));
            } else {
                replacedPieces.add(piece);
            }
        }
        for (PathObject object : reader.read(features)) {
            if (object.getMetadata().containsKey(Marks.PROVISIONAL)) {
                pieces.put(object.getID().toString(), object);
            }
            if (reader.canRemember(object)) {
                Marks.set(object, request);
            }
            pending.add(object);
        }
    }

    /** Return how many objects there are, shown or about to be. */
    int count() {
        return added.size() + pending.size();
    }

    /** Return what is in the hierarchy. */
    List<PathObject> getAdded() {
        return new ArrayList<>(added);
    }

    /** Return how often the hierarchy was changed. */
    int getFlushes() {
        return flushes;
    }

    /** Return what turns features into objects, for what it could not read. */
    FeatureReader getReader() {
        return reader;
    }

    /** Show what is pending, if the last time is long enough ago; return whether that was done. */
    boolean flushIfDue() throws InterruptedException {
        return pace.isDue(pending.size()) && flush();
    }

    /** Show what is pending; return whether there was something. */
    boolean flush() throws InterruptedException {
        if (pending.isEmpty() && replacedPieces.isEmpty() && replacedEarlier.isEmpty() && !isReplacingAll) {
            return false;
        }
        long began = System.nanoTime();
        apply(() -> change());
        flushes += 1;
        pace.changed(began, added.size());
        return true;
    }

    /** Take away with the next flush all that earlier runs left and this one has not found again. */
    void replaceAll() {
        isReplacingAll = hasEarlier();
    }

    /** Return whether there is, or may be, something left of earlier runs. */
    boolean hasEarlier() {
        return earlier == null || !earlier.isEmpty();
    }

    /** Take back what was added and nobody has changed; return how many objects that were. */
    int removeUntouched() throws InterruptedException {
        List<PathObject> mine = new ArrayList<>();
        apply(() -> {
            for (PathObject object : added) {
                if (object.getParent() != null && Marks.isUntouched(object)) {
                    mine.add(object);
                }
            }
            added.clear();
            remove(mine);
            fire();
        });
        return mine.size();
    }

    /** Do `work` on the thread of the GUI and wait for it. */
    void apply(Runnable work) throws InterruptedException {
        FutureTask<Void> change = new FutureTask<>(work, null);
        gui.execute(change);
        try {
            change.get();
        } catch (ExecutionException e) {
            throw new IllegalStateException("QuPath refused the objects: " + e.getCause(), e.getCause());
        }
    }

    // --- On the thread of the GUI --------------------------------------------------------------

    private void change() {
        if (earlier == null) {
            earlier = findEarlier();
        }
        Set<PathObject> old = new HashSet<>(replacedPieces);
        for (UUID id : replacedEarlier) {
            giveWay(id, old);
        }
        List<PathObject> fresh = new ArrayList<>();
        for (PathObject object : pending) {
            if (!replacedPieces.contains(object) && giveWay(object.getID(), old)) {
                fresh.add(object);
            }
        }
        if (isReplacingAll) {
            for (UUID id : List.copyOf(earlier.keySet())) {
                giveWay(id, old);
            }
        }
        old.removeIf(object -> object.getParent() == null);
        remove(old);
        added.removeAll(old);
        parent.addChildObjects(fresh);
        added.addAll(fresh);
        pending.clear();
        replacedPieces.clear();
        replacedEarlier.clear();
        isReplacingAll = false;
        fire();
    }

    /** Return what runs of this model left, whether someone has touched it or not. */
    private Map<UUID, PathObject> findEarlier() {
        // prompts give annotations; to look through a million cells at each click takes its time
        Collection<PathObject> there = request.has(RequestKeys.PROMPTS) ? image.getHierarchy().getAnnotationObjects()
                : parent.getChildObjects();
        Map<UUID, PathObject> found = new HashMap<>();
        for (PathObject object : there) {
            if (Marks.isOf(object, request, classes)) {
                found.put(object.getID(), object);
            }
        }
        return found;
    }

    /** Add what has this `id` to `old`, unless the user wants it; return whether the id is free then. */
    private boolean giveWay(UUID id, Set<PathObject> old) {
        PathObject object = earlier.get(id);
        if (object == null || object.getParent() == null) {
            return true;
        }
        boolean isReplaceable = replaceable.contains(object) || Marks.hasPromptsOf(object, request);
        if (!isReplaceable || !Marks.isUntouched(object)) {
            return false;
        }
        earlier.remove(id);
        return old.add(object);
    }

    private static void remove(Collection<PathObject> objects) {
        Map<PathObject, List<PathObject>> byParent = new HashMap<>();
        for (PathObject object : objects) {
            byParent.computeIfAbsent(object.getParent(), key -> new ArrayList<>()).add(object);
        }
        byParent.forEach((above, children) -> above.removeChildObjects(children));
    }

    private void fire() {
        image.getHierarchy().fireHierarchyChangedEvent(this, parent);
    }
}

/** Turns GeoJSON into QuPath's objects; a feature that QuPath refuses costs only itself. */
@CompileStatic
final class FeatureReader {

    private static final Pattern METADATA = Pattern.compile(",\"metadata\":\\{[^{}]*\\}");
    private static final String DETECTION = "[{\"type\":\"Feature\",\"geometry\":{\"type\":\"Polygon\"," +
            "\"coordinates\":[[[0,0],[0,1],[1,1],[0,0]]]},\"properties\":{\"objectType\":\"detection\"}}]";

    /** Whether detections have no metadata, as in QuPath 0.5; see `Marks`. */
    private final boolean isForgetful = !canDetectionsRemember();
    private long refused;
    private String firstRefusal = "";

    /** Return how many features QuPath refused. */
    long getRefused() {
        return refused;
    }

    /** Return why it refused the first of them, in its words. */
    String getFirstRefusal() {
        return firstRefusal;
    }

    /** Return the objects of a JSON list of features. */
    List<PathObject> read(String features) {
        // else QuPath 0.5 writes a warning with a stack trace for every detection
        boolean isDropped = isForgetful && !features.contains("\"objectType\":\"annotation\"");
        String readable = isDropped ? METADATA.matcher(features).replaceAll("") : features;
        try {
            return parse(readable);
        } catch (IOException | RuntimeException whole) {
            return readOneByOne(readable);
        }
    }

    /** Return whether `object`, freshly read, can remember anything. */
    boolean canRemember(PathObject object) {
        return !isForgetful || Marks.canRemember(object);
    }

    private List<PathObject> readOneByOne(String features) {
        List<PathObject> objects = new ArrayList<>();
        for (JsonElement feature : JsonParser.parseString(features).getAsJsonArray()) {
            try {
                objects.addAll(parse("[" + feature + "]"));
            } catch (IOException | RuntimeException e) {
                refused += 1;
                firstRefusal = firstRefusal.isEmpty() ? String.valueOf(e.getMessage()) : firstRefusal;
            }
        }
        return objects;
    }

    private static boolean canDetectionsRemember() {
        try {
            return Marks.canRemember(parse(DETECTION).get(0));
        } catch (IOException e) {
            return true;
        }
    }

    private static List<PathObject> parse(String features) throws IOException {
        String collection = "{\"type\":\"FeatureCollection\",\"features\":" + features + "}";
        return PathIO.readObjectsFromGeoJSON(
                new ByteArrayInputStream(collection.getBytes(StandardCharsets.UTF_8)));
    }
}

/**
 * When the hierarchy may change again.
 *
 * Each change makes QuPath draw everything anew: at most once a second, more seldom the more
 * objects there are and the longer the last change took.
 */
@CompileStatic
final class Pace {

    private static final long SECOND = 1_000_000_000L;
    private static final long LONGEST_PAUSE = 20 * SECOND;
    private static final long PAUSE_PER_OBJECT = 10_000L;
    private static final int MOST_PENDING = 100_000;

    private long ended;
    private long pause;

    /** Return whether `pending` objects, one at least, are to be shown now. */
    boolean isDue(int pending) {
        long least = pending >= MOST_PENDING ? SECOND : pause;
        return ended == 0 || System.nanoTime() - ended >= least;
    }

    /** Note a change that `began` then, System.nanoTime(), after which there are `objects`. */
    void changed(long began, int objects) {
        ended = System.nanoTime();
        pause = Math.min(SECOND + objects * PAUSE_PER_OBJECT + 4 * (ended - began), LONGEST_PAUSE);
    }
}

/**
 * What an object remembers of the run that made it, so that a later run knows its own.
 *
 * In QuPath 0.5 detections and cells have no metadata. There a run knows its own by the id, which
 * is a sum over what is in the image (version 5; QuPath's own are random), and by the class.
 */
@CompileStatic
final class Marks {

    static final String MODEL = "isoline.model";
    static final String PROVISIONAL = "isoline.provisional";
    private static final String PROMPTS = "isoline.prompts";
    private static final String STAMP = "isoline.stamp";

    private Marks() {}

    /** Return whether `object`, freshly made, can remember anything. */
    static boolean canRemember(PathObject object) {
        try {
            object.getMetadata().put(STAMP, "");
            return true;
        } catch (UnsupportedOperationException e) {
            return false;
        }
    }

    /** Note how `object` looks now, and the prompts in `request` that it answers. */
    static void set(PathObject object, JsonObject request) {
        Map<String, String> metadata = object.getMetadata();
        // parsed anew for each object; a million copies of the same words cost hundreds of megabytes
        metadata.replaceAll((key, value) -> value.intern());
        if (request.has(RequestKeys.PROMPTS)) {
            metadata.put(PROMPTS, prompts(request));
        }
        metadata.put(STAMP, stamp(object));
    }

    /** Make `object` one that no run replaces any more. */
    static void release(PathObject object) {
        object.getMetadata().remove(STAMP);
    }

    /** Return whether the model of `request`, which gives objects of `classes`, made `object`. */
    static boolean isOf(PathObject object, JsonObject request, Set<String> classes) {
        if (isForgetful(object)) {
            return classes.contains(String.valueOf(object.getPathClass()));
        }
        return request.get(RequestKeys.MODEL).getAsString().equals(object.getMetadata().get(MODEL));
    }

    /** Return whether `object` came from the same prompts as are in `request`, or both from none. */
    static boolean hasPromptsOf(PathObject object, JsonObject request) {
        String its = object.getMetadata().get(PROMPTS);
        return request.has(RequestKeys.PROMPTS) ? prompts(request).equals(its) : its == null;
    }

    /** Return whether nobody has changed `object`, locked it or drawn something in it since. */
    static boolean isUntouched(PathObject object) {
        boolean isAsMade = isForgetful(object) ? object.getName() == null
                : stamp(object).equals(object.getMetadata().get(STAMP));
        return isAsMade && !object.isLocked() && !object.hasChildObjects();
    }

    /** Return whether `object` is of a run and has no metadata to say which. */
    private static boolean isForgetful(PathObject object) {
        return object.getID().version() == 5 && object.getMetadata().isEmpty();
    }

    private static String prompts(JsonObject request) {
        byte[] text = request.get(RequestKeys.PROMPTS).toString().getBytes(StandardCharsets.UTF_8);
        return UUID.nameUUIDFromBytes(text).toString();
    }

    /** Return digits that change with the geometry, the class, the name, and in a copy. */
    private static String stamp(PathObject object) {
        // the order of the points is QuPath's to choose, and they may be kept as 32-bit floats
        long sum = 0;
        for (Point2 point : object.getROI().getAllPoints()) {
            long corner = Math.round(point.getX() * 10) * 1_000_003L + Math.round(point.getY() * 10);
            corner = (corner ^ (corner >>> 29)) * -7046029254386353131L;
            sum += corner ^ (corner >>> 32);
        }
        Object pathClass = object.getPathClass();
        String words = "" + object.getID() + "/" + pathClass + "/" + object.getName();
        return Long.toHexString(sum * 31 + words.hashCode());
    }
}

/** What a user drew to point at something, as a request says it. */
@CompileStatic
final class Prompts {

    private static final List<String> EXCLUDING = List.of("negative", "ignore", "background", "exclude");

    private Prompts() {}

    /**
     * Return the points, lines and outlines among `objects`, in image coordinates and in order.
     *
     * Of a class whose name says negative, ignore, background or exclude: what is not meant.
     */
    public static JsonArray of(Collection<PathObject> objects) {
        JsonArray prompts = new JsonArray();
        for (PathObject object : objects) {
            if (object.getROI() == null) {
                continue;
            }
            // toJsonTree throws in QuPath 0.6 and 0.7
            String feature = GsonTools.getInstance().toJson(object, PathObject.class);
            JsonObject geometry = JsonParser.parseString(feature).getAsJsonObject().getAsJsonObject("geometry");
            JsonArray coordinates = geometry.getAsJsonArray("coordinates");
            boolean isMeant = isMeant(object);
            switch (geometry.get("type").getAsString()) {
                case "Point":
                    prompts.add(prompt("point", list(coordinates), isMeant));
                    break;
                case "MultiPoint":
                    coordinates.forEach(point -> prompts.add(prompt("point", list(point), isMeant)));
                    break;
                case "LineString":
                    prompts.add(prompt("scribble", coordinates, isMeant));
                    break;
                case "Polygon":
                    prompts.add(outline(coordinates, isMeant));
                    break;
                case "MultiPolygon":
                    coordinates.forEach(polygon -> prompts.add(outline(polygon.getAsJsonArray(), isMeant)));
                    break;
                default:
                    break; // nothing that QuPath lets one draw
            }
        }
        return prompts;
    }

    /** Return one list for each prompt that says what is meant; those that do not are in every list. */
    public static List<JsonArray> oneByOne(JsonArray prompts) {
        JsonArray excluding = new JsonArray();
        List<JsonArray> lists = new ArrayList<>();
        for (JsonElement prompt : prompts) {
            if (!prompt.getAsJsonObject().get("include").getAsBoolean()) {
                excluding.add(prompt);
            }
        }
        for (JsonElement prompt : prompts) {
            if (prompt.getAsJsonObject().get("include").getAsBoolean()) {
                JsonArray list = list(prompt);
                list.addAll(excluding);
                lists.add(list);
            }
        }
        return lists;
    }

    /** Return whether `object` says what is meant, rather than what is not. */
    public static boolean isMeant(PathObject object) {
        String name = String.valueOf(object.getPathClass()).toLowerCase(Locale.ROOT);
        return EXCLUDING.stream().noneMatch(word -> name.contains(word));
    }

    /** Return a box for an upright rectangle, else a polygon; a hole in it is drawn over. */
    private static JsonObject outline(JsonArray rings, boolean isMeant) {
        JsonArray shell = rings.get(0).getAsJsonArray();
        double[] low = new double[] {Double.MAX_VALUE, Double.MAX_VALUE};
        double[] high = new double[] {-Double.MAX_VALUE, -Double.MAX_VALUE};
        for (JsonElement corner : shell) {
            for (int axis = 0; axis < 2; axis++) {
                low[axis] = Math.min(low[axis], at(corner, axis));
                high[axis] = Math.max(high[axis], at(corner, axis));
            }
        }
        boolean isBox = shell.size() == 5;
        for (JsonElement corner : shell) {
            for (int axis = 0; axis < 2; axis++) {
                isBox = isBox && (at(corner, axis) == low[axis] || at(corner, axis) == high[axis]);
            }
        }
        JsonArray corners = new JsonArray();
        if (isBox) {
            corners.add(position(low));
            corners.add(position(high));
            return prompt("box", corners, isMeant);
        }
        corners.addAll(shell);
        corners.remove(corners.size() - 1); // the first again
        return prompt("polygon", corners, isMeant);
    }

    private static double at(JsonElement position, int axis) {
        return position.getAsJsonArray().get(axis).getAsDouble();
    }

    private static JsonArray position(double[] values) {
        JsonArray position = new JsonArray();
        position.add(values[0]);
        position.add(values[1]);
        return position;
    }

    private static JsonArray list(JsonElement only) {
        JsonArray list = new JsonArray();
        list.add(only);
        return list;
    }

    private static JsonObject prompt(String kind, JsonArray points, boolean isMeant) {
        JsonObject prompt = new JsonObject();
        prompt.addProperty("kind", kind);
        prompt.add("points", points);
        prompt.addProperty("include", isMeant);
        return prompt;
    }
}

/**
 * Segments one object after another from what the user draws; has no window.
 *
 * Every annotation drawn since the last object is a prompt. Whenever one is drawn, moved,
 * reclassified or deleted, the question is asked again with all of them, and its answer replaces
 * the one before. Everything happens on the thread of `gui`, where its methods are called too.
 */
@CompileStatic
final class ClickSession implements PathObjectHierarchyListener {

    private static final String NOT_MEANT = "Ignore*";

    private final IsolineClient client;
    private final ImageData<BufferedImage> image;
    private final PathObjectHierarchy hierarchy;
    private final JsonObject options;
    private final Executor gui;
    private final Consumer<JsonObject> recorder;
    private final Consumer<String> say;

    /** Annotations that are not prompts. */
    private final Set<UUID> others = new HashSet<>();
    /** Selected at the start: prompts of the first object that the user keeps. */
    private final Set<UUID> given = new HashSet<>();
    /** The prompts of the object, in the order in which they were drawn. */
    private final Map<UUID, PathObject> drawn = new LinkedHashMap<>();
    private boolean isExcluding;

    private JsonArray asked = new JsonArray();
    private Run running;
    private List<PathObject> answer = new ArrayList<>();
    private Upload.Sent sent;

    /**
     * Prepare a session; `options` are keys of a request: `model`, and `parameters` where given.
     *
     * `gui` is the JavaFX thread, where there is a window; `recorder` is given the request of each
     * object that is kept; `say` is told how things stand.
     */
    public ClickSession(IsolineClient client, ImageData<BufferedImage> image, JsonObject options,
            Executor gui, Consumer<JsonObject> recorder, Consumer<String> say) {
        this.client = client;
        this.image = image;
        this.hierarchy = image.getHierarchy();
        this.options = options;
        this.gui = gui;
        this.recorder = recorder;
        this.say = say;
    }

    /** Begin; selected points and lines are the first object's prompts. */
    public void start() {
        Set<PathObject> selected = hierarchy.getSelectionModel().getSelectedObjects();
        for (PathObject object : hierarchy.getAnnotationObjects()) {
            // a selected area is more often where someone worked before than a prompt
            boolean isGiven = selected.contains(object) && !object.getROI().isArea();
            (isGiven ? given : others).add(object.getID());
        }
        hierarchy.addListener(this);
        say.accept("Point at an object with QuPath's own tools.");
        look();
    }

    /** Called by QuPath. */
    @Override
    public void hierarchyChanged(PathObjectHierarchyEvent event) {
        if (!event.isChanging()) {
            gui.execute(() -> look());
        }
    }

    /** From now on, what is drawn says what the object is not. */
    public void setExcluding(boolean isExcluding) {
        this.isExcluding = isExcluding;
    }

    /** Return whether an answer is awaited. */
    public boolean isBusy() {
        return running != null;
    }

    /** Take back the last prompt. */
    public void undo() {
        List<PathObject> prompts = new ArrayList<>(drawn.values());
        if (!prompts.isEmpty()) {
            hierarchy.removeObjects(List.of(prompts.get(prompts.size() - 1)), true);
            look();
        }
    }

    /**
     * Keep the object, as an ordinary one, and begin with another; return what was kept.
     *
     * It takes the class of the first prompt that has one, or else the model's. Nothing
     * happens while an answer is awaited.
     */
    public List<PathObject> next() {
        if (isBusy()) {
            return List.of();
        }
        List<PathObject> kept = new ArrayList<>(answer);
        PathClass chosen = chosenClass();
        for (PathObject object : kept) {
            if (chosen != null) {
                object.setPathClass(chosen);
            }
            Marks.release(object);
        }
        if (!kept.isEmpty()) {
            recorder.accept(request());
        }
        forget();
        say.accept(kept.isEmpty() ? "There is no object yet." : "Kept. Point at the next object.");
        return kept;
    }

    /** Keep what there is and stop listening. */
    public void close() {
        if (isBusy()) {
            running.cancel();
        }
        hierarchy.removeListener(this);
        running = null;
        next();
    }

    // --- Prompts -------------------------------------------------------------------------------

    /** Ask again if the prompts have changed since the last question. */
    private void look() {
        notice();
        JsonArray prompts = Prompts.of(drawn.values());
        if (prompts.equals(asked)) {
            return;
        }
        asked = prompts;
        // otherwise the points tool would add the next point to this one, and undo would remove both
        hierarchy.getSelectionModel().clearSelection();
        if (isBusy()) {
            running.cancel(); // hangs up; `take` asks again
        } else {
            ask();
        }
    }

    private void notice() {
        Map<UUID, PathObject> now = new LinkedHashMap<>();
        for (PathObject object : hierarchy.getAnnotationObjects()) {
            if (!others.contains(object.getID()) && !object.getMetadata().containsKey(Marks.MODEL)) {
                now.put(object.getID(), object);
            }
        }
        drawn.keySet().retainAll(now.keySet());
        for (Map.Entry<UUID, PathObject> each : now.entrySet()) {
            if (isExcluding && !drawn.containsKey(each.getKey())) {
                each.getValue().setPathClass(PathClass.fromString(NOT_MEANT));
            }
            drawn.put(each.getKey(), each.getValue());
        }
    }

    private void forget() {
        List<PathObject> mine = new ArrayList<>();
        for (PathObject prompt : drawn.values()) {
            if (given.contains(prompt.getID())) {
                others.add(prompt.getID());
            } else {
                mine.add(prompt);
            }
        }
        drawn.clear();
        answer = new ArrayList<>();
        asked = new JsonArray();
        hierarchy.removeObjects(mine, true);
    }

    private PathClass chosenClass() {
        for (PathObject prompt : drawn.values()) {
            PathClass its = prompt.getPathClass();
            boolean isOnlySign = "Positive".equals(String.valueOf(its)) || !Prompts.isMeant(prompt);
            if (its != null && !isOnlySign) {
                return its;
            }
        }
        return null;
    }

    // --- Answers -------------------------------------------------------------------------------

    private void ask() {
        if (asked.isEmpty()) {
            hierarchy.removeObjects(answer, true);
            answer = new ArrayList<>();
            say.accept("Point at an object.");
            return;
        }
        JsonArray prompts = asked;
        Run run = new Run(client, image, hierarchy.getRootObject(), request()).on(gui)
                .replacing(answer).reusing(sent);
        run.telling(status -> gui.execute(() -> tell(run, status)));
        running = run;
        say.accept("Asking");
        Thread thread = new Thread(() -> {
            RunStatus end = run.call();
            gui.execute(() -> take(run, prompts, end));
        }, "isoline-click");
        thread.setDaemon(true);
        thread.start();
    }

    /** Say what the answer waits for. */
    private void tell(Run asking, RunStatus status) {
        if (asking == running && status.state.equals("starting")) {
            say.accept(status.message);
        }
    }

    private JsonObject request() {
        JsonObject request = options.deepCopy();
        request.add(RequestKeys.PROMPTS, asked);
        if (image.getServer().nZSlices() > 1) {
            request.addProperty(RequestKeys.Z, drawn.values().iterator().next().getROI().getZ());
        }
        return request;
    }

    private void take(Run ended, JsonArray prompts, RunStatus end) {
        if (ended != running) { // the session was closed meanwhile
            hierarchy.removeObjects(ended.getResults(), true);
            return;
        }
        running = null;
        sent = ended.getSent();
        answer.addAll(ended.getResults());
        answer.removeIf(object -> object.getParent() == null);
        if (!prompts.equals(asked)) {
            ask();
        } else {
            boolean isFine = end.message.equals("Done.") && !answer.isEmpty();
            say.accept(isFine ? "Add prompts to correct it, or go on to the next object." : end.message);
        }
    }
}

/** Asks for a model and its parameters; built from what the server says it has. */
@CompileStatic
final class RunForm {

    private static final double WIDTH = 460;

    private final Map<String, JsonObject> models = new LinkedHashMap<>();
    private final ComboBox<String> choice = new ComboBox<>();
    private final TextField channels = new TextField();
    private final Label about = new Label();
    private final Label complaint = new Label();
    private final GridPane fields = new GridPane();
    private final Map<String, Supplier<JsonPrimitive>> values = new LinkedHashMap<>();
    private final Dialog<ButtonType> dialog = new Dialog<>();

    private RunForm(List<JsonObject> offered, Window owner, boolean needsChannels) {
        for (boolean isUsable : List.of(true, false)) { // what can run comes first
            for (JsonObject model : offered) {
                if (model.has("title") && isUsable == problem(model).isEmpty()) {
                    models.put(model.get("title").getAsString(), model);
                }
            }
        }
        choice.getItems().addAll(models.keySet());
        choice.setOnAction(event -> show());
        for (Label words : List.of(about, complaint)) {
            words.setWrapText(true);
            words.setPrefWidth(WIDTH - 40);
            words.setMinHeight(Region.USE_PREF_SIZE);
        }
        fields.setHgap(10);
        fields.setVgap(6);
        GridPane all = new GridPane();
        all.setHgap(10);
        all.setVgap(8);
        all.setPadding(new Insets(12));
        all.addRow(0, new Label("Model"), choice);
        all.add(about, 0, 1, 2, 1);
        all.add(fields, 0, 2, 2, 1);
        if (needsChannels) {
            channels.setTooltip(new Tooltip("Names or numbers from 0, with commas between"));
            all.addRow(3, new Label("Channels"), channels);
        }
        all.add(complaint, 0, 4, 2, 1);
        dialog.setTitle("Isoline");
        dialog.initOwner(owner);
        dialog.getDialogPane().setContent(all);
        dialog.getDialogPane().setPrefWidth(WIDTH);
        dialog.getDialogPane().getButtonTypes().addAll(ButtonType.OK, ButtonType.CANCEL);
        Button ok = (Button) dialog.getDialogPane().lookupButton(ButtonType.OK);
        ok.setText("Run");
        ok.addEventFilter(ActionEvent.ACTION, event -> {
            String wrong = complaintNow();
            complaint.setText(wrong);
            if (!wrong.isEmpty()) {
                event.consume();
            }
        });
        if (!models.isEmpty()) {
            choice.getSelectionModel().select(0);
            show();
        }
    }

    /**
     * Ask, on the JavaFX thread; return the keys of a request, or null where the user gave up.
     *
     * Does not ask where there is nothing to choose: for one model without parameters.
     */
    public static JsonObject ask(List<JsonObject> models, Window owner, boolean needsChannels) {
        RunForm form = new RunForm(models, owner, needsChannels);
        if (models.size() == 1 && form.values.isEmpty() && !needsChannels && form.complaintNow().isEmpty()) {
            return form.options();
        }
        Optional<ButtonType> answer = form.dialog.showAndWait();
        return answer.isPresent() && answer.get().equals(ButtonType.OK) ? form.options() : null;
    }

    private JsonObject model() {
        return models.get(choice.getValue());
    }

    private void show() {
        fields.getChildren().clear();
        values.clear();
        about.setText(model().get("description").getAsString());
        complaint.setText(complaintNow());
        int row = 0;
        for (JsonElement each : model().getAsJsonArray("parameters")) {
            JsonObject parameter = each.getAsJsonObject();
            String name = parameter.get("name").getAsString();
            Control field = field(name, parameter);
            field.setTooltip(new Tooltip(parameter.get("help").getAsString()));
            Label bounds = new Label(parameter.has("minimum") ? bounds(parameter) : "");
            bounds.setOpacity(0.7d);
            fields.addRow(row, new Label(words(name)), field, bounds);
            row += 1;
        }
        dialog.getDialogPane().getScene().getWindow().sizeToScene();
    }

    private Control field(String name, JsonObject parameter) {
        JsonElement given = parameter.get("default");
        Supplier<JsonPrimitive> value; // Groovy needs the type to be said: it is not the map's to give
        switch (parameter.get("kind").getAsString()) {
            case "switch":
                CheckBox box = new CheckBox();
                box.setSelected(given.getAsBoolean());
                value = () -> new JsonPrimitive(box.isSelected());
                values.put(name, value);
                return box;
            case "choice":
                ComboBox<String> list = new ComboBox<>();
                for (JsonElement each : parameter.getAsJsonArray("choices")) {
                    list.getItems().add(each.getAsString());
                }
                list.setValue(given.getAsString());
                value = () -> new JsonPrimitive(list.getValue());
                values.put(name, value);
                return list;
            default:
                TextField text = new TextField(given.getAsString());
                value = () -> number(text.getText(), parameter);
                values.put(name, value);
                return text;
        }
    }

    /** Return the name of a parameter as people write it: min_area_um2 is Min area, µm². */
    private static String words(String name) {
        String spaced = name.replaceFirst("_um2\\z", ", \u00b5m\u00b2").replaceFirst("_um\\z", ", \u00b5m")
                .replace("_", " ");
        return spaced.substring(0, 1).toUpperCase() + spaced.substring(1);
    }

    private static String bounds(JsonObject parameter) {
        return parameter.get("minimum").getAsString() + " to " + parameter.get("maximum").getAsString();
    }

    private static JsonPrimitive number(String text, JsonObject parameter) {
        try {
            double value = Double.parseDouble(text.trim());
            boolean isWhole = parameter.get("integer").getAsBoolean();
            if (value >= parameter.get("minimum").getAsDouble() && value <= parameter.get("maximum").getAsDouble()
                    && (!isWhole || value == Math.rint(value))) {
                return isWhole ? new JsonPrimitive((long) value) : new JsonPrimitive(value);
            }
        } catch (NumberFormatException e) {
            // said below, with the bounds
        }
        throw new IllegalArgumentException(
                words(parameter.get("name").getAsString()) + ": write a number from " + bounds(parameter));
    }

    /** Return what keeps this model from running, an empty text where nothing does. */
    private String complaintNow() {
        if (!problem(model()).isEmpty()) {
            return "This model cannot run: " + problem(model());
        }
        for (Supplier<JsonPrimitive> value : values.values()) {
            try {
                value.get();
            } catch (IllegalArgumentException e) {
                return e.getMessage();
            }
        }
        return "";
    }

    private static String problem(JsonObject model) {
        JsonElement problem = model.get("problem");
        return problem == null || problem.isJsonNull() ? "" : problem.getAsString();
    }

    private JsonObject options() {
        JsonObject parameters = new JsonObject();
        values.forEach((name, value) -> parameters.add(name, value.get()));
        JsonObject options = new JsonObject();
        options.addProperty(RequestKeys.MODEL, model().get("name").getAsString());
        options.add(RequestKeys.PARAMETERS, parameters);
        if (!channels.getText().isBlank()) {
            options.add(RequestKeys.CHANNEL, channels(channels.getText()));
        }
        return options;
    }

    private static JsonArray channels(String text) {
        JsonArray chosen = new JsonArray();
        for (String each : new ArrayList<>(List.of(text.split(",")))) {
            if (each.trim().matches("[0-9]+")) {
                chosen.add(Integer.parseInt(each.trim()));
            } else {
                chosen.add(each.trim());
            }
        }
        return chosen;
    }
}

/** A small window beside the viewer while a run goes on; it never keeps the user from working. */
@CompileStatic
final class ProgressWindow {

    private final Stage stage = new Stage();
    private final Label words = new Label("Starting");
    private final Label numbers = new Label();
    private final ProgressBar bar = new ProgressBar(-1);
    private final Button cancel = new Button("Cancel");
    private final Button remove = new Button("Remove partial results");

    private ProgressWindow(Runs runs, String title, Window owner) {
        words.setWrapText(true);
        bar.setMaxWidth(Double.MAX_VALUE);
        cancel.setOnAction(event -> {
            cancel.setDisable(true);
            words.setText("Stopping; what arrived stays");
            runs.cancel();
        });
        remove.setVisible(false);
        remove.setOnAction(event -> {
            int removed = runs.removeResults();
            remove.setDisable(true);
            words.setText(removed + " objects were removed.");
        });
        VBox all = new VBox(8, words, bar, numbers, new HBox(8, cancel, remove));
        all.setPadding(new Insets(12));
        all.setPrefWidth(420);
        stage.initOwner(owner);
        stage.setTitle(title);
        stage.setScene(new Scene(all));
        stage.show();
    }

    /**
     * Start `runs` in a thread of their own and show how far they are; call on the JavaFX thread.
     *
     * `view` gives the x, y at which the user looks. Returns what stops them.
     */
    public static Runs start(List<Run> runs, String title, Window owner, Supplier<double[]> view) {
        runs.forEach(run -> run.on(work -> later(work)).lookingAt(view).asking(ask(owner)));
        Runs all = new Runs(runs);
        ProgressWindow window = new ProgressWindow(all, title, owner);
        Thread thread = new Thread(() -> {
            RunStatus end = all.call(status -> Platform.runLater(() -> window.show(status)));
            Platform.runLater(() -> window.finish(end));
        }, "isoline-run");
        thread.setDaemon(true);
        thread.start();
        return all;
    }

    private static void later(Runnable work) {
        if (Platform.isFxApplicationThread()) {
            work.run();
        } else {
            Platform.runLater(work);
        }
    }

    private static Predicate<String> ask(Window owner) {
        return (String question) -> {
            FutureTask<Boolean> answer = new FutureTask<>(() -> {
                Alert alert = new Alert(Alert.AlertType.CONFIRMATION, question, ButtonType.YES, ButtonType.NO);
                alert.initOwner(owner);
                return alert.showAndWait().filter(button -> button.equals(ButtonType.YES)).isPresent();
            });
            Platform.runLater(answer);
            try {
                return answer.get();
            } catch (Exception e) {
                return false;
            }
        };
    }

    private void show(RunStatus status) {
        if (!cancel.isDisabled()) {
            words.setText(status.message);
        }
        bar.setProgress(status.tiles == 0 ? -1 : (double) status.tilesDone / (double) status.tiles);
        boolean isOver = status.secondsLeft < 0 || !status.state.equals("running");
        String left = isOver ? "" : ", " + duration(status.secondsLeft) + " left";
        numbers.setText(String.format("%,d objects, %d of %d tiles%s",
                status.objects, status.tilesDone, status.tiles, left));
    }

    private void finish(RunStatus end) {
        show(end);
        words.setText(end.message);
        bar.setProgress(end.state.equals("done") ? 1 : bar.getProgress() < 0 ? 0 : bar.getProgress());
        remove.setVisible(!end.state.equals("done") && end.objects > 0);
        cancel.setText("Close");
        cancel.setDisable(false);
        cancel.setOnAction(event -> stage.close());
    }

    private static String duration(double seconds) {
        long whole = Math.round(seconds);
        return whole < 60 ? whole + " s" : String.format("%d min %d s", Math.floorDiv(whole, 60L), whole % 60);
    }
}

/** A small window beside the viewer while the user clicks: what a prompt means, undo, next object. */
@CompileStatic
final class ClickWindow {

    private static final KeyCombination NEXT = KeyCombination.valueOf("Shortcut+Enter");

    private final Stage stage = new Stage();
    private final Label words = new Label();
    private final Button next = new Button("Next object");
    private final ClickSession session;

    private ClickWindow(IsolineClient client, ImageData<BufferedImage> image, JsonObject options,
            Window owner, Consumer<JsonObject> recorder) {
        session = new ClickSession(client, image, options, work -> Platform.runLater(work), recorder,
                text -> say(text));
        RadioButton on = new RadioButton("On the object");
        RadioButton off = new RadioButton("Not the object");
        ToggleGroup meaning = new ToggleGroup();
        on.setToggleGroup(meaning);
        off.setToggleGroup(meaning);
        on.setSelected(true);
        off.selectedProperty().addListener((value, before, now) -> session.setExcluding(now));
        Button undo = new Button("Undo");
        undo.setOnAction(event -> session.undo());
        next.setTooltip(new Tooltip("Ctrl or Cmd and Enter"));
        next.setOnAction(event -> {
            session.next();
            on.setSelected(true);
        });
        Button close = new Button("Close");
        close.setOnAction(event -> stage.close());
        words.setWrapText(true);
        words.setMinHeight(44);
        Label tools = new Label("Points, rectangle, polyline (a scribble), polygon, brush and wand all point.");
        tools.setWrapText(true);
        VBox all = new VBox(8, words, new HBox(12, on, off), new HBox(8, undo, next, close), tools);
        all.setPadding(new Insets(12));
        all.setPrefWidth(360);
        stage.initOwner(owner);
        stage.setTitle("Isoline: " + options.get(RequestKeys.MODEL).getAsString());
        stage.setScene(new Scene(all));
        for (Scene scene : List.of(stage.getScene(), owner.getScene())) { // the viewer has the focus
            scene.getAccelerators().put(NEXT, () -> next.fire());
        }
        stage.setOnHidden(event -> {
            owner.getScene().getAccelerators().remove(NEXT);
            session.close();
        });
        stage.show();
        session.start();
    }

    /** Open a session, on the JavaFX thread; `recorder` is given the request of each object that is kept. */
    public static ClickWindow open(IsolineClient client, ImageData<BufferedImage> image, JsonObject options,
            Window owner, Consumer<JsonObject> recorder) {
        return new ClickWindow(client, image, options, owner, recorder);
    }

    /** Keep what there is and end the session. */
    public void close() {
        stage.close();
    }

    private void say(String text) {
        words.setText(text);
        next.setDisable(session.isBusy());
    }
}

/** A small window that appears when a server keeps the user waiting: what for, how long, and Cancel. */
@CompileStatic
final class WaitingWindow {

    private static final long A_MOMENT_MS = 800;

    private final Stage stage = new Stage();
    private final Label words = new Label();
    private boolean isOver;

    private WaitingWindow(Window owner, Cancellation stop) {
        words.setWrapText(true);
        words.setMinHeight(60);
        Button cancel = new Button("Cancel");
        cancel.setOnAction(event -> stage.close());
        VBox all = new VBox(8, words, cancel);
        all.setPadding(new Insets(12));
        all.setPrefWidth(420);
        stage.initOwner(owner);
        stage.setTitle("Isoline: waiting");
        stage.setScene(new Scene(all));
        stage.setOnHidden(event -> {
            isOver = true;
            stop.cancel();
        });
    }

    /**
     * Ask `client` for its models and give them to `next`, or what went wrong to `say`.
     *
     * Called on the JavaFX thread, which is not kept; `next` and `say` are called there too, unless
     * the user cancels.
     */
    public static void models(IsolineClient client, Window owner, Consumer<List<JsonObject>> next,
            Consumer<String> say) {
        Cancellation stop = new Cancellation();
        WaitingWindow window = new WaitingWindow(owner, stop);
        IsolineClient patient = client.until(stop).telling(words -> Platform.runLater(() -> window.show(words)));
        CompletableFuture.delayedExecutor(A_MOMENT_MS, TimeUnit.MILLISECONDS).execute(() ->
                Platform.runLater(() -> window.begin("Asking " + client.getUrl() + " for its models")));
        Thread thread = new Thread(() -> {
            try {
                List<JsonObject> models = patient.models();
                Platform.runLater(() -> window.finish(() -> next.accept(models)));
            } catch (CancellationException | InterruptedException e) {
                Thread.currentThread().interrupt(); // the window was closed
            } catch (IOException | RuntimeException e) {
                Platform.runLater(() -> window.finish(() -> say.accept(client.explain(e))));
            }
        }, "isoline-models");
        thread.setDaemon(true);
        thread.start();
    }

    private void begin(String text) {
        if (words.getText().isEmpty()) {
            show(text);
        }
    }

    private void show(String text) {
        if (isOver || text.isEmpty()) {
            return;
        }
        words.setText(text);
        stage.show();
    }

    private void finish(Runnable last) {
        if (!isOver) {
            isOver = true;
            stage.close();
            last.run();
        }
    }
}

/** Asks for the server and the token, and says in words whether they are right. */
@CompileStatic
final class SettingsDialog {

    private SettingsDialog() {}

    /** Ask, on the JavaFX thread; return the address and the token, or null. */
    public static String[] ask(String url, String token, Window owner) {
        TextField address = new TextField(url);
        PasswordField secret = new PasswordField();
        secret.setText(token);
        secret.setPromptText("only if the server wants one");
        Label answer = new Label();
        answer.setWrapText(true);
        answer.setMinHeight(60);
        Button test = new Button("Test connection");
        test.setOnAction(event -> {
            answer.setText("Asking...");
            IsolineClient client = new IsolineClient(address.getText(), secret.getText());
            Thread thread = new Thread(() -> {
                String words = client.test();
                Platform.runLater(() -> answer.setText(words));
            }, "isoline-test");
            thread.setDaemon(true);
            thread.start();
        });
        GridPane all = new GridPane();
        all.setHgap(10);
        all.setVgap(8);
        all.setPadding(new Insets(12));
        all.addRow(0, new Label("Server"), address);
        all.addRow(1, new Label("Token"), secret);
        all.addRow(2, test);
        all.add(answer, 0, 3, 2, 1);
        address.setPrefColumnCount(28);
        Dialog<ButtonType> dialog = new Dialog<>();
        dialog.setTitle("Isoline: settings");
        dialog.initOwner(owner);
        dialog.getDialogPane().setContent(all);
        dialog.getDialogPane().getButtonTypes().addAll(ButtonType.OK, ButtonType.CANCEL);
        Optional<ButtonType> button = dialog.showAndWait();
        boolean isMeant = button.isPresent() && button.get().equals(ButtonType.OK);
        return isMeant ? new String[] {address.getText().trim(), secret.getText().trim()} : null;
    }
}
