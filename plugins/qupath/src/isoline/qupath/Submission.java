package isoline.qupath;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.net.URI;
import java.util.Collection;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import java.util.function.Predicate;
import qupath.lib.images.ImageData;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.images.servers.PixelCalibration;
import qupath.lib.io.GsonTools;
import qupath.lib.objects.PathObject;

/** From what the user asks for to a job of the server; its pixels are uploaded if they must be. */
final class Submission {

    private final IsolineClient client;
    private final ImageServer<BufferedImage> server;
    private final PathObject parent;
    private final JsonObject options;
    private Upload.Sent sent;

    /** `options` are keys of a request: `model`, and `parameters` and others where given. */
    Submission(IsolineClient client, ImageData<BufferedImage> image, PathObject parent, JsonObject options) {
        this.client = client;
        this.server = image.getServer();
        this.parent = parent;
        this.options = options;
    }

    /** Use what was uploaded before, if there is enough of it; null where nothing was. */
    void setSent(Upload.Sent sent) {
        this.sent = sent;
    }

    /** Return what the server has of the image; null where it sees the file. */
    Upload.Sent getSent() {
        return sent;
    }

    /**
     * Return the job. Tiles near the x, y of `focus` come first; null is nowhere.
     *
     * `say` hears how far an upload is; `agree` is asked before a large one; `stopped` ends it.
     */
    String submit(double[] focus, Consumer<String> say, Predicate<String> agree, BooleanSupplier stopped)
            throws IOException, InterruptedException {
        try {
            return submitOrUpload(request(focus), say, agree, stopped);
        } catch (IsolineClient.Refused e) {
            if (e.code.equals("BadSpacing") && spacing() == null) {
                throw e.with(". In QuPath: double-click on Pixel width in the Image tab");
            }
            throw e;
        }
    }

    private String submitOrUpload(JsonObject request, Consumer<String> say, Predicate<String> agree,
            BooleanSupplier stopped) throws IOException, InterruptedException {
        try {
            if (sent != null && sent.isAround(request.getAsJsonArray("prompts"))) {
                pointAtUpload(request);
            } else if (!request.has("image")) {
                upload(request, say, agree, stopped);
            }
            return client.submit(request).get("job").getAsString();
        } catch (IsolineClient.Refused e) {
            if (!e.code.equals("UnknownImage") && !e.code.equals("WrongImage")) {
                throw e;
            }
        }
        upload(request, say, agree, stopped);
        return client.submit(request).get("job").getAsString();
    }

    private void upload(JsonObject request, Consumer<String> say, Predicate<String> agree,
            BooleanSupplier stopped) throws IOException, InterruptedException {
        int t = parent.getROI() == null ? 0 : parent.getROI().getT();
        Upload upload = new Upload(client, server, plane(), t);
        sent = upload.send(request, spacing(), say, agree, stopped);
        pointAtUpload(request);
    }

    private void pointAtUpload(JsonObject request) {
        request.addProperty("image", sent.image);
        request.remove("image_size"); // those are of the file that the server does not see
        request.remove("z");
    }

    private JsonObject request(double[] focus) {
        JsonObject request = options.deepCopy();
        request.addProperty("format", "qupath");
        String uri = fileUri();
        if (uri != null) {
            JsonArray size = new JsonArray();
            size.add(server.getWidth());
            size.add(server.getHeight());
            request.addProperty("image", uri);
            request.add("image_size", size);
        }
        JsonArray spacing = spacing();
        if (spacing != null) {
            request.add("spacing_um", spacing);
        }
        if (server.nZSlices() > 1) {
            request.addProperty("z", plane());
        }
        if (parent.getROI() != null && parent.getROI().isArea()) {
            // toJsonTree throws in QuPath 0.6 and 0.7
            String feature = GsonTools.getInstance().toJson(parent, PathObject.class);
            request.add("region", JsonParser.parseString(feature).getAsJsonObject().get("geometry"));
        }
        if (focus != null) {
            JsonArray point = new JsonArray();
            point.add(focus[0]);
            point.add(focus[1]);
            request.add("focus", point);
        }
        return request;
    }

    private int plane() {
        if (options.has("z")) {
            return options.get("z").getAsInt();
        }
        return parent.getROI() == null ? 0 : parent.getROI().getZ();
    }

    /** Return where the file is, null where there is none that shows what the viewer shows. */
    private String fileUri() {
        // a slide that QuPath shows turned has the size and the URI of the file and other pixels
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
}
