package isoline.qupath;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.awt.Graphics2D;
import java.awt.image.BufferedImage;
import java.awt.image.WritableRaster;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletionService;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorCompletionService;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.function.Consumer;
import java.util.function.Predicate;
import javax.imageio.ImageIO;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.regions.RegionRequest;

/** Uploads the pixels of a region, in lossless tiles, to a server that cannot read the file. */
public final class Upload {

    /** From this number of pixels on, the user is asked first. */
    public static final long ASK_FROM_PIXELS = 30_000_000;

    private static final int THREADS = 4;
    private static final int AROUND_PX = 512;

    /** Pixels that have been uploaded to a server. */
    static final class Sent {

        /** The server's name for the image. */
        final String image;
        private final JsonArray area;
        private final JsonArray size;

        Sent(String image, JsonArray area, JsonArray size) {
            this.image = image;
            this.area = area;
            this.size = size;
        }

        /** Return whether it has enough pixels around each of `prompts` for another request. */
        boolean isAround(JsonArray prompts) {
            for (JsonElement prompt : prompts) {
                for (JsonElement point : prompt.getAsJsonObject().getAsJsonArray("points")) {
                    for (int axis = 0; axis < 2; axis++) {
                        double at = point.getAsJsonArray().get(axis).getAsDouble();
                        double low = area.get(axis).getAsDouble();
                        double high = area.get(axis + 2).getAsDouble();
                        boolean isNear = at >= low && at <= high
                                && (low == 0 || at - low >= AROUND_PX)
                                && (high == size.get(axis).getAsDouble() || high - at >= AROUND_PX);
                        if (!isNear) {
                            return false;
                        }
                    }
                }
            }
            return true;
        }
    }

    private final IsolineClient client;
    private final ImageServer<BufferedImage> server;
    private final int z;
    private final int t;

    /** Upload from plane `z` and time `t` of `server`. */
    public Upload(IsolineClient client, ImageServer<BufferedImage> server, int z, int t) {
        this.client = client;
        this.server = server;
        this.z = z;
        this.t = t;
    }

    /**
     * Upload the pixels that `request` needs and return the upload.
     *
     * `say` receives messages about the progress; `agree` is asked before a large upload. Throws a
     * CancellationException if the user does not agree, and an IllegalStateException if the pixels
     * cannot be read.
     */
    Sent send(JsonObject request, JsonArray spacing, Consumer<String> say, Predicate<String> agree)
            throws IOException, InterruptedException {
        JsonObject announced = announcement(request, spacing);
        JsonObject wanted = client.announce(announced);
        long pixels = wanted.get("pixels").getAsLong();
        String size = Math.round(pixels / 1e6d) + " million pixels (about " +
                Math.round(pixels * 1.7d / 1e6d) + " MB)";
        if (pixels >= ASK_FROM_PIXELS && !agree.test("The server cannot read the file of this " +
                "image. Upload " + size + "? A smaller region, or [file_uris] in the server's " +
                "configuration, is faster.")) {
            throw new CancellationException("nothing was uploaded");
        }
        say.accept("The server cannot read the file: uploading " + size);
        ExecutorService threads = Executors.newFixedThreadPool(THREADS);
        try {
            CompletionService<Void> sending = new ExecutorCompletionService<>(threads);
            List<Callable<Void>> tiles = tiles(wanted);
            tiles.forEach(tile -> sending.submit(tile));
            for (int done = 1; done <= tiles.size(); done++) {
                sending.take().get(); // the first that fails ends the upload
                say.accept("Uploading: " + done + " of " + tiles.size() + " tiles");
            }
        } catch (ExecutionException e) {
            if (e.getCause() instanceof IOException) {
                throw (IOException) e.getCause();
            }
            if (e.getCause() instanceof CancellationException) {
                throw (CancellationException) e.getCause();
            }
            throw new IllegalStateException("QuPath cannot read the pixels of this image: " + e.getCause(), e);
        } finally {
            threads.shutdownNow();
        }
        JsonArray area = wanted.getAsJsonArray("levels").get(0).getAsJsonObject().getAsJsonArray("area");
        return new Sent(wanted.get("image").getAsString(), area, announced.getAsJsonArray("size"));
    }

    private JsonObject announcement(JsonObject request, JsonArray spacing) {
        JsonArray size = new JsonArray();
        size.add(server.getWidth());
        size.add(server.getHeight());
        JsonObject announcement = new JsonObject();
        announcement.add("size", size);
        if (spacing != null) {
            announcement.add("spacing_um", spacing);
        }
        if (!server.isRGB()) {
            String type = server.getPixelType().name().toLowerCase();
            if (!type.equals("uint8") && !type.equals("uint16")) {
                throw new IllegalStateException("The server cannot read the file of this image, and pixels of " +
                        "type " + type + " cannot be uploaded. Remedy: [file_uris] in the server's configuration");
            }
            JsonArray channels = new JsonArray();
            for (int c = 0; c < server.nChannels(); c++) {
                channels.add(server.getChannel(c).getName());
            }
            announcement.add("channels", channels);
            announcement.addProperty("dtype", type);
        }
        JsonObject purpose = request.deepCopy();
        // these describe the file, which the server cannot read
        for (String key : List.of(RequestKeys.IMAGE, RequestKeys.IMAGE_SIZE, RequestKeys.SPACING_UM, RequestKeys.Z)) {
            purpose.remove(key);
        }
        announcement.add("request", purpose);
        return announcement;
    }

    private List<Callable<Void>> tiles(JsonObject wanted) {
        String upload = wanted.get("upload").getAsString();
        int side = wanted.get("tile_px").getAsInt();
        List<Callable<Void>> tiles = new ArrayList<>();
        int level = 0;
        for (JsonElement each : wanted.getAsJsonArray("levels")) {
            JsonArray area = each.getAsJsonObject().getAsJsonArray("area");
            int downsample = each.getAsJsonObject().get("downsample").getAsInt();
            int x0 = area.get(0).getAsInt();
            int y0 = area.get(1).getAsInt();
            int x1 = area.get(2).getAsInt();
            int y1 = area.get(3).getAsInt();
            for (int row = Math.floorDiv(y0, side); row * side < y1; row++) {
                for (int column = Math.floorDiv(x0, side); column * side < x1; column++) {
                    int left = Math.max(x0, column * side);
                    int top = Math.max(y0, row * side);
                    int width = Math.min(x1, (column + 1) * side) - left;
                    int height = Math.min(y1, (row + 1) * side) - top;
                    int c = column;
                    int r = row;
                    int l = level;
                    tiles.add(() -> {
                        client.sendTile(upload, l, c, r, png(downsample, left, top, width, height));
                        return null;
                    });
                }
            }
            level += 1;
        }
        return tiles;
    }

    /** Return a tile as PNG; `x`, `y`, `width` and `height` are in pixels of its level. */
    private byte[] png(int downsample, int x, int y, int width, int height) throws IOException {
        int left = x * downsample;
        int top = y * downsample;
        RegionRequest region = RegionRequest.createInstance(server.getPath(), downsample, left, top,
                Math.min(width * downsample, server.getWidth() - left),
                Math.min(height * downsample, server.getHeight() - top), z, t);
        BufferedImage pixels = server.readRegion(region);
        BufferedImage tile = server.isRGB() ? opaque(pixels, width, height) : stacked(pixels, width, height);
        ByteArrayOutputStream png = new ByteArrayOutputStream();
        ImageIO.write(tile, "PNG", png);
        return png.toByteArray();
    }

    /** Return `pixels` as RGB without alpha, resized, as an overview may be a pixel too large or small. */
    private static BufferedImage opaque(BufferedImage pixels, int width, int height) {
        BufferedImage rgb = new BufferedImage(width, height, BufferedImage.TYPE_3BYTE_BGR);
        Graphics2D graphics = rgb.createGraphics();
        graphics.drawImage(pixels, 0, 0, width, height, null);
        graphics.dispose();
        return rgb;
    }

    /** Return the channels of `pixels`, stacked vertically, as a grey image of the same bit depth. */
    private BufferedImage stacked(BufferedImage pixels, int width, int height) {
        int bands = server.nChannels();
        boolean deep = server.getPixelType().name().equals("UINT16");
        BufferedImage grey = new BufferedImage(width, height * bands,
                deep ? BufferedImage.TYPE_USHORT_GRAY : BufferedImage.TYPE_BYTE_GRAY);
        WritableRaster raster = grey.getRaster();
        for (int band = 0; band < bands; band++) {
            for (int y = 0; y < height; y++) {
                for (int x = 0; x < width; x++) {
                    raster.setSample(x, band * height + y, 0, pixels.getRaster().getSample(
                            Math.min(x, pixels.getWidth() - 1), Math.min(y, pixels.getHeight() - 1), band));
                }
            }
        }
        return grey;
    }
}
