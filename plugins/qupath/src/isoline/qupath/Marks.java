package isoline.qupath;

import com.google.gson.JsonObject;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import qupath.lib.geom.Point2;
import qupath.lib.objects.PathObject;

/**
 * Metadata of an object about the run that created it, by which a later run recognises it.
 *
 * In QuPath 0.5 detections and cells have no metadata. There a run recognises them by their class and
 * by their id, which is derived from the image's content (version 5; QuPath's own ids are random).
 */
final class Marks {

    static final String MODEL = "isoline.model";
    static final String PROVISIONAL = "isoline.provisional";
    private static final String PROMPTS = "isoline.prompts";
    private static final String STAMP = "isoline.stamp";

    private Marks() {}

    /** Return whether `object`, which has just been created, can hold metadata. */
    static boolean canRemember(PathObject object) {
        try {
            object.getMetadata().put(STAMP, "");
            return true;
        } catch (UnsupportedOperationException e) {
            return false;
        }
    }

    /** Record the current state of `object`, and the prompts in `request` that it is the result of. */
    static void set(PathObject object, JsonObject request) {
        Map<String, String> metadata = object.getMetadata();
        // each object has its own strings; a million copies would take hundreds of megabytes
        metadata.replaceAll((key, value) -> value.intern());
        if (request.has(RequestKeys.PROMPTS)) {
            metadata.put(PROMPTS, prompts(request));
        }
        metadata.put(STAMP, stamp(object));
    }

    /** Make `object` permanent: no run replaces it any more. */
    static void release(PathObject object) {
        object.getMetadata().remove(STAMP);
    }

    /** Return whether the model of `request`, which creates objects of `classes`, created `object`. */
    static boolean isOf(PathObject object, JsonObject request, Set<String> classes) {
        if (isForgetful(object)) {
            return classes.contains(String.valueOf(object.getPathClass()));
        }
        return request.get(RequestKeys.MODEL).getAsString().equals(object.getMetadata().get(MODEL));
    }

    /** Return whether `object` is the result of the prompts in `request`, or both have none. */
    static boolean hasPromptsOf(PathObject object, JsonObject request) {
        String its = object.getMetadata().get(PROMPTS);
        return request.has(RequestKeys.PROMPTS) ? prompts(request).equals(its) : its == null;
    }

    /** Return whether the user has not changed `object`, locked it or drawn inside it since. */
    static boolean isUntouched(PathObject object) {
        boolean isAsMade = isForgetful(object) ? object.getName() == null
                : stamp(object).equals(object.getMetadata().get(STAMP));
        return isAsMade && !object.isLocked() && !object.hasChildObjects();
    }

    /** Return whether `object` was created by a run but has no metadata. */
    private static boolean isForgetful(PathObject object) {
        return object.getID().version() == 5 && object.getMetadata().isEmpty();
    }

    private static String prompts(JsonObject request) {
        byte[] text = request.get(RequestKeys.PROMPTS).toString().getBytes(StandardCharsets.UTF_8);
        return UUID.nameUUIDFromBytes(text).toString();
    }

    /** Return a digest of the geometry, the class, the name and the id. */
    private static String stamp(PathObject object) {
        // QuPath may reorder the points, and may store them as 32-bit floats
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
