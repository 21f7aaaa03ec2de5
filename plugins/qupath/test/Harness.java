import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import isoline.qupath.*;
import java.awt.image.BufferedImage;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.net.URI;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.UUID;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import javax.imageio.ImageIO;
import qupath.lib.geom.Point2;
import qupath.lib.images.ImageData;
import qupath.lib.images.servers.ImageChannel;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.images.servers.ImageServerMetadata;
import qupath.lib.images.servers.PixelCalibration;
import qupath.lib.images.servers.PixelType;
import qupath.lib.io.PathIO;
import qupath.lib.objects.Feature;
import qupath.lib.objects.PathObject;
import qupath.lib.regions.RegionRequest;

/**
 * Drives the client without a window against a real server, in memory.
 *
 * Compiled twice, against the jar and against the script, so that both pass the same tests. Reads
 * a JSON object from its only argument and prints one JSON object.
 */
public final class Harness {

    private static final Gson GSON = new Gson();

    public static void main(String[] arguments) throws Exception {
        JsonObject asked = JsonParser.parseString(arguments[0]).getAsJsonObject();
        if (asked.has("old")) { // as QuPath 0.5
            System.setProperty("qupath.old", "true");
        }
        Map<String, Object> said = new TreeMap<>();
        IsolineClient client = new IsolineClient(text(asked, "url"), text(asked, "token"));
        if (asked.has("seconds")) { // of a request, and of a stream
            Duration seconds = Duration.ofSeconds(asked.get("seconds").getAsLong());
            client = client.following(new RetryPolicy(RetryPolicy.ofProtocol().silence, seconds, seconds,
                    RetryPolicy.machine()));
        }
        if (text(asked, "do").equals("test")) {
            said.put("words", client.test());
        } else if (text(asked, "do").equals("models")) {
            said.put("models", client.models().size());
        } else if (text(asked, "do").equals("prompts")) {
            JsonArray prompts = Prompts.of(read(asked.getAsJsonArray("drawn")));
            said.put("prompts", prompts);
            said.put("one_by_one", Prompts.oneByOne(prompts));
        } else if (text(asked, "do").equals("click")) {
            clicks(client, asked, said);
        } else if (text(asked, "do").equals("several")) {
            several(client, asked, said);
        } else if (text(asked, "do").equals("series")) {
            series(client, asked, said);
        } else {
            runs(client, asked, said);
        }
        System.out.println(GSON.toJson(said));
        System.exit(0);
    }

    /** Return the requested slide, with the annotation in `region` selected. */
    public static ImageData<BufferedImage> image(JsonObject asked) throws Exception {
        ImageData<BufferedImage> image = new ImageData<>(new Slide(asked));
        JsonArray features = asked.has("drawn") ? asked.getAsJsonArray("drawn") : new JsonArray();
        if (asked.has("region")) {
            features.add(JsonParser.parseString("{\"type\":\"Feature\",\"geometry\":" + asked.get("region")
                    + ",\"properties\":{\"objectType\":\"annotation\"}}"));
        }
        if (!features.isEmpty()) {
            List<PathObject> drawn = read(features);
            image.getHierarchy().getRootObject().addChildObjects(drawn);
            image.getHierarchy().getSelectionModel().getSelectedObjects().addAll(drawn);
        }
        return image;
    }

    private static List<PathObject> read(JsonArray features) throws Exception {
        String collection = "{\"type\":\"FeatureCollection\",\"features\":" + features + "}";
        return PathIO.readObjectsFromGeoJSON(new ByteArrayInputStream(collection.getBytes("UTF-8")));
    }

    /** Perform `steps` in a session, and report the state after each. */
    private static void clicks(IsolineClient client, JsonObject asked, Map<String, Object> said) throws Exception {
        ImageData<BufferedImage> image = image(asked);
        PathObject root = image.getHierarchy().getRootObject();
        ExecutorService gui = Executors.newSingleThreadExecutor(task -> new Thread(task, "gui"));
        List<String> words = new ArrayList<>();
        List<JsonObject> recorded = new ArrayList<>();
        ClickSession session = new ClickSession(client, image, asked.getAsJsonObject("options"), gui,
                request -> recorded.add(request), text -> words.add(text));
        gui.submit(session::start).get();
        while (gui.submit(session::isBusy).get()) {
            Thread.sleep(2);
        }
        List<Object> after = new ArrayList<>();
        for (JsonElement each : asked.getAsJsonArray("steps")) {
            JsonObject step = each.getAsJsonObject();
            long began = System.nanoTime();
            gui.submit(() -> {
                if (step.has("draw")) {
                    root.addChildObjects(read(step.getAsJsonArray("draw")));
                    image.getHierarchy().fireHierarchyChangedEvent(image, root);
                } else if (step.has("exclude")) {
                    session.setExcluding(step.get("exclude").getAsBoolean());
                } else if (text(step, "do").equals("undo")) {
                    session.undo();
                } else if (text(step, "do").equals("next")) {
                    session.next();
                } else {
                    session.close();
                }
                return null;
            }).get();
            if (step.has("hurry")) { // and do not wait for the answer
                Thread.sleep(Math.round(step.get("hurry").getAsDouble() * 1000));
            }
            while (!step.has("hurry") && gui.submit(session::isBusy).get()) {
                Thread.sleep(2);
            }
            Map<String, Object> now = new TreeMap<>();
            now.put("seconds", (System.nanoTime() - began) / 1e9);
            now.put("words", words.get(words.size() - 1));
            List<Object> results = new ArrayList<>();
            List<String> prompts = new ArrayList<>();
            for (PathObject object : root.getChildObjects()) {
                if (object.getMetadata().containsKey("isoline.model")) {
                    results.add(List.of(object.getID().toString(), String.valueOf(object.getPathClass()),
                            ((Feature) object).type));
                } else {
                    prompts.add(String.valueOf(object.getPathClass()));
                }
            }
            now.put("results", results);
            now.put("drawn", prompts);
            after.add(now);
        }
        said.put("after", after);
        said.put("words", words);
        said.put("recorded", recorded);
        gui.shutdown();
    }

    /** Run on all selected objects, like the menu. */
    private static void several(IsolineClient client, JsonObject asked, Map<String, Object> said) throws Exception {
        ImageData<BufferedImage> image = image(asked);
        List<PathObject> parents = Isoline.parents(image, "selected");
        List<Run> runs = new ArrayList<>();
        for (PathObject parent : parents) {
            runs.add(new Run(client, image, parent, asked.getAsJsonObject("options")));
        }
        TreeSet<String> words = new TreeSet<>();
        RunStatus end = new Runs(runs).call(status -> words.add(status.message));
        said.put("state", end.state);
        said.put("message", end.message);
        said.put("objects", end.objects);
        said.put("words", words);
        said.put("found", parents.stream().map(parent -> parent.getChildObjects().size()).toList());
    }

    private static void runs(IsolineClient client, JsonObject asked, Map<String, Object> said) throws Exception {
        ImageData<BufferedImage> image = image(asked);
        PathObject parent = image.getHierarchy().getRootObject();
        for (PathObject drawn : parent.getChildObjects()) {
            parent = drawn;
        }
        ExecutorService gui = Executors.newSingleThreadExecutor(task -> new Thread(task, "gui"));
        PathObject below = parent;
        List<Long> firstSeen = new ArrayList<>();
        long began = System.nanoTime();
        Run run = new Run(client, image, parent, asked.getAsJsonObject("options")).on(gui);
        Thread caller = Thread.currentThread();
        String action = text(asked, "do");
        TreeSet<String> waited = new TreeSet<>();
        run.telling(status -> {
            if (!status.waiting.isEmpty() && waited.add(status.waiting) && action.startsWith("give up")) {
                later(() -> {
                    if (action.endsWith("interrupt")) {
                        caller.interrupt();
                    } else {
                        run.cancel();
                    }
                });
            }
            if (status.objects > 0 && image.getHierarchy().events.size() > 0 && firstSeen.isEmpty()) {
                firstSeen.add(System.nanoTime());
                if (action.equals("cancel")) {
                    run.cancel();
                } else if (action.equals("interrupt")) {
                    caller.interrupt();
                }
            }
        });
        if (asked.has("look")) {
            double[] there = GSON.fromJson(asked.get("look"), double[].class);
            double[] then = asked.has("pan") ? GSON.fromJson(asked.get("pan"), double[].class) : there;
            run.lookingAt(() -> firstSeen.isEmpty() ? there : then);
        }
        RunStatus end = run.call();
        said.put("interrupted", Thread.interrupted());
        report(said, end, below, image);
        said.put("seconds", (System.nanoTime() - began) / 1e9);
        said.put("waited", waited);
        if (asked.has("linger")) { // for what it still does in the background
            Thread.sleep(asked.get("linger").getAsLong() * 1000);
        }
        said.put("first", firstSeen.isEmpty() ? -1 : (firstSeen.get(0) - began) / 1e9);
        said.put("flushes", run.getFlushes());
        said.put("megabytes", usedMegabytes());
        if (action.equals("remove")) {
            edit(below);
            said.put("removed", run.removeResults());
            said.put("left", below.getChildObjects().size());
        }
        gui.shutdown();
    }

    /** Run below the same annotation once for each of `series`, and report the objects after each. */
    private static void series(IsolineClient client, JsonObject asked, Map<String, Object> said) throws Exception {
        ImageData<BufferedImage> image = image(asked);
        List<Object> after = new ArrayList<>();
        for (JsonElement each : asked.getAsJsonArray("series")) {
            JsonObject step = each.getAsJsonObject();
            if (step.has("restart")) {
                image = reopened(image);
            }
            PathObject parent = image.getHierarchy().getRootObject();
            for (PathObject drawn : parent.getChildObjects()) {
                parent = asked.has("region") ? drawn : parent;
            }
            Map<String, Object> now = new TreeMap<>();
            if (step.has("edit")) {
                now.put("edited", edit(parent));
            }
            Run run = new Run(client, image, parent, step.getAsJsonObject("options"));
            List<String> shown = new ArrayList<>();
            PathObject below = parent;
            run.telling(status -> {
                if (run.getFlushes() > shown.size()) {
                    shown.add(outlines(below));
                    if (step.has("cancel")) {
                        run.cancel();
                    }
                }
            });
            RunStatus end = run.call();
            report(now, end, parent, image);
            now.put("shown", shown);
            now.put("outlines", outlines(parent));
            after.add(now);
        }
        said.put("after", after);
    }

    /** Return the image as QuPath opens it again, with the properties and objects that it has saved. */
    @SuppressWarnings("unchecked")
    private static ImageData<BufferedImage> reopened(ImageData<BufferedImage> image) throws Exception {
        ByteArrayOutputStream file = new ByteArrayOutputStream();
        new ObjectOutputStream(file).writeObject(new HashMap<>(image.getProperties()));
        Object properties = new ObjectInputStream(new ByteArrayInputStream(file.toByteArray())).readObject();
        ImageData<BufferedImage> opened = new ImageData<>(image.getServer());
        ((Map<String, Object>) properties).forEach((key, value) -> opened.setProperty(key, value));
        PathObject root = image.getHierarchy().getRootObject();
        Collection<PathObject> objects = root.getChildObjects();
        root.removeChildObjects(objects);
        opened.getHierarchy().getRootObject().addChildObjects(objects);
        return opened;
    }

    /** Return a checksum of the outlines of the final children, which does not depend on ids and order. */
    private static String outlines(PathObject parent) {
        List<String> outlines = new ArrayList<>();
        for (PathObject child : parent.getChildObjects()) {
            if (!child.getMetadata().containsKey("isoline.provisional")) {
                outlines.add(outline(child).toString());
            }
        }
        Collections.sort(outlines);
        return UUID.nameUUIDFromBytes(outlines.toString().getBytes()).toString();
    }

    private static List<Double> outline(PathObject object) {
        List<Double> outline = new ArrayList<>();
        for (Point2 corner : object.getROI().getAllPoints()) {
            outline.addAll(List.of(corner.getX(), corner.getY()));
        }
        return outline;
    }

    /** Perform `action` after a moment, on another thread. */
    private static void later(Runnable action) {
        new Thread(() -> {
            try {
                Thread.sleep(200);
            } catch (InterruptedException e) {
                return;
            }
            action.run();
        }).start();
    }

    /** Lock one object, name another, draw inside a third, move a corner of a fourth; return their ids. */
    private static List<String> edit(PathObject parent) {
        List<PathObject> children = new ArrayList<>(parent.getChildObjects());
        children.get(0).setLocked(true);
        children.get(1).setName("look at this");
        children.get(2).addChildObjects(List.of(new Feature("annotation", null, null)));
        PathObject other = children.get(children.size() - 1);
        children.get(3).setROI(other.getROI());
        List<String> ids = new ArrayList<>();
        for (int k = 0; k < 4; k++) {
            ids.add(children.get(k).getID().toString());
        }
        return ids;
    }

    private static void report(Map<String, Object> said, RunStatus end, PathObject parent,
            ImageData<BufferedImage> image) {
        Map<String, Integer> types = new TreeMap<>();
        Map<String, Integer> classes = new TreeMap<>();
        TreeSet<String> ids = new TreeSet<>();
        TreeSet<String> outlines = new TreeSet<>();
        List<Object> places = new ArrayList<>();
        Collection<PathObject> children = parent.getChildObjects();
        int provisional = 0;
        for (PathObject child : children) {
            types.merge(((Feature) child).type, 1, Integer::sum);
            classes.merge(String.valueOf(child.getPathClass()), 1, Integer::sum);
            provisional += child.getMetadata().containsKey("isoline.provisional") ? 1 : 0;
            if (children.size() < 100_000) {
                ids.add(child.getID().toString());
                List<Double> outline = outline(child);
                places.add(List.copyOf(outline.subList(0, 2)));
                outlines.add(child.getPathClass() + " " + outline);
            }
        }
        List<Long> events = image.getHierarchy().events;
        double shortest = 1e9;
        for (int k = 1; k < events.size() - 1; k++) { // the last one comes with the end
            shortest = Math.min(shortest, (events.get(k) - events.get(k - 1)) / 1e9);
        }
        said.put("state", end.state);
        said.put("message", end.message);
        said.put("objects", end.objects);
        said.put("refused", end.refused);
        said.put("children", children.size());
        said.put("provisional", provisional);
        said.put("types", types);
        said.put("classes", classes);
        said.put("ids", ids);
        said.put("places", places);
        said.put("outlines", UUID.nameUUIDFromBytes(outlines.toString().getBytes()));
        said.put("events", events.size());
        said.put("shortest_pause", shortest);
    }

    private static long usedMegabytes() {
        System.gc();
        return (Runtime.getRuntime().totalMemory() - Runtime.getRuntime().freeMemory()) >> 20;
    }

    private static String text(JsonObject asked, String key) {
        return asked.has(key) ? asked.get(key).getAsString() : "";
    }

    /** A slide in memory, or one of which only the URI exists. */
    private static final class Slide implements ImageServer<BufferedImage> {

        private final JsonObject asked;
        private final BufferedImage pixels;

        Slide(JsonObject asked) throws Exception {
            this.asked = asked;
            this.pixels = asked.has("pixels") ? ImageIO.read(new File(text(asked, "pixels"))) : null;
        }

        @Override
        public String getPath() {
            return "slide";
        }

        @Override
        public Collection<URI> getURIs() {
            return List.of(URI.create(text(asked, "uri")));
        }

        @Override
        public String getServerType() {
            return asked.has("type") ? text(asked, "type") : "OpenSlide";
        }

        @Override
        public int getWidth() {
            return asked.getAsJsonArray("size").get(0).getAsInt();
        }

        @Override
        public int getHeight() {
            return asked.getAsJsonArray("size").get(1).getAsInt();
        }

        @Override
        public int nChannels() {
            return isRGB() ? 3 : pixels.getRaster().getNumBands();
        }

        @Override
        public int nZSlices() {
            return 1;
        }

        @Override
        public boolean isRGB() {
            return !asked.has("grey");
        }

        @Override
        public PixelType getPixelType() {
            if (asked.has("dtype")) {
                return PixelType.valueOf(text(asked, "dtype"));
            }
            return pixels.getRaster().getSampleModel().getSampleSize(0) == 8 ? PixelType.UINT8 : PixelType.UINT16;
        }

        @Override
        public ImageChannel getChannel(int channel) {
            return new ImageChannel("channel " + channel);
        }

        @Override
        public PixelCalibration getPixelCalibration() {
            double um = asked.has("um") ? asked.get("um").getAsDouble() : 0;
            return new PixelCalibration(um, um);
        }

        @Override
        public ImageServerMetadata getOriginalMetadata() {
            double um = asked.has("um_read") ? asked.get("um_read").getAsDouble() : 0;
            return new ImageServerMetadata(um > 0 ? new PixelCalibration(um, um) : getPixelCalibration());
        }

        @Override
        public BufferedImage readRegion(RegionRequest request) {
            int step = (int) request.values[0];
            int x = (int) request.values[1];
            int y = (int) request.values[2];
            int width = (int) Math.ceil(request.values[3] / step);
            int height = (int) Math.ceil(request.values[4] / step);
            if (step == 1) {
                return pixels.getSubimage(x, y, width, height);
            }
            BufferedImage small = new BufferedImage(width, height,
                    isRGB() ? BufferedImage.TYPE_3BYTE_BGR : pixels.getType());
            for (int row = 0; row < height; row++) {
                for (int column = 0; column < width; column++) {
                    small.getRaster().setPixel(column, row, pixels.getRaster()
                            .getPixel(x + column * step, y + row * step, (int[]) null));
                }
            }
            return small;
        }

        @Override
        public void close() {}
    }
}
