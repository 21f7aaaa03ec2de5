package isoline.qupath;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.util.List;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import javafx.application.Platform;
import javafx.geometry.Insets;
import javafx.scene.Scene;
import javafx.scene.control.Button;
import javafx.scene.control.Label;
import javafx.scene.layout.VBox;
import javafx.stage.Stage;
import javafx.stage.Window;

/** A small window that appears while the user has to wait for a server, with a Cancel button. */
public final class WaitingWindow {

    private static final long A_MOMENT_MS = 800;

    private final Stage stage = new Stage();
    private final Label words = new Label();
    private boolean isOver;

    private WaitingWindow(Window owner, Cancellation stop) {
        words.setWrapText(true);
        words.setMinHeight(60);
        Button cancel = new Button("Cancel");
        cancel.setOnAction(event -> stage.close());
        VBox all = new VBox(8, words, cancel);
        all.setPadding(new Insets(12));
        all.setPrefWidth(420);
        stage.initOwner(owner);
        stage.setTitle("Isoline: waiting");
        stage.setScene(new Scene(all));
        stage.setOnHidden(event -> {
            isOver = true;
            stop.cancel();
        });
    }

    /**
     * Load the models with `client` and pass them to `next`, or an error message to `say`.
     *
     * To be called on the JavaFX thread, which is not blocked; `next` and `say` are called on it too,
     * unless the user cancels.
     */
    public static void models(IsolineClient client, Window owner, Consumer<List<JsonObject>> next,
            Consumer<String> say) {
        Cancellation stop = new Cancellation();
        WaitingWindow window = new WaitingWindow(owner, stop);
        IsolineClient patient = client.until(stop).telling(words -> Platform.runLater(() -> window.show(words)));
        CompletableFuture.delayedExecutor(A_MOMENT_MS, TimeUnit.MILLISECONDS).execute(() ->
                Platform.runLater(() -> window.begin("Loading the models of " + client.getUrl())));
        Thread thread = new Thread(() -> {
            try {
                List<JsonObject> models = patient.models();
                Platform.runLater(() -> window.finish(() -> next.accept(models)));
            } catch (CancellationException | InterruptedException e) {
                Thread.currentThread().interrupt(); // the window was closed
            } catch (IOException | RuntimeException e) {
                Platform.runLater(() -> window.finish(() -> say.accept(client.explain(e))));
            }
        }, "isoline-models");
        thread.setDaemon(true);
        thread.start();
    }

    private void begin(String text) {
        if (words.getText().isEmpty()) {
            show(text);
        }
    }

    private void show(String text) {
        if (isOver || text.isEmpty()) {
            return;
        }
        words.setText(text);
        stage.show();
    }

    private void finish(Runnable last) {
        if (!isOver) {
            isOver = true;
            stage.close();
            last.run();
        }
    }
}
