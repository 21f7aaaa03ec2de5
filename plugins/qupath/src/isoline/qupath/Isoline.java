package isoline.qupath;

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import java.awt.image.BufferedImage;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;
import qupath.lib.plugins.workflow.DefaultScriptableWorkflowStep;
import qupath.lib.scripting.QP;

/** The functions for scripts, and those that the extension and the script share. */
public final class Isoline {

    /** The objects to run on: the selected ones, all annotations, or the whole slide. */
    public static final List<String> WHERE = List.of("selected", "annotations", "slide");

    private static volatile String token = System.getenv("ISOLINE_TOKEN");

    private Isoline() {}

    /** Set the token to use from now on; it is never written into a script. */
    public static void setToken(String given) {
        token = given;
    }

    /**
     * Run a model on the current image and wait for the end; recorded workflows call this.
     *
     * `options` is JSON with the keys of a request, such as {"model": "nuclei"}; `where` is one
     * of "selected", "annotations" and "slide". Returns the number of objects added. Throws an
     * IllegalStateException, with a message for the user, if a run fails.
     */
    public static long run(String url, String options, String where) {
        ImageData<BufferedImage> image = QP.getCurrentImageData();
        IsolineClient client = new IsolineClient(url, token);
        JsonObject request = JsonParser.parseString(options).getAsJsonObject();
        long objects = 0;
        for (PathObject parent : parents(image, where)) {
            RunStatus end = new Run(client, image, parent, request).telling(status -> log(status.waiting)).call();
            objects += end.objects;
            if (!end.state.equals("done")) {
                throw new IllegalStateException(end.message);
            }
        }
        record(image, url, request, where, scriptFor(url, request, where));
        return objects;
    }

    private static void log(String words) {
        if (!words.isEmpty()) {
            System.getLogger("isoline").log(System.Logger.Level.INFO, words);
        }
    }

    /** Return the objects to run on; none if nothing suitable is selected. */
    public static List<PathObject> parents(ImageData<?> image, String where) {
        List<PathObject> parents = new ArrayList<>();
        if (where.equals("slide")) {
            parents.add(image.getHierarchy().getRootObject());
            return parents;
        }
        Collection<PathObject> objects = where.equals("annotations")
                ? image.getHierarchy().getAnnotationObjects()
                : image.getHierarchy().getSelectionModel().getSelectedObjects();
        for (PathObject object : objects) {
            boolean isResult = object.getMetadata().containsKey(Marks.MODEL);
            boolean isArea = object.getROI() != null && object.getROI().isArea();
            // a region that a run created is used only if the user selects it
            if (isArea && !(isResult && where.equals("annotations"))) {
                parents.add(object);
            }
        }
        return parents;
    }

    /** Return the annotations that the user drew as prompts: the `selected` ones, or all `annotations`. */
    public static List<PathObject> drawn(ImageData<?> image, String where) {
        List<PathObject> drawn = new ArrayList<>(image.getHierarchy().getAnnotationObjects());
        drawn.removeIf(object -> object.getMetadata().containsKey(Marks.MODEL));
        if (where.equals("selected")) {
            drawn.retainAll(image.getHierarchy().getSelectionModel().getSelectedObjects());
        }
        return drawn;
    }

    /** Return the models for 2D images: those that take prompts, or those that take regions. */
    public static List<JsonObject> models(List<JsonObject> all, boolean prompted) {
        List<JsonObject> models = new ArrayList<>();
        for (JsonObject model : all) {
            boolean isForPictures = model.getAsJsonArray("dimensions").contains(new JsonPrimitive(2));
            boolean does = prompted ? model.getAsJsonArray("prompts").size() > 0 : isAutomatic(model);
            if (isForPictures && does) {
                models.add(model);
            }
        }
        return models;
    }

    /** Return whether `model` segments regions without prompts; it may also take prompts. */
    public static boolean isAutomatic(JsonObject model) {
        return model.get("automatic").getAsBoolean();
    }

    /** Record a workflow step that repeats the run when the workflow is run as a script. */
    public static void record(ImageData<?> image, String url, JsonObject options, String where,
            String script) {
        Map<String, String> shown = new LinkedHashMap<>();
        shown.put("server", url);
        shown.put("objects", where);
        for (Map.Entry<String, JsonElement> option : options.entrySet()) {
            shown.put(option.getKey(), option.getValue().toString());
        }
        String name = "Isoline: " + options.get(RequestKeys.MODEL).getAsString();
        image.getHistoryWorkflow().addStep(new DefaultScriptableWorkflowStep(name, shown, script));
    }

    /** Return the line of a script that repeats a run with the extension. */
    public static String scriptFor(String url, JsonObject options, String where) {
        return "isoline.qupath.Isoline.run(" + quoted(url) + ", " + quoted(new Gson().toJson(options)) +
                ", " + quoted(where) + ")";
    }

    /** Return `text` as a Groovy string. */
    public static String quoted(String text) {
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'";
    }
}
