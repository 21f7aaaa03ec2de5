package isoline.qupath;

import java.util.Optional;
import javafx.application.Platform;
import javafx.geometry.Insets;
import javafx.scene.control.Button;
import javafx.scene.control.ButtonType;
import javafx.scene.control.Dialog;
import javafx.scene.control.Label;
import javafx.scene.control.PasswordField;
import javafx.scene.control.TextField;
import javafx.scene.layout.GridPane;
import javafx.stage.Window;

/** A dialog for the server's address and token, which can also test them. */
public final class SettingsDialog {

    private SettingsDialog() {}

    /** Show the dialog, on the JavaFX thread; return {address, token}, or null if the user cancels. */
    public static String[] ask(String url, String token, Window owner) {
        TextField address = new TextField(url);
        PasswordField secret = new PasswordField();
        secret.setText(token);
        secret.setPromptText("only if the server requires one");
        Label answer = new Label();
        answer.setWrapText(true);
        answer.setMinHeight(60);
        Button test = new Button("Test connection");
        test.setOnAction(event -> {
            answer.setText("Connecting...");
            IsolineClient client = new IsolineClient(address.getText(), secret.getText());
            Thread thread = new Thread(() -> {
                String words = client.test();
                Platform.runLater(() -> answer.setText(words));
            }, "isoline-test");
            thread.setDaemon(true);
            thread.start();
        });
        GridPane all = new GridPane();
        all.setHgap(10);
        all.setVgap(8);
        all.setPadding(new Insets(12));
        all.addRow(0, new Label("Server"), address);
        all.addRow(1, new Label("Token"), secret);
        all.addRow(2, test);
        all.add(answer, 0, 3, 2, 1);
        address.setPrefColumnCount(28);
        Dialog<ButtonType> dialog = new Dialog<>();
        dialog.setTitle("Isoline: settings");
        dialog.initOwner(owner);
        dialog.getDialogPane().setContent(all);
        dialog.getDialogPane().getButtonTypes().addAll(ButtonType.OK, ButtonType.CANCEL);
        Optional<ButtonType> button = dialog.showAndWait();
        boolean isMeant = button.isPresent() && button.get().equals(ButtonType.OK);
        return isMeant ? new String[] {address.getText().trim(), secret.getText().trim()} : null;
    }
}
