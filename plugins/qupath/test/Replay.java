package isoline.qupath;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.awt.image.BufferedImage;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.reflect.Proxy;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import qupath.lib.images.ImageData;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.images.servers.ImageServerMetadata;
import qupath.lib.images.servers.PixelCalibration;
import qupath.lib.io.PathIO;
import qupath.lib.objects.PathObject;
import qupath.lib.roi.PolygonsROI;

/** Runs and clicks on a slide in memory, against a server that has recorded events for answers. */
final class Replay {

    private final Recorded server = new Recorded();
    private final IsolineClient client = new IsolineClient("http://127.0.0.1:" + server.port(), "");
    private final ImageData<BufferedImage> image;
    private final PathObject root;

    private Replay(JsonObject gesture) throws IOException {
        image = new ImageData<>(slide(gesture));
        root = image.getHierarchy().getRootObject();
    }

    /** Return what is shown once `stream` has been read. */
    static JsonArray shown(byte[] stream) throws Exception {
        Replay replay = new Replay(new JsonObject());
        replay.server.answers.add(stream);
        JsonObject options = new JsonObject();
        options.addProperty("image", "slide");
        options.addProperty("model", "nuclei");
        Run run = new Run(replay.client, replay.image, replay.root, options);
        CompletableFuture.anyOf(CompletableFuture.supplyAsync(() -> run.call()), replay.server.unanswered).join();
        JsonArray features = new JsonArray();
        replay.root.getChildObjects().forEach(object -> features.add(measured(object)));
        return features;
    }

    private static JsonObject measured(PathObject object) {
        PolygonsROI roi = (PolygonsROI) object.getROI();
        JsonObject feature = new JsonObject();
        feature.addProperty("id", object.getID().toString());
        feature.addProperty("label", String.valueOf(object.getPathClass()));
        feature.addProperty("area", roi.getArea());
        JsonArray bounds = new JsonArray();
        for (double edge : roi.getBounds()) {
            bounds.add(edge);
        }
        feature.add("bounds", bounds);
        return feature;
    }

    // --- Gestures to requests ------------------------------------------------------------------

    /** Return the body that is sent for what the user did. */
    static JsonElement request(JsonObject gesture) throws Exception {
        Replay replay = new Replay(gesture);
        JsonObject options = new JsonObject();
        for (String key : List.of("image", "model", "parameters")) {
            if (gesture.has(key)) {
                options.add(key, gesture.get(key));
            }
        }
        if (gesture.has("steps")) {
            replay.click(gesture.getAsJsonArray("steps"), options);
        } else {
            if (gesture.has("drawn")) {
                JsonArray features = new JsonArray();
                gesture.getAsJsonArray("drawn").forEach(mark -> features.add(feature(mark.getAsJsonObject())));
                options.add("prompts", Prompts.of(read(features)));
            }
            Run run = new Run(replay.client, replay.image, replay.parent(gesture), options)
                    .lookingAt(() -> focus(gesture));
            CompletableFuture.runAsync(() -> run.call());
        }
        return JsonParser.parseString(replay.server.unanswered.join());
    }

    /** Do what a user does who points at objects. */
    private void click(JsonArray steps, JsonObject options) throws Exception {
        ExecutorService gui = Executors.newSingleThreadExecutor();
        ClickSession session = new ClickSession(client, image, options, gui, request -> { }, words -> { });
        gui.submit(session::start).get();
        for (JsonElement each : steps) {
            JsonObject step = each.getAsJsonObject();
            if (step.has("answer")) {
                StringBuilder lines = new StringBuilder();
                step.getAsJsonArray("answer").forEach(event -> lines.append(event).append('\n'));
                server.answers.add(lines.toString().getBytes(StandardCharsets.UTF_8));
            }
            gui.submit(() -> {
                if (step.has("draw")) {
                    root.addChildObjects(read(list(feature(step.getAsJsonObject("draw")))));
                    image.getHierarchy().fireHierarchyChangedEvent(image, root);
                } else if (step.has("undo")) {
                    session.undo();
                } else {
                    session.next();
                }
                return null;
            }).get();
            while (gui.submit(session::isBusy).get() && !server.unanswered.isDone()) {
                Thread.sleep(2);
            }
        }
    }

    /** Return the annotation that the gesture has drawn, or the root for the whole slide. */
    private PathObject parent(JsonObject gesture) throws IOException {
        JsonArray rings = new JsonArray();
        switch (gesture.get("gesture").getAsString()) {
            case "rectangle":
                rings.add(rectangle(gesture.getAsJsonArray("from"), gesture.getAsJsonArray("to"), 0));
                break;
            case "pixels":
                rings.add(rectangle(gesture.getAsJsonArray("first"), gesture.getAsJsonArray("last"), 1));
                break;
            case "polygon":
                rings.add(closed(gesture.getAsJsonArray("points")));
                if (gesture.has("holes")) {
                    gesture.getAsJsonArray("holes").forEach(hole -> rings.add(closed(hole.getAsJsonArray())));
                }
                break;
            default:
                return root;
        }
        return read(list(feature("Polygon", rings, true))).get(0);
    }

    private static double[] focus(JsonObject gesture) {
        if (gesture.has("looking_at_pixel")) {
            JsonArray pixel = gesture.getAsJsonArray("looking_at_pixel");
            return new double[] {pixel.get(0).getAsDouble() + 0.5, pixel.get(1).getAsDouble() + 0.5};
        }
        JsonArray point = gesture.getAsJsonArray("looking_at");
        return point == null ? null : new double[] {point.get(0).getAsDouble(), point.get(1).getAsDouble()};
    }

    // --- What a user draws, as QuPath would have it ----------------------------------------------

    private static JsonObject feature(JsonObject mark) {
        boolean isMeant = !mark.has("include") || mark.get("include").getAsBoolean();
        JsonArray points = mark.getAsJsonArray("points");
        switch (mark.get("kind").getAsString()) {
            case "point":
                return feature("Point", mark.has("pixel") ? middle(mark.getAsJsonArray("pixel")) : points.get(0), isMeant);
            case "box":
                return feature("Polygon", list(rectangle(mark.getAsJsonArray("from"), mark.getAsJsonArray("to"), 0)), isMeant);
            case "scribble":
                return feature("LineString", points, isMeant);
            default:
                boolean isClosed = points.get(0).equals(points.get(points.size() - 1));
                return feature("Polygon", list(isClosed ? points : closed(points)), isMeant);
        }
    }

    private static JsonObject feature(String type, JsonElement coordinates, boolean isMeant) {
        String name = isMeant ? "Region*" : "Ignore*";
        return JsonParser.parseString("{\"type\":\"Feature\",\"geometry\":{\"type\":\"" + type + "\",\"coordinates\":"
                + coordinates + "},\"properties\":{\"objectType\":\"annotation\",\"classification\":{\"name\":\"" + name
                + "\",\"color\":[0,0,0]}}}").getAsJsonObject();
    }

    private static JsonArray middle(JsonArray pixel) {
        return position(pixel.get(0).getAsDouble() + 0.5, pixel.get(1).getAsDouble() + 0.5);
    }

    /** Return the closed ring between two opposite corners; `more` is what the last of each axis reaches beyond. */
    private static JsonArray rectangle(JsonArray from, JsonArray to, double more) {
        double x0 = Math.min(from.get(0).getAsDouble(), to.get(0).getAsDouble());
        double y0 = Math.min(from.get(1).getAsDouble(), to.get(1).getAsDouble());
        double x1 = Math.max(from.get(0).getAsDouble(), to.get(0).getAsDouble()) + more;
        double y1 = Math.max(from.get(1).getAsDouble(), to.get(1).getAsDouble()) + more;
        JsonArray ring = new JsonArray();
        List.of(position(x0, y0), position(x1, y0), position(x1, y1), position(x0, y1), position(x0, y0))
                .forEach(corner -> ring.add(corner));
        return ring;
    }

    private static JsonArray closed(JsonArray ring) {
        JsonArray closed = ring.deepCopy();
        closed.add(ring.get(0));
        return closed;
    }

    private static JsonArray position(double x, double y) {
        JsonArray position = new JsonArray();
        position.add(x);
        position.add(y);
        return position;
    }

    private static JsonArray list(JsonElement only) {
        JsonArray list = new JsonArray();
        list.add(only);
        return list;
    }

    private static List<PathObject> read(JsonArray features) throws IOException {
        String collection = "{\"type\":\"FeatureCollection\",\"features\":" + features + "}";
        return PathIO.readObjectsFromGeoJSON(new ByteArrayInputStream(collection.getBytes(StandardCharsets.UTF_8)));
    }

    /** Return a slide without a file: the image of a request is then what its options say. */
    @SuppressWarnings("unchecked")
    private static ImageServer<BufferedImage> slide(JsonObject gesture) {
        JsonArray um = gesture.getAsJsonArray("spacing_um");
        PixelCalibration calibration = um == null ? new PixelCalibration(0, 0)
                : new PixelCalibration(um.get(0).getAsDouble(), um.get(1).getAsDouble());
        return (ImageServer<BufferedImage>) Proxy.newProxyInstance(Replay.class.getClassLoader(),
                new Class<?>[] {ImageServer.class}, (proxy, method, arguments) -> switch (method.getName()) {
                    case "getURIs" -> List.of();
                    case "getServerType" -> "in memory";
                    case "getPixelCalibration" -> calibration;
                    case "getOriginalMetadata" -> new ImageServerMetadata(calibration);
                    case "nZSlices" -> 1;
                    default -> throw new UnsupportedOperationException(method.getName());
                });
    }

    /** Answers a job, or one question after the other, with recorded events. */
    private static final class Recorded {

        final Queue<byte[]> answers = new ConcurrentLinkedQueue<>();
        /** The body of the last request, once there is no answer. */
        final CompletableFuture<String> unanswered = new CompletableFuture<>();
        private final HttpServer server;
        private volatile String body = "";

        Recorded() throws IOException {
            server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
            server.setExecutor(Executors.newCachedThreadPool());
            server.createContext("/", exchange -> answer(exchange));
            server.start();
        }

        int port() {
            return server.getAddress().getPort();
        }

        private void answer(HttpExchange exchange) throws IOException {
            byte[] asked = exchange.getRequestBody().readAllBytes();
            body = asked.length > 0 ? new String(asked, StandardCharsets.UTF_8) : body;
            boolean isJob = exchange.getRequestURI().getPath().equals("/v1/jobs");
            byte[] job = "{\"job\":\"a\",\"position\":0}".getBytes(StandardCharsets.UTF_8);
            byte[] content = answers.isEmpty() ? null : isJob ? job : answers.remove();
            if (content == null) {
                unanswered.complete(body);
                return; // for good
            }
            exchange.sendResponseHeaders(isJob ? 201 : 200, 0);
            try (OutputStream out = exchange.getResponseBody()) {
                out.write(content);
            }
        }
    }
}
