package isoline.qupath;

import com.google.gson.JsonObject;
import java.awt.image.BufferedImage;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import javafx.beans.property.StringProperty;
import javafx.scene.control.Alert;
import javafx.scene.control.MenuItem;
import qupath.lib.common.Version;
import qupath.lib.gui.QuPathGUI;
import qupath.lib.gui.extensions.QuPathExtension;
import qupath.lib.gui.prefs.PathPrefs;
import qupath.lib.gui.viewer.QuPathViewer;
import qupath.lib.images.ImageData;
import qupath.lib.objects.PathObject;

/** The menu Extensions > Isoline. It only connects the parts; everything testable is elsewhere. */
public class IsolineExtension implements QuPathExtension {

    private final StringProperty url =
            PathPrefs.createPersistentPreference("isoline.url", "http://127.0.0.1:8765");
    private final StringProperty token = PathPrefs.createPersistentPreference("isoline.token", "");
    private final List<Runs> running = new ArrayList<>();
    private JsonObject lastOptions;
    private ClickWindow clicking;

    @Override
    public String getName() {
        return "Isoline";
    }

    @Override
    public String getDescription() {
        return "Segmentation whose objects appear while the slide is still being processed";
    }

    @Override
    public Version getQuPathVersion() {
        return Version.parse("0.5.0");
    }

    @Override
    public Version getVersion() {
        return Version.parse("0.1.0");
    }

    @Override
    public void installExtension(QuPathGUI qupath) {
        Isoline.setToken(token.get());
        item(qupath, "Run model...", () -> askAndRun(qupath, "selected"));
        item(qupath, "Segment selected objects", () -> runAgain(qupath));
        item(qupath, "Click to segment", () -> click(qupath));
        item(qupath, "Run on whole slide...", () -> askAndRun(qupath, "slide"));
        item(qupath, "Cancel", () -> running.forEach(Runs::cancel));
        item(qupath, "Settings...", () -> askSettings(qupath));
    }

    private static void item(QuPathGUI qupath, String title, Runnable action) {
        MenuItem item = new MenuItem(title);
        item.setOnAction(event -> action.run());
        qupath.getMenu("Extensions>Isoline", true).getItems().add(item);
    }

    private void askSettings(QuPathGUI qupath) {
        String[] answer = SettingsDialog.ask(url.get(), token.get(), qupath.getStage());
        if (answer != null) {
            url.set(answer[0]);
            token.set(answer[1]);
            Isoline.setToken(answer[1]);
        }
    }

    private void askAndRun(QuPathGUI qupath, String where) {
        ImageData<BufferedImage> image = qupath.getImageData();
        if (image == null) {
            say(qupath, "Open an image first.");
            return;
        }
        if (Isoline.parents(image, where).isEmpty()) {
            say(qupath, "Select one or more areas first (annotations, TMA cores), or choose Run on whole slide.");
            return;
        }
        withModels(qupath, false, models -> {
            JsonObject options = RunForm.ask(models, qupath.getStage(), !image.getServer().isRGB());
            if (options != null) {
                lastOptions = options;
                start(qupath, image, options, where);
            }
        });
    }

    private void runAgain(QuPathGUI qupath) {
        ImageData<BufferedImage> image = qupath.getImageData();
        if (lastOptions == null || image == null || Isoline.parents(image, "selected").isEmpty()) {
            askAndRun(qupath, "selected");
        } else {
            start(qupath, image, lastOptions, "selected");
        }
    }

    /** Open a session in which the user clicks on one object after another. */
    private void click(QuPathGUI qupath) {
        ImageData<BufferedImage> image = qupath.getImageData();
        if (image == null) {
            say(qupath, "Open an image first.");
            return;
        }
        withModels(qupath, true, models -> {
            JsonObject options = RunForm.ask(models, qupath.getStage(), !image.getServer().isRGB());
            if (options != null) {
                if (clicking != null) {
                    clicking.close();
                }
                clicking = ClickWindow.open(client(), image, options, qupath.getStage(),
                        request -> record(image, request, "slide"));
            }
        });
    }

    private void start(QuPathGUI qupath, ImageData<BufferedImage> image, JsonObject options, String where) {
        QuPathViewer viewer = qupath.getViewer();
        List<Run> runs = new ArrayList<>();
        for (PathObject parent : Isoline.parents(image, where)) {
            runs.add(new Run(client(), image, parent, options));
        }
        running.removeIf(Runs::hasEnded);
        running.add(ProgressWindow.start(runs, "Isoline: " + options.get(RequestKeys.MODEL).getAsString(),
                qupath.getStage(),
                () -> viewer == null ? null : new double[] {viewer.getCenterPixelX(), viewer.getCenterPixelY()}));
        record(image, options, where);
    }

    private void record(ImageData<BufferedImage> image, JsonObject options, String where) {
        Isoline.record(image, url.get(), options, where, Isoline.scriptFor(url.get(), options, where));
    }

    private IsolineClient client() {
        return new IsolineClient(url.get(), token.get());
    }

    /** Load the models, and continue with `next` if there are any. */
    private void withModels(QuPathGUI qupath, boolean prompted, Consumer<List<JsonObject>> next) {
        WaitingWindow.models(client(), qupath.getStage(), all -> {
            List<JsonObject> models = Isoline.models(all, prompted);
            if (models.isEmpty()) {
                say(qupath, prompted ? "No model on this server accepts clicks." : "The server has no models.");
            } else {
                next.accept(models);
            }
        }, words -> say(qupath, words));
    }

    private static void say(QuPathGUI qupath, String words) {
        Alert alert = new Alert(Alert.AlertType.INFORMATION, words);
        alert.initOwner(qupath.getStage());
        alert.setTitle("Isoline");
        alert.setHeaderText(null);
        alert.show();
    }
}
