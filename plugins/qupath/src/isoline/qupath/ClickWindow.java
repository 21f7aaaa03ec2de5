package isoline.qupath;

import com.google.gson.JsonObject;
import java.awt.image.BufferedImage;
import java.util.List;
import java.util.function.Consumer;
import javafx.application.Platform;
import javafx.geometry.Insets;
import javafx.scene.Scene;
import javafx.scene.control.Button;
import javafx.scene.control.Label;
import javafx.scene.control.RadioButton;
import javafx.scene.control.ToggleGroup;
import javafx.scene.control.Tooltip;
import javafx.scene.input.KeyCombination;
import javafx.scene.layout.HBox;
import javafx.scene.layout.VBox;
import javafx.stage.Stage;
import javafx.stage.Window;
import qupath.lib.images.ImageData;

/** A small window beside the viewer for clicks: the meaning of prompts, undo, next object. */
public final class ClickWindow {

    private static final KeyCombination NEXT = KeyCombination.valueOf("Shortcut+Enter");

    private final Stage stage = new Stage();
    private final Label words = new Label();
    private final Button next = new Button("Next object");
    private final ClickSession session;

    private ClickWindow(IsolineClient client, ImageData<BufferedImage> image, JsonObject options,
            Window owner, Consumer<JsonObject> recorder) {
        session = new ClickSession(client, image, options, work -> Platform.runLater(work), recorder,
                text -> say(text));
        RadioButton on = new RadioButton("On the object");
        RadioButton off = new RadioButton("Not the object");
        ToggleGroup meaning = new ToggleGroup();
        on.setToggleGroup(meaning);
        off.setToggleGroup(meaning);
        on.setSelected(true);
        off.selectedProperty().addListener((value, before, now) -> session.setExcluding(now));
        Button undo = new Button("Undo");
        undo.setOnAction(event -> session.undo());
        next.setTooltip(new Tooltip("Ctrl or Cmd and Enter"));
        next.setOnAction(event -> {
            session.next();
            on.setSelected(true);
        });
        Button close = new Button("Close");
        close.setOnAction(event -> stage.close());
        words.setWrapText(true);
        words.setMinHeight(44);
        Label tools = new Label("Use points, rectangle, polyline (a scribble), polygon, brush or wand.");
        tools.setWrapText(true);
        VBox all = new VBox(8, words, new HBox(12, on, off), new HBox(8, undo, next, close), tools);
        all.setPadding(new Insets(12));
        all.setPrefWidth(360);
        stage.initOwner(owner);
        stage.setTitle("Isoline: " + options.get(RequestKeys.MODEL).getAsString());
        stage.setScene(new Scene(all));
        for (Scene scene : List.of(stage.getScene(), owner.getScene())) { // the viewer has the focus
            scene.getAccelerators().put(NEXT, () -> next.fire());
        }
        stage.setOnHidden(event -> {
            owner.getScene().getAccelerators().remove(NEXT);
            session.close();
        });
        stage.show();
        session.start();
    }

    /** Open a session, on the JavaFX thread; `recorder` receives the request of each object that is kept. */
    public static ClickWindow open(IsolineClient client, ImageData<BufferedImage> image, JsonObject options,
            Window owner, Consumer<JsonObject> recorder) {
        return new ClickWindow(client, image, options, owner, recorder);
    }

    /** Keep the current object and end the session. */
    public void close() {
        stage.close();
    }

    private void say(String text) {
        words.setText(text);
        next.setDisable(session.isBusy());
    }
}
