package isoline.qupath;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.net.URI;
import java.util.Collection;
import java.util.function.Consumer;
import java.util.function.Predicate;
import qupath.lib.images.ImageData;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.images.servers.PixelCalibration;
import qupath.lib.io.GsonTools;
import qupath.lib.objects.PathObject;

/** Creates and sends a request; the pixels are uploaded if the server cannot read the file. */
final class Submission {

    /** Sends a request and returns its result. */
    interface Sender<T> {
        T send(JsonObject request) throws IOException, InterruptedException;
    }

    private final ImageServer<BufferedImage> server;
    private final PathObject parent;
    private final JsonObject options;
    private Upload.Sent sent;

    /** Prepare a request with `options`: `model` and, optionally, `parameters` and other keys. */
    Submission(ImageData<BufferedImage> image, PathObject parent, JsonObject options) {
        this.server = image.getServer();
        this.parent = parent;
        this.options = options;
    }

    /** Use an earlier upload if it is sufficient; null for none. */
    void setSent(Upload.Sent sent) {
        this.sent = sent;
    }

    /** Return the upload of the image; null if the server can read the file. */
    Upload.Sent getSent() {
        return sent;
    }

    /** Return whether it has prompts for one object, rather than a region. */
    boolean isPrompted() {
        return options.has(RequestKeys.PROMPTS);
    }

    /**
     * Send the request with `sender` and return its result.
     *
     * Tiles near the x, y of `focus` are computed first; null for no focus. `client` uploads pixels if
     * necessary, `say` receives messages about the upload, and `agree` is asked before a large one.
     */
    <T> T send(double[] focus, IsolineClient client, Consumer<String> say, Predicate<String> agree,
            Sender<T> sender) throws IOException, InterruptedException {
        JsonObject request = request(focus);
        try {
            if (sent != null && sent.isAround(request.getAsJsonArray(RequestKeys.PROMPTS))) {
                pointAtUpload(request);
            } else if (!request.has(RequestKeys.IMAGE)) {
                upload(request, client, say, agree);
            }
            return sender.send(request);
        } catch (Refused e) {
            if (!isUnseen(e)) {
                throw withRemedy(e);
            }
        }
        try {
            upload(request, client, say, agree);
            return sender.send(request);
        } catch (Refused e) {
            throw withRemedy(e);
        }
    }

    /** Return whether the server does not have the file, or has another one of that name. */
    private static boolean isUnseen(Refused refused) {
        return refused.code.equals("UnknownImage") || refused.code.equals("WrongImage");
    }

    private Refused withRemedy(Refused refused) {
        boolean isSizeless = refused.code.equals("BadSpacing") && spacing() == null;
        return isSizeless ? refused.with(". In QuPath: double-click on Pixel width in the Image tab") : refused;
    }

    private void upload(JsonObject request, IsolineClient client, Consumer<String> say, Predicate<String> agree)
            throws IOException, InterruptedException {
        int t = parent.getROI() == null ? 0 : parent.getROI().getT();
        Upload upload = new Upload(client, server, plane(), t);
        sent = upload.send(request, spacing(), say, agree);
        pointAtUpload(request);
    }

    private void pointAtUpload(JsonObject request) {
        request.addProperty(RequestKeys.IMAGE, sent.image);
        request.remove(RequestKeys.IMAGE_SIZE); // these describe the file, which the server cannot read
        request.remove(RequestKeys.Z);
    }

    private JsonObject request(double[] focus) {
        JsonObject request = options.deepCopy();
        request.addProperty(RequestKeys.FORMAT, "qupath");
        String uri = fileUri();
        if (uri != null) {
            JsonArray size = new JsonArray();
            size.add(server.getWidth());
            size.add(server.getHeight());
            request.addProperty(RequestKeys.IMAGE, uri);
            request.add(RequestKeys.IMAGE_SIZE, size);
        }
        JsonArray spacing = spacing();
        if (spacing != null) {
            request.add(RequestKeys.SPACING_UM, spacing);
            if (isSpacingSetByHand()) {
                request.addProperty(RequestKeys.OVERRIDE_SPACING, true);
            }
        }
        if (server.nZSlices() > 1) {
            request.addProperty(RequestKeys.Z, plane());
        }
        if (parent.getROI() != null && parent.getROI().isArea()) {
            // toJsonTree throws in QuPath 0.6 and 0.7
            String feature = GsonTools.getInstance().toJson(parent, PathObject.class);
            request.add(RequestKeys.REGION, JsonParser.parseString(feature).getAsJsonObject().get("geometry"));
        }
        if (focus != null) {
            JsonArray point = new JsonArray();
            point.add(focus[0]);
            point.add(focus[1]);
            request.add(RequestKeys.FOCUS, point);
        }
        return request;
    }

    private int plane() {
        if (options.has(RequestKeys.Z)) {
            return options.get(RequestKeys.Z).getAsInt();
        }
        return parent.getROI() == null ? 0 : parent.getROI().getZ();
    }

    /** Return the URI of the image's file; null if no file has the pixels that the viewer shows. */
    private String fileUri() {
        // a slide that QuPath rotates may have the size and the URI of the file, but other pixels
        String type = server.getServerType().toLowerCase();
        Collection<URI> uris = server.getURIs();
        if (type.contains("rotat") || type.contains("transform") || uris.size() != 1) {
            return null;
        }
        String uri = uris.iterator().next().toString();
        return uri.startsWith("file:") ? uri : null;
    }

    private JsonArray spacing() {
        PixelCalibration calibration = server.getPixelCalibration();
        if (!calibration.hasPixelSizeMicrons()) {
            return null;
        }
        JsonArray spacing = new JsonArray();
        spacing.add(calibration.getPixelWidthMicrons());
        spacing.add(calibration.getPixelHeightMicrons());
        return spacing;
    }

    /** Whether the user has changed the pixel size that QuPath read from the file. */
    private boolean isSpacingSetByHand() {
        PixelCalibration now = server.getPixelCalibration();
        PixelCalibration read = server.getOriginalMetadata().getPixelCalibration();
        return now.getPixelWidthMicrons() != read.getPixelWidthMicrons()
                || now.getPixelHeightMicrons() != read.getPixelHeightMicrons();
    }
}
