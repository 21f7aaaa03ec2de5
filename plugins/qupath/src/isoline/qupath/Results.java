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
import java.util.UUID;
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
    /** Provisional pieces by id, until something replaces them. */
    private final Map<String, PathObject> pieces = new HashMap<>();
    private final Set<PathObject> replacedPieces = new HashSet<>();
    /** Results of earlier runs of the model by id; null before the first change. */
    private Map<UUID, PathObject> earlier;
    private final Set<UUID> replacedEarlier = new HashSet<>();
    private boolean isReplacingAll;
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

    /** Count `objects` among the results of earlier runs. */
    void setReplaceable(Collection<PathObject> objects) {
        replaceable = objects;
    }

    /** Add a class of the model's objects. */
    void addClass(String name) {
        classes.add(name);
    }

    /** Add the features in a JSON list, and remove the pieces and earlier objects with the ids in `replaces`. */
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
        if (pending.isEmpty() && replacedPieces.isEmpty() && replacedEarlier.isEmpty() && !isReplacingAll) {
            return false;
        }
        long began = System.nanoTime();
        apply(() -> change());
        flushes += 1;
        pace.changed(began, added.size());
        return true;
    }

    /** Remove, with the next flush, the pieces that nothing has replaced; they are not results. */
    void dropPieces() {
        replacedPieces.addAll(pieces.values());
        pieces.clear();
    }

    /** Remove, with the next flush, all results of earlier runs that this one has not found again. */
    void replaceAll() {
        isReplacingAll = hasEarlier();
    }

    /** Return whether results of earlier runs remain, or may remain. */
    boolean hasEarlier() {
        return earlier == null || !earlier.isEmpty();
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

    /** Run `work` on the thread of the GUI and wait for it. */
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

    /** Return the results of earlier runs of this model, including those that the user has changed. */
    private Map<UUID, PathObject> findEarlier() {
        // the results of prompts are annotations; searching a million cells at each click would be slow
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

    /** Add the earlier object with this `id` to `old`, unless it is kept; return whether the id is free then. */
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
