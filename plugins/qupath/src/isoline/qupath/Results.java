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
 * Adds the results of a run to the hierarchy and removes earlier ones, many objects at a time.
 *
 * To be used from the thread of the run; the hierarchy is changed only on the thread of `gui`.
 */
final class Results {

    private final ImageData<?> image;
    private final PathObject parent;
    private final JsonObject request;
    private final FeatureReader reader = new FeatureReader();
    private final Pace pace = new Pace();
    private Executor gui = work -> work.run();
    private Collection<PathObject> replaceable = List.of();

    /** The classes of the model's objects. */
    private final Set<String> classes = new HashSet<>();
    private final List<PathObject> pending = new ArrayList<>();
    private final List<PathObject> added = new ArrayList<>();
    /** Provisional pieces by id, until their union replaces them. */
    private final Map<String, PathObject> pieces = new HashMap<>();
    private final Set<PathObject> replaced = new HashSet<>();
    /** Ids of objects of earlier runs that are kept; new objects with these ids are not added. */
    private final Set<String> kept = new HashSet<>();
    private boolean hasReplacedEarlier;
    private int flushes;

    /** Add the objects of `request` below `parent`. */
    Results(ImageData<?> image, PathObject parent, JsonObject request) {
        this.image = image;
        this.parent = parent;
        this.request = request;
    }

    /** Change the hierarchy through `executor`. */
    void setGui(Executor executor) {
        gui = executor;
    }

    /** Also replace `objects`, unless the user has changed them. */
    void setReplaceable(Collection<PathObject> objects) {
        replaceable = objects;
    }

    /** Add a class of the model's objects. */
    void addClass(String name) {
        classes.add(name);
    }

    /** Add the features in a JSON list, and remove the pieces with the ids in `replaces`. */
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

    /** Return the number of objects, including those not yet shown. */
    int count() {
        return added.size() + pending.size();
    }

    /** Return the objects that were added to the hierarchy. */
    List<PathObject> getAdded() {
        return new ArrayList<>(added);
    }

    /** Return the number of changes of the hierarchy. */
    int getFlushes() {
        return flushes;
    }

    /** Return the reader of features, which knows what it could not read. */
    FeatureReader getReader() {
        return reader;
    }

    /** Show pending objects if the last change is long enough ago; return whether there was a change. */
    boolean flushIfDue() throws InterruptedException {
        return pace.isDue(pending.size()) && flush();
    }

    /** Show pending objects; return whether there was a change. */
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

    /** Remove pieces that no union has replaced, since the job has ended. */
    void dropPieces() {
        replaced.addAll(pieces.values());
        pieces.clear();
    }

    /** Remove the results of an earlier run, even if this one has found nothing. */
    void replaceEarlier() throws InterruptedException {
        if (!hasReplacedEarlier) {
            apply(() -> change());
        }
    }

    /** Remove the added objects that the user has not changed; return their number. */
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

    /** Remove the results of an earlier run of this model and these prompts, unless the user changed them. */
    private void removeEarlier() {
        // the results of prompts are annotations; searching a million cells at each click would be slow
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
