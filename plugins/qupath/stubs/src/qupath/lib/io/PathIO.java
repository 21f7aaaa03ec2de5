package qupath.lib.io;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import qupath.lib.objects.Feature;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.roi.PolygonsROI;

/** Reads GeoJSON with the refusals that were seen in QuPath's own: one bad feature, no objects. */
public class PathIO {

    public static List<PathObject> readObjectsFromGeoJSON(InputStream stream) throws IOException {
        InputStreamReader reader = new InputStreamReader(stream, StandardCharsets.UTF_8);
        List<PathObject> objects = new ArrayList<>();
        JsonObject collection = JsonParser.parseReader(reader).getAsJsonObject();
        for (JsonElement feature : collection.getAsJsonArray("features")) {
            objects.add(read(feature.getAsJsonObject()));
        }
        return objects;
    }

    private static PathObject read(JsonObject json) {
        JsonObject properties = json.getAsJsonObject("properties");
        String type = properties.get("objectType").getAsString();
        PolygonsROI roi = PolygonsROI.of(json.getAsJsonObject("geometry"));
        boolean isOneOfMany = type.equals("detection") || type.equals("cell");
        Feature object = new Feature(type, roi, isOneOfMany ? null : json.getAsJsonObject("geometry"));
        if (json.has("id")) {
            object.setID(UUID.fromString(json.get("id").getAsString()));
        }
        if (json.has("nucleusGeometry")) {
            PolygonsROI.of(json.getAsJsonObject("nucleusGeometry"));
        }
        if (properties.has("name")) {
            object.setName(properties.get("name").getAsString());
        }
        if (properties.has("classification")) {
            JsonObject classification = properties.getAsJsonObject("classification");
            JsonArray color = classification.getAsJsonArray("color");
            for (JsonElement part : color) {
                Integer.parseInt(part.getAsString());
            }
            JsonArray names = new JsonArray();
            if (classification.has("names")) {
                names.addAll(classification.getAsJsonArray("names"));
            } else {
                names.add(classification.get("name"));
            }
            object.setPathClass(PathClass.fromString(String.join(": ",
                    names.asList().stream().map(JsonElement::getAsString).toList())));
        }
        if (properties.has("measurements")) {
            for (Map.Entry<String, JsonElement> each : properties.getAsJsonObject("measurements").entrySet()) {
                object.measurements.put(each.getKey().intern(), each.getValue().getAsDouble());
            }
        }
        if (properties.has("metadata")) {
            for (Map.Entry<String, JsonElement> each : properties.getAsJsonObject("metadata").entrySet()) {
                if (each.getValue().isJsonPrimitive()) {
                    object.getMetadata().put(each.getKey(), each.getValue().getAsString());
                }
            }
        }
        return object;
    }
}
