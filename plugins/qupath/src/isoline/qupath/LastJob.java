package isoline.qupath;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.util.Set;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;

/**
 * The job of the last run of a model below an object: the next one replaces its results.
 *
 * It is a property of the image, so QuPath saves it along with those results. `read` and `write`
 * are called on the thread of the GUI.
 */
final class LastJob {

    private static final String PARTIAL = "partial ";
    private static final Set<String> UNUSABLE = Set.of("UnknownJob", "NotSupported");

    private final ImageData<?> image;
    private final String key;
    private String saved = "";
    private boolean isNamed;

    /** `options` are keys of a request: `model` at least. */
    LastJob(ImageData<?> image, PathObject parent, JsonObject options) {
        this.image = image;
        // the root has another id in each session
        boolean isSlide = parent.equals(image.getHierarchy().getRootObject());
        this.key = String.join(".", "isoline.job", options.get(RequestKeys.MODEL).getAsString(),
                isSlide ? "slide" : parent.getID().toString());
    }

    /** Read which job it is. */
    void read() {
        Object property = image.getProperty(key);
        saved = property == null ? "" : property.toString();
    }

    /** Make `job` the last one; `isWhole` says that the server knows all that it and earlier ones left. */
    void write(String job, boolean isWhole) {
        image.setProperty(key, isWhole ? job : PARTIAL + job);
    }

    /** Submit `request` in place of the job, or on its own where the server cannot replace that job. */
    JsonObject submit(JsonObject request, IsolineClient client) throws IOException, InterruptedException {
        if (saved.isEmpty()) {
            return client.submit(request);
        }
        request.addProperty(RequestKeys.REPLACES, saved.replace(PARTIAL, ""));
        try {
            JsonObject submitted = client.submit(request);
            isNamed = true;
            return submitted;
        } catch (Refused e) {
            if (!UNUSABLE.contains(e.code)) {
                throw e;
            }
        }
        request.remove(RequestKeys.REPLACES);
        return client.submit(request);
    }

    /**
     * Return whether the events of the submitted job say everything that they replace.
     *
     * They do not where the server could not replace the earlier job, or where events of that job
     * never arrived here: what those replaced is still in the hierarchy, but no longer on the server.
     */
    boolean isFullyReplaced() {
        return isNamed && !saved.startsWith(PARTIAL);
    }
}
