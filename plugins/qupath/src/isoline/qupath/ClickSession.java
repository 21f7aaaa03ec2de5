package isoline.qupath;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import java.awt.image.BufferedImage;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.Executor;
import java.util.function.Consumer;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.objects.hierarchy.events.PathObjectHierarchyEvent;
import qupath.lib.objects.hierarchy.events.PathObjectHierarchyListener;

/**
 * Segments one object after another from prompts that the user draws; has no window.
 *
 * Every annotation drawn since the last object is a prompt. Whenever one is drawn, moved,
 * reclassified or deleted, a request with all of them is sent, and its result replaces the previous
 * one. Everything runs on the thread of `gui`, on which the methods must be called too.
 */
public final class ClickSession implements PathObjectHierarchyListener {

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
    /** Annotations selected at the start: prompts for the first object, which are not removed. */
    private final Set<UUID> given = new HashSet<>();
    /** The prompts of the object, in the order in which they were drawn. */
    private final Map<UUID, PathObject> drawn = new LinkedHashMap<>();
    private boolean isExcluding;

    private JsonArray asked = new JsonArray();
    private Run running;
    private List<PathObject> answer = new ArrayList<>();
    private Upload.Sent sent;

    /**
     * Prepare a session; `options` are keys of a request: `model` and, optionally, `parameters`.
     *
     * `gui` runs work on the JavaFX thread, if there is a window; `recorder` receives the request of
     * each object that is kept; `say` receives messages for the user.
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

    /** Begin; selected points and lines are prompts for the first object. */
    public void start() {
        Set<PathObject> selected = hierarchy.getSelectionModel().getSelectedObjects();
        for (PathObject object : hierarchy.getAnnotationObjects()) {
            // a selected area is more often left from earlier work than a prompt
            boolean isGiven = selected.contains(object) && !object.getROI().isArea();
            (isGiven ? given : others).add(object.getID());
        }
        hierarchy.addListener(this);
        say.accept("Mark an object with QuPath's annotation tools.");
        look();
    }

    /** Called by QuPath. */
    @Override
    public void hierarchyChanged(PathObjectHierarchyEvent event) {
        if (!event.isChanging()) {
            gui.execute(() -> look());
        }
    }

    /** Set whether annotations drawn from now on are off the object. */
    public void setExcluding(boolean isExcluding) {
        this.isExcluding = isExcluding;
    }

    /** Return whether a request is in progress. */
    public boolean isBusy() {
        return running != null;
    }

    /** Undo the last prompt. */
    public void undo() {
        List<PathObject> prompts = new ArrayList<>(drawn.values());
        if (!prompts.isEmpty()) {
            hierarchy.removeObjects(List.of(prompts.get(prompts.size() - 1)), true);
            look();
        }
    }

    /**
     * Keep the object as an ordinary annotation and begin another; return what was kept.
     *
     * Its class is that of the first prompt that has one, otherwise the model's. Does nothing while
     * a request is in progress.
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
        say.accept(kept.isEmpty() ? "There is no object yet." : "Kept. Mark the next object.");
        return kept;
    }

    /** Keep the current object and end the session. */
    public void close() {
        if (isBusy()) {
            running.cancel();
        }
        hierarchy.removeListener(this);
        running = null;
        next();
    }

    // --- Prompts -------------------------------------------------------------------------------

    /** Send a request if the prompts have changed since the last one. */
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
            running.cancel(); // closes the connection; `take` sends the next request
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
            say.accept("Mark an object.");
            return;
        }
        JsonArray prompts = asked;
        Run run = new Run(client, image, hierarchy.getRootObject(), request()).on(gui)
                .replacing(answer).reusing(sent);
        run.telling(status -> gui.execute(() -> tell(run, status)));
        running = run;
        say.accept("Segmenting");
        Thread thread = new Thread(() -> {
            RunStatus end = run.call();
            gui.execute(() -> take(run, prompts, end));
        }, "isoline-click");
        thread.setDaemon(true);
        thread.start();
    }

    /** Report what the request is waiting for. */
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
