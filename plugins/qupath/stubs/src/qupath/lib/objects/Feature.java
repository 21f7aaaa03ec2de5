package qupath.lib.objects;

import com.google.gson.JsonObject;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import qupath.lib.roi.PolygonsROI;

/** Not of QuPath: whatever `PathIO` has read. */
public class Feature extends PathObject {

    public final String type;
    public final Map<String, Double> measurements = new LinkedHashMap<>();
    private final JsonObject geometry;

    /** Null `geometry` is for detections: a million of them need not remember their text. */
    public Feature(String type, PolygonsROI roi, JsonObject geometry) {
        this.type = type;
        this.geometry = geometry;
        setROI(roi);
    }

    /** In QuPath 0.5 detections have none. */
    @Override
    public Map<String, String> getMetadata() {
        boolean isForgetful = Boolean.getBoolean("qupath.old") && !type.equals("annotation");
        return isForgetful ? Collections.emptyMap() : super.getMetadata();
    }

    @Override
    public JsonObject toJson() {
        JsonObject properties = new JsonObject();
        properties.addProperty("objectType", type);
        JsonObject json = new JsonObject();
        json.addProperty("type", "Feature");
        json.addProperty("id", getID().toString());
        json.add("geometry", geometry);
        json.add("properties", properties);
        return json;
    }
}
