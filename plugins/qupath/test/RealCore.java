import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import isoline.qupath.ClickSession;
import isoline.qupath.IsolineClient;
import isoline.qupath.Run;
import isoline.qupath.RunStatus;
import java.awt.image.BufferedImage;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.net.URI;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import qupath.lib.images.ImageData;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.images.servers.ImageServerMetadata;
import qupath.lib.images.servers.WrappedBufferedImageServer;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.PathObjects;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.ROIs;
import qupath.lib.roi.RoiTools;

/** The client of the jar with QuPath's own classes of images, objects and GeoJSON. See real_core.py. */
public final class RealCore {

    private static final ImagePlane PLANE = ImagePlane.getPlane(0, 0);

    public static void main(String[] arguments) throws Exception {
        IsolineClient client = new IsolineClient(arguments[0], "");
        ImageData<BufferedImage> image = new ImageData<>(slide(arguments[1], 6007, 5003));
        PathObjectHierarchy hierarchy = image.getHierarchy();
        PathObject region = PathObjects.createAnnotationObject(ROIs.createRectangleROI(1000, 900, 1600, 1500, PLANE));
        hierarchy.addObject(region);

        say("objects", run(client, image, region, "{'model':'threshold','parameters':{'below':200}}"), region);
        PathObject kept = region.getChildObjects().iterator().next();
        kept.setName("look at this");
        say("again, one named", run(client, image, region, "{'model':'threshold','parameters':{'below':200}}"), region);
        say("none, one named", run(client, image, region, "{'model':'threshold','parameters':{'below':0,'above':255}}"),
                region);
        region.removeChildObjects(new ArrayList<>(region.getChildObjects()));
        say("regions", run(client, image, region,
                "{'model':'threshold','tile':512,'parameters':{'below':200,'output':'mask'}}"), region);
        region.removeChildObjects(new ArrayList<>(region.getChildObjects()));
        PathObject core = PathObjects.createTMACoreObject(3000, 3000, 900, false);
        hierarchy.addObject(core);
        say("a core", run(client, image, core, "{'model':'threshold','parameters':{'below':200}}"), core);
        PathObject holed = PathObjects.createAnnotationObject(RoiTools.combineROIs(
                ROIs.createRectangleROI(100, 2500, 900, 900, PLANE), ROIs.createRectangleROI(300, 2700, 500, 500, PLANE),
                RoiTools.CombineOp.SUBTRACT));
        hierarchy.addObject(holed);
        say("with a hole", run(client, image, holed, "{'model':'threshold','parameters':{'below':200}}"), holed);
        clicks(client, image, hierarchy, new double[] {
            Double.parseDouble(arguments[2]), Double.parseDouble(arguments[3])});
        ImageData<BufferedImage> large = new ImageData<>(slide(arguments[5], 16384, 16384));
        PathObject root = large.getHierarchy().getRootObject();
        say("many", run(new IsolineClient(arguments[4], ""), large, root, "{'model':'nuclei','tile':512}"), root);
        System.exit(0);
    }

    private static RunStatus run(IsolineClient client, ImageData<BufferedImage> image, PathObject parent, String options) {
        return new Run(client, image, parent, JsonParser.parseString(options).getAsJsonObject()).call();
    }

    /** Click, click on nothing, undo, keep. */
    private static void clicks(IsolineClient client, ImageData<BufferedImage> image, PathObjectHierarchy hierarchy,
            double[] at) throws Exception {
        ExecutorService gui = Executors.newSingleThreadExecutor();
        List<String> words = new ArrayList<>();
        JsonObject options = JsonParser.parseString("{'model':'flood','parameters':{'below':200}}").getAsJsonObject();
        ClickSession session = new ClickSession(client, image, options, gui, request -> { }, text -> words.add(text));
        gui.submit(session::start).get();
        for (double[] place : List.of(at, new double[] {at[0] + 500, at[1] + 500})) {
            gui.submit(() -> hierarchy.addObject(
                    PathObjects.createAnnotationObject(ROIs.createPointsROI(place[0], place[1], PLANE)))).get();
            await(gui, session);
        }
        gui.submit(session::undo).get();
        await(gui, session);
        int kept = gui.submit(session::next).get().size();
        gui.submit(session::close).get();
        System.out.println("clicks: kept " + kept + ", annotations " + hierarchy.getAnnotationObjects().size() + ", " + words);
    }

    private static void await(ExecutorService gui, ClickSession session) throws Exception {
        Thread.sleep(50);
        while (gui.submit(session::isBusy).get()) {
            Thread.sleep(2);
        }
    }

    private static void say(String what, RunStatus end, PathObject below) {
        Map<String, Integer> kinds = new TreeMap<>();
        Set<String> measured = new TreeSet<>();
        for (PathObject child : below.getChildObjects()) {
            kinds.merge(child.getClass().getSimpleName() + " " + child.getPathClass(), 1, Integer::sum);
            measured.addAll(child.getMeasurements().keySet());
        }
        System.out.println(what + ": " + end.message + " " + end.objects + " objects, " + end.refused + " refused, "
                + kinds + " " + measured);
    }

    /** Return a white image that claims to be the file at `uri`. */
    @SuppressWarnings("unchecked")
    private static ImageServer<BufferedImage> slide(String uri, int width, int height) throws Exception {
        BufferedImage pixels = new BufferedImage(16, 16, BufferedImage.TYPE_INT_RGB);
        ImageServer<BufferedImage> server = new WrappedBufferedImageServer("slide", pixels);
        server.setMetadata(new ImageServerMetadata.Builder(server.getMetadata())
                .pixelSizeMicrons(0.25, 0.25).build());
        Map<String, Object> told = Map.of("getURIs", List.of(URI.create(uri)), "getWidth", width, "getHeight", height);
        return (ImageServer<BufferedImage>) Proxy.newProxyInstance(RealCore.class.getClassLoader(),
                new Class<?>[] {ImageServer.class}, (proxy, method, given) -> {
                    if (told.containsKey(method.getName()) && given == null) {
                        return told.get(method.getName());
                    }
                    try {
                        return method.invoke(server, given);
                    } catch (InvocationTargetException e) {
                        throw e.getCause();
                    }
                });
    }
}
