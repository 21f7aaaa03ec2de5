package isoline.qupath;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import qupath.lib.io.GsonTools;
import qupath.lib.objects.PathObject;

/** Converts annotations that the user drew into the prompts of a request. */
public final class Prompts {

    private static final List<String> EXCLUDING = List.of("negative", "ignore", "background", "exclude");

    private Prompts() {}

    /**
     * Return the points, lines and outlines among `objects` as prompts, in image coordinates, in order.
     *
     * A prompt is off the object if its class has negative, ignore, background or exclude in its name.
     */
    public static JsonArray of(Collection<PathObject> objects) {
        JsonArray prompts = new JsonArray();
        for (PathObject object : objects) {
            if (object.getROI() == null) {
                continue;
            }
            // toJsonTree throws in QuPath 0.6 and 0.7
            String feature = GsonTools.getInstance().toJson(object, PathObject.class);
            JsonObject geometry = JsonParser.parseString(feature).getAsJsonObject().getAsJsonObject("geometry");
            JsonArray coordinates = geometry.getAsJsonArray("coordinates");
            boolean isMeant = isMeant(object);
            switch (geometry.get("type").getAsString()) {
                case "Point":
                    prompts.add(prompt("point", list(coordinates), isMeant));
                    break;
                case "MultiPoint":
                    coordinates.forEach(point -> prompts.add(prompt("point", list(point), isMeant)));
                    break;
                case "LineString":
                    prompts.add(prompt("scribble", coordinates, isMeant));
                    break;
                case "Polygon":
                    prompts.add(outline(coordinates, isMeant));
                    break;
                case "MultiPolygon":
                    coordinates.forEach(polygon -> prompts.add(outline(polygon.getAsJsonArray(), isMeant)));
                    break;
                default:
                    break; // cannot be drawn in QuPath
            }
        }
        return prompts;
    }

    /** Return one list for each prompt that includes; each also has all prompts that exclude. */
    public static List<JsonArray> oneByOne(JsonArray prompts) {
        JsonArray excluding = new JsonArray();
        List<JsonArray> lists = new ArrayList<>();
        for (JsonElement prompt : prompts) {
            if (!prompt.getAsJsonObject().get("include").getAsBoolean()) {
                excluding.add(prompt);
            }
        }
        for (JsonElement prompt : prompts) {
            if (prompt.getAsJsonObject().get("include").getAsBoolean()) {
                JsonArray list = list(prompt);
                list.addAll(excluding);
                lists.add(list);
            }
        }
        return lists;
    }

    /** Return whether `object` is a prompt that includes, by its class. */
    public static boolean isMeant(PathObject object) {
        String name = String.valueOf(object.getPathClass()).toLowerCase(Locale.ROOT);
        return EXCLUDING.stream().noneMatch(word -> name.contains(word));
    }

    /** Return a box for an upright rectangle, otherwise a polygon; holes are ignored. */
    private static JsonObject outline(JsonArray rings, boolean isMeant) {
        JsonArray shell = rings.get(0).getAsJsonArray();
        double[] low = new double[] {Double.MAX_VALUE, Double.MAX_VALUE};
        double[] high = new double[] {-Double.MAX_VALUE, -Double.MAX_VALUE};
        for (JsonElement corner : shell) {
            for (int axis = 0; axis < 2; axis++) {
                low[axis] = Math.min(low[axis], at(corner, axis));
                high[axis] = Math.max(high[axis], at(corner, axis));
            }
        }
        boolean isBox = shell.size() == 5;
        for (JsonElement corner : shell) {
            for (int axis = 0; axis < 2; axis++) {
                isBox = isBox && (at(corner, axis) == low[axis] || at(corner, axis) == high[axis]);
            }
        }
        JsonArray corners = new JsonArray();
        if (isBox) {
            corners.add(position(low));
            corners.add(position(high));
            return prompt("box", corners, isMeant);
        }
        corners.addAll(shell);
        corners.remove(corners.size() - 1); // a repetition of the first
        return prompt("polygon", corners, isMeant);
    }

    private static double at(JsonElement position, int axis) {
        return position.getAsJsonArray().get(axis).getAsDouble();
    }

    private static JsonArray position(double[] values) {
        JsonArray position = new JsonArray();
        position.add(values[0]);
        position.add(values[1]);
        return position;
    }

    private static JsonArray list(JsonElement only) {
        JsonArray list = new JsonArray();
        list.add(only);
        return list;
    }

    private static JsonObject prompt(String kind, JsonArray points, boolean isMeant) {
        JsonObject prompt = new JsonObject();
        prompt.addProperty("kind", kind);
        prompt.add("points", points);
        prompt.addProperty("include", isMeant);
        return prompt;
    }
}
