package qupath.lib.roi;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.ArrayList;
import java.util.List;
import qupath.lib.geom.Point2;
import qupath.lib.roi.interfaces.ROI;

/** Not of QuPath: polygons with holes, or points, each a list of x, y. */
public class PolygonsROI implements ROI {

    private final String type;
    private final double[] xy;
    private final int z;

    private PolygonsROI(String type, double[] xy, int z) {
        this.type = type;
        this.xy = xy;
        this.z = z;
    }

    public static PolygonsROI of(JsonObject json) {
        String type = json.get("type").getAsString();
        List<Double> xy = new ArrayList<>();
        switch (type) {
            case "Polygon" -> rings(json.getAsJsonArray("coordinates"), xy);
            case "MultiPolygon" -> json.getAsJsonArray("coordinates")
                    .forEach(polygon -> rings(polygon.getAsJsonArray(), xy));
            case "MultiPoint", "LineString" -> json.getAsJsonArray("coordinates")
                    .forEach(point -> point(point.getAsJsonArray(), xy));
            case "Point" -> point(json.getAsJsonArray("coordinates"), xy);
            default -> throw new IllegalArgumentException("no geometry of type " + type);
        }
        int z = json.has("plane") ? json.getAsJsonObject("plane").get("z").getAsInt() : 0;
        double[] values = xy.stream().mapToDouble(Double::doubleValue).toArray();
        return new PolygonsROI(type, values, z);
    }

    private static void rings(JsonArray rings, List<Double> xy) {
        for (JsonElement ring : rings) {
            JsonArray corners = ring.getAsJsonArray();
            if (corners.size() < 4 || !corners.get(0).equals(corners.get(corners.size() - 1))) {
                throw new IllegalArgumentException("Points of LinearRing do not form a closed linestring");
            }
            corners.forEach(corner -> point(corner.getAsJsonArray(), xy));
        }
    }

    private static void point(JsonArray point, List<Double> xy) {
        xy.add(point.get(0).getAsDouble());
        xy.add(point.get(1).getAsDouble());
    }

    @Override
    public List<Point2> getAllPoints() {
        List<Point2> points = new ArrayList<>();
        for (int i = 0; i < xy.length; i += 2) {
            points.add(new Point2(xy[i], xy[i + 1]));
        }
        return points;
    }

    /** Return the area without holes, whose corners go the other way round. */
    public double getArea() {
        double area = 0;
        int start = 0;
        for (int i = 2; i < xy.length; i += 2) {
            area += (xy[i - 2] * xy[i + 1] - xy[i] * xy[i - 1]) / 2;
            if (xy[i] == xy[start] && xy[i + 1] == xy[start + 1]) {
                start = i + 2; // of the next ring
                i = start;
            }
        }
        return Math.abs(area);
    }

    /** Return the lowest x and y and the highest. */
    public double[] getBounds() {
        double[] bounds = {xy[0], xy[1], xy[0], xy[1]};
        for (int i = 0; i < xy.length; i++) {
            bounds[i % 2] = Math.min(bounds[i % 2], xy[i]);
            bounds[2 + i % 2] = Math.max(bounds[2 + i % 2], xy[i]);
        }
        return bounds;
    }

    @Override
    public boolean isArea() {
        return type.endsWith("Polygon");
    }

    @Override
    public boolean isPoint() {
        return type.endsWith("Point");
    }

    @Override
    public int getZ() {
        return z;
    }

    @Override
    public int getT() {
        return 0;
    }
}
