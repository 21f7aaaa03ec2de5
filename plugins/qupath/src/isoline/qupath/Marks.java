package isoline.qupath;

import com.google.gson.JsonObject;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import qupath.lib.geom.Point2;
import qupath.lib.objects.PathObject;

/**
 * What an object remembers of the run that made it, so that a later run knows its own.
 *
 * In QuPath 0.5 detections and cells have no metadata. There a run knows its own by the id, which
 * is a sum over what is in the image (version 5; QuPath's own are random), and by the class.
 */
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
