package isoline.qupath;

import java.util.Map;
import qupath.lib.geom.Point2;
import qupath.lib.objects.PathObject;

/** What an object remembers of the run that made it, so that a later run knows its own. */
final class Marks {

    static final String MODEL = "isoline.model";
    static final String PROVISIONAL = "isoline.provisional";
    private static final String STAMP = "isoline.stamp";

    private Marks() {}

    /** Note how `object` looks now. */
    static void set(PathObject object) {
        Map<String, String> metadata = object.getMetadata();
        // parsed anew for each object; a million copies of the same words cost hundreds of megabytes
        metadata.replaceAll((key, value) -> value.intern());
        metadata.put(STAMP, stamp(object));
    }

    /** Return whether `model` made `object`. */
    static boolean isOf(PathObject object, String model) {
        return model.equals(object.getMetadata().get(MODEL));
    }

    /** Return whether nobody has changed `object`, locked it or drawn something in it since. */
    static boolean isUntouched(PathObject object) {
        return !object.isLocked() && !object.hasChildObjects()
                && stamp(object).equals(object.getMetadata().get(STAMP));
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
