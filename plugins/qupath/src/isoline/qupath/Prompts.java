package isoline.qupath;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.util.Collection;
import java.util.Locale;
import qupath.lib.io.GsonTools;
import qupath.lib.objects.PathObject;

/** What a user drew to point at something, as a request says it. */
final class Prompts {

    private Prompts() {}

    /**
     * Return the points, lines and outlines among `objects`, in image coordinates.
     *
     * Of a class whose name says negative, ignore, background or exclude: what is not meant.
     */
    static JsonArray of(Collection<PathObject> objects) {
        JsonArray prompts = new JsonArray();
        for (PathObject object : objects) {
            if (object.getROI() == null) {
                continue;
            }
            String feature = GsonTools.getInstance().toJson(object, PathObject.class);
            JsonObject geometry = JsonParser.parseString(feature).getAsJsonObject()
                    .getAsJsonObject("geometry");
            boolean isMeant = isMeant(object);
            switch (geometry.get("type").getAsString()) {
                case "Point":
                    prompts.add(prompt("point", geometry.get("coordinates"), isMeant));
                    break;
                case "MultiPoint":
                    for (JsonElement point : geometry.getAsJsonArray("coordinates")) {
                        prompts.add(prompt("point", point, isMeant));
                    }
                    break;
                case "LineString":
                    prompts.add(prompt("scribble", geometry.get("coordinates"), isMeant));
                    break;
                case "Polygon":
                    prompts.add(outline(geometry.getAsJsonArray("coordinates"), isMeant));
                    break;
                default:
                    break;
            }
        }
        return prompts;
    }

    private static boolean isMeant(PathObject object) {
        String name = String.valueOf(object.getPathClass()).toLowerCase(Locale.ROOT);
        return !(name.contains("negative") || name.contains("ignore")
                || name.contains("background") || name.contains("exclude"));
    }

    /** Return a box for an upright rectangle, else a polygon. */
    private static JsonObject outline(JsonArray rings, boolean isMeant) {
        JsonArray shell = rings.get(0).getAsJsonArray();
        double[] box = new double[] {Double.MAX_VALUE, Double.MAX_VALUE, -Double.MAX_VALUE, -Double.MAX_VALUE};
        for (JsonElement corner : shell) {
            double x = corner.getAsJsonArray().get(0).getAsDouble();
            double y = corner.getAsJsonArray().get(1).getAsDouble();
            box[0] = Math.min(box[0], x);
            box[1] = Math.min(box[1], y);
            box[2] = Math.max(box[2], x);
            box[3] = Math.max(box[3], y);
        }
        boolean isBox = shell.size() == 5 && rings.size() == 1;
        for (JsonElement corner : shell) {
            double x = corner.getAsJsonArray().get(0).getAsDouble();
            double y = corner.getAsJsonArray().get(1).getAsDouble();
            isBox = isBox && (x == box[0] || x == box[2]) && (y == box[1] || y == box[3]);
        }
        if (!isBox) {
            return prompt("polygon", rings, isMeant);
        }
        JsonArray corners = new JsonArray();
        for (double value : box) {
            corners.add(value);
        }
        return prompt("box", corners, isMeant);
    }

    private static JsonObject prompt(String kind, JsonElement coordinates, boolean isMeant) {
        JsonObject prompt = new JsonObject();
        prompt.addProperty("kind", kind);
        prompt.add("coordinates", coordinates);
        prompt.addProperty("include", isMeant);
        return prompt;
    }
}
