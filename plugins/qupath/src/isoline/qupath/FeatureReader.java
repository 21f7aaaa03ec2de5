package isoline.qupath;

import com.google.gson.JsonElement;
import com.google.gson.JsonParser;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;
import qupath.lib.io.PathIO;
import qupath.lib.objects.PathObject;

/** Reads GeoJSON as QuPath's objects; a feature that QuPath cannot read is skipped. */
final class FeatureReader {

    private static final Pattern METADATA = Pattern.compile(",\"metadata\":\\{[^{}]*\\}");
    private static final String DETECTION = "[{\"type\":\"Feature\",\"geometry\":{\"type\":\"Polygon\"," +
            "\"coordinates\":[[[0,0],[0,1],[1,1],[0,0]]]},\"properties\":{\"objectType\":\"detection\"}}]";

    /** Whether detections have no metadata, as in QuPath 0.5; see `Marks`. */
    private final boolean isForgetful = !canDetectionsRemember();
    private long refused;
    private String firstRefusal = "";

    /** Return the number of features that QuPath could not read. */
    long getRefused() {
        return refused;
    }

    /** Return QuPath's message about the first of them, an empty text if there are none. */
    String getFirstRefusal() {
        return firstRefusal;
    }

    /** Return the objects of a JSON list of features. */
    List<PathObject> read(String features) {
        // otherwise QuPath 0.5 logs a warning with a stack trace for every detection
        boolean isDropped = isForgetful && !features.contains("\"objectType\":\"annotation\"");
        String readable = isDropped ? METADATA.matcher(features).replaceAll("") : features;
        try {
            return parse(readable);
        } catch (IOException | RuntimeException whole) {
            return readOneByOne(readable);
        }
    }

    /** Return whether `object`, which has just been read, can hold metadata. */
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
