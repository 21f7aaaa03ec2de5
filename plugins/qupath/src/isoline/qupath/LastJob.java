package isoline.qupath;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.util.Set;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;

/**
 * The job of the last run of a model below an object, whose results the next run replaces.
 *
 * It is a property of the image, so QuPath saves it together with these results. `read` and `write`
 * must be called on the thread of the GUI.
 */
final class LastJob {

    private static final String PARTIAL = "partial ";
    private static final Set<String> UNUSABLE = Set.of("UnknownJob", "NotSupported");

    private final ImageData<?> image;
    private final String key;
    private String saved = "";
    private boolean isNamed;

    /** `options` are keys of a request, including `model`. */
    LastJob(ImageData<?> image, PathObject parent, JsonObject options) {
        this.image = image;
        // the root has a new id in each session
        boolean isSlide = parent.equals(image.getHierarchy().getRootObject());
        this.key = String.join(".", "isoline.job", options.get(RequestKeys.MODEL).getAsString(),
                isSlide ? "slide" : parent.getID().toString());
    }

    /** Read the id of the job. */
    void read() {
        Object property = image.getProperty(key);
        saved = property == null ? "" : property.toString();
    }

    /** Make `job` the last one; `isWhole`: the server knows all results of it and of earlier runs. */
    void write(String job, boolean isWhole) {
        image.setProperty(key, isWhole ? job : PARTIAL + job);
    }

    /** Submit `request` in place of the job; without it, if the server cannot replace that job. */
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
     * Return whether the events of the submitted job name everything that it replaces.
     *
     * They do not if the server could not replace the earlier job, or if events of that job were never
     * received: what these replaced is still in the hierarchy, but the server no longer knows of it.
     */
    boolean isFullyReplaced() {
        return isNamed && !saved.startsWith(PARTIAL);
    }
}
