package isoline.qupath;

import java.util.List;
import java.util.concurrent.FutureTask;
import java.util.function.Predicate;
import java.util.function.Supplier;
import javafx.application.Platform;
import javafx.geometry.Insets;
import javafx.scene.Scene;
import javafx.scene.control.Alert;
import javafx.scene.control.Button;
import javafx.scene.control.ButtonType;
import javafx.scene.control.Label;
import javafx.scene.control.ProgressBar;
import javafx.scene.layout.HBox;
import javafx.scene.layout.VBox;
import javafx.stage.Stage;
import javafx.stage.Window;

/** A small window beside the viewer during a run; it does not block the user. */
public final class ProgressWindow {

    private final Stage stage = new Stage();
    private final Label words = new Label("Starting");
    private final Label numbers = new Label();
    private final ProgressBar bar = new ProgressBar(-1);
    private final Button cancel = new Button("Cancel");
    private final Button remove = new Button("Remove partial results");

    private ProgressWindow(Runs runs, String title, Window owner) {
        words.setWrapText(true);
        bar.setMaxWidth(Double.MAX_VALUE);
        cancel.setOnAction(event -> {
            cancel.setDisable(true);
            words.setText("Stopping; the results so far are kept");
            runs.cancel();
        });
        remove.setVisible(false);
        remove.setOnAction(event -> {
            int removed = runs.removeResults();
            remove.setDisable(true);
            words.setText(removed + " objects were removed.");
        });
        VBox all = new VBox(8, words, bar, numbers, new HBox(8, cancel, remove));
        all.setPadding(new Insets(12));
        all.setPrefWidth(420);
        stage.initOwner(owner);
        stage.setTitle(title);
        stage.setScene(new Scene(all));
        stage.show();
    }

    /**
     * Start `runs` in a new thread and show their progress; to be called on the JavaFX thread.
     *
     * `view` returns the x, y in image pixels at which the user is looking. Returns the runs, to
     * cancel them.
     */
    public static Runs start(List<Run> runs, String title, Window owner, Supplier<double[]> view) {
        runs.forEach(run -> run.on(work -> later(work)).lookingAt(view).asking(ask(owner)));
        Runs all = new Runs(runs);
        ProgressWindow window = new ProgressWindow(all, title, owner);
        Thread thread = new Thread(() -> {
            RunStatus end = all.call(status -> Platform.runLater(() -> window.show(status)));
            Platform.runLater(() -> window.finish(end));
        }, "isoline-run");
        thread.setDaemon(true);
        thread.start();
        return all;
    }

    private static void later(Runnable work) {
        if (Platform.isFxApplicationThread()) {
            work.run();
        } else {
            Platform.runLater(work);
        }
    }

    private static Predicate<String> ask(Window owner) {
        return (String question) -> {
            FutureTask<Boolean> answer = new FutureTask<>(() -> {
                Alert alert = new Alert(Alert.AlertType.CONFIRMATION, question, ButtonType.YES, ButtonType.NO);
                alert.initOwner(owner);
                return alert.showAndWait().filter(button -> button.equals(ButtonType.YES)).isPresent();
            });
            Platform.runLater(answer);
            try {
                return answer.get();
            } catch (Exception e) {
                return false;
            }
        };
    }

    private void show(RunStatus status) {
        if (!cancel.isDisabled()) {
            words.setText(status.message);
        }
        bar.setProgress(status.tiles == 0 ? -1 : (double) status.tilesDone / (double) status.tiles);
        boolean isOver = status.secondsLeft < 0 || !status.state.equals("running");
        String left = isOver ? "" : ", " + duration(status.secondsLeft) + " left";
        numbers.setText(String.format("%,d objects, %d of %d tiles%s",
                status.objects, status.tilesDone, status.tiles, left));
    }

    private void finish(RunStatus end) {
        show(end);
        words.setText(end.message);
        bar.setProgress(end.state.equals("done") ? 1 : bar.getProgress() < 0 ? 0 : bar.getProgress());
        remove.setVisible(!end.state.equals("done") && end.objects > 0);
        cancel.setText("Close");
        cancel.setDisable(false);
        cancel.setOnAction(event -> stage.close());
    }

    private static String duration(double seconds) {
        long whole = Math.round(seconds);
        return whole < 60 ? whole + " s" : String.format("%d min %d s", Math.floorDiv(whole, 60L), whole % 60);
    }
}
