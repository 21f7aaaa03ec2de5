package isoline.qupath;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;
import java.util.concurrent.FutureTask;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;

/**
 * What a run puts into the hierarchy and takes out of it, many objects at a time.
 *
 * Used from the thread of the run; the hierarchy itself changes on that of `gui` alone.
 */
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
    /** Provisional pieces by id, until their union replaces them. */
    private final Map<String, PathObject> pieces = new HashMap<>();
    private final Set<PathObject> replaced = new HashSet<>();
    /** Objects of earlier runs that stay: their ids are taken. */
    private final Set<String> kept = new HashSet<>();
    private boolean hasReplacedEarlier;
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

    /** Replace `objects` too, as long as nobody has touched them. */
    void setReplaceable(Collection<PathObject> objects) {
        replaceable = objects;
    }

    /** Know an object of this class for one of the model's. */
    void addClass(String name) {
        classes.add(name);
    }

    /** Take in a JSON list of features, and the ids of pieces that they replace. */
    void take(String features, JsonArray replaces) {
        for (JsonElement id : replaces) {
            PathObject piece = pieces.remove(id.getAsString());
            if (piece != null) {
                replaced.add(piece);
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
        if (pending.isEmpty() && replaced.isEmpty()) {
            return false;
        }
        long began = System.nanoTime();
        apply(() -> change());
        flushes += 1;
        pace.changed(began, added.size());
        return true;
    }

    /** Take away pieces that have no union, since the job has said all that it had to say. */
    void dropPieces() {
        replaced.addAll(pieces.values());
        pieces.clear();
    }

    /** Take away what an earlier run left, also where this one has found nothing. */
    void replaceEarlier() throws InterruptedException {
        if (!hasReplacedEarlier) {
            apply(() -> change());
        }
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

    // --- On the thread of the GUI --------------------------------------------------------------

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
        List<PathObject> old = new ArrayList<>(replaced);
        old.removeIf(piece -> piece.getParent() == null);
        remove(old);
        if (!old.isEmpty()) {
            added.removeAll(new HashSet<>(old));
        }
        parent.addChildObjects(fresh);
        added.addAll(fresh);
        pending.clear();
        replaced.clear();
        fire();
    }

    /** Remove what an earlier run of this model and these prompts left, except what the user changed. */
    private void removeEarlier() {
        // prompts give annotations; to look through a million cells at each click takes its time
        Collection<PathObject> there = request.has(RequestKeys.PROMPTS) ? image.getHierarchy().getAnnotationObjects()
                : parent.getChildObjects();
        List<PathObject> earlier = new ArrayList<>();
        for (PathObject object : there) {
            if (!Marks.isOf(object, request, classes)) {
                continue;
            }
            boolean isEarlier = replaceable.contains(object) || Marks.hasPromptsOf(object, request);
            if (isEarlier && Marks.isUntouched(object)) {
                earlier.add(object);
            } else {
                kept.add(object.getID().toString());
            }
        }
        remove(earlier);
    }

    private static void remove(List<PathObject> objects) {
        Map<PathObject, List<PathObject>> byParent = new HashMap<>();
        for (PathObject object : objects) {
            byParent.computeIfAbsent(object.getParent(), key -> new ArrayList<>()).add(object);
        }
        byParent.forEach((above, children) -> above.removeChildObjects(children));
    }

    private void fire() {
        image.getHierarchy().fireHierarchyChangedEvent(this, parent);
    }

    private void apply(Runnable work) throws InterruptedException {
        FutureTask<Void> change = new FutureTask<>(work, null);
        gui.execute(change);
        try {
            change.get();
        } catch (ExecutionException e) {
            throw new IllegalStateException("QuPath refused the objects: " + e.getCause(), e.getCause());
        }
    }
}
