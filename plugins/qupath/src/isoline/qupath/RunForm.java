package isoline.qupath;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Supplier;
import javafx.event.ActionEvent;
import javafx.geometry.Insets;
import javafx.scene.control.Button;
import javafx.scene.control.ButtonType;
import javafx.scene.control.CheckBox;
import javafx.scene.control.ComboBox;
import javafx.scene.control.Control;
import javafx.scene.control.Dialog;
import javafx.scene.control.Label;
import javafx.scene.control.TextField;
import javafx.scene.control.Tooltip;
import javafx.scene.layout.GridPane;
import javafx.scene.layout.Region;
import javafx.stage.Window;

/** A dialog for a model and its parameters, built from the server's list of models. */
public final class RunForm {

    private static final double WIDTH = 460;

    private final Map<String, JsonObject> models = new LinkedHashMap<>();
    private final ComboBox<String> choice = new ComboBox<>();
    private final TextField channels = new TextField();
    private final Label about = new Label();
    private final Label complaint = new Label();
    private final GridPane fields = new GridPane();
    private final Map<String, Supplier<JsonPrimitive>> values = new LinkedHashMap<>();
    private final Dialog<ButtonType> dialog = new Dialog<>();

    private RunForm(List<JsonObject> offered, Window owner, boolean needsChannels) {
        for (boolean isUsable : List.of(true, false)) { // models that can run come first
            for (JsonObject model : offered) {
                if (model.has("title") && isUsable == problem(model).isEmpty()) {
                    models.put(model.get("title").getAsString(), model);
                }
            }
        }
        choice.getItems().addAll(models.keySet());
        choice.setOnAction(event -> show());
        for (Label words : List.of(about, complaint)) {
            words.setWrapText(true);
            words.setPrefWidth(WIDTH - 40);
            words.setMinHeight(Region.USE_PREF_SIZE);
        }
        fields.setHgap(10);
        fields.setVgap(6);
        GridPane all = new GridPane();
        all.setHgap(10);
        all.setVgap(8);
        all.setPadding(new Insets(12));
        all.addRow(0, new Label("Model"), choice);
        all.add(about, 0, 1, 2, 1);
        all.add(fields, 0, 2, 2, 1);
        if (needsChannels) {
            channels.setTooltip(new Tooltip("Names, or numbers from 0, separated by commas"));
            all.addRow(3, new Label("Channels"), channels);
        }
        all.add(complaint, 0, 4, 2, 1);
        dialog.setTitle("Isoline");
        dialog.initOwner(owner);
        dialog.getDialogPane().setContent(all);
        dialog.getDialogPane().setPrefWidth(WIDTH);
        dialog.getDialogPane().getButtonTypes().addAll(ButtonType.OK, ButtonType.CANCEL);
        Button ok = (Button) dialog.getDialogPane().lookupButton(ButtonType.OK);
        ok.setText("Run");
        ok.addEventFilter(ActionEvent.ACTION, event -> {
            String wrong = complaintNow();
            complaint.setText(wrong);
            if (!wrong.isEmpty()) {
                event.consume();
            }
        });
        if (!models.isEmpty()) {
            choice.getSelectionModel().select(0);
            show();
        }
    }

    /**
     * Show the dialog, on the JavaFX thread; return the keys of a request, or null if the user cancels.
     *
     * The dialog is skipped if there is nothing to choose: for one model without parameters.
     */
    public static JsonObject ask(List<JsonObject> models, Window owner, boolean needsChannels) {
        RunForm form = new RunForm(models, owner, needsChannels);
        if (models.size() == 1 && form.values.isEmpty() && !needsChannels && form.complaintNow().isEmpty()) {
            return form.options();
        }
        Optional<ButtonType> answer = form.dialog.showAndWait();
        return answer.isPresent() && answer.get().equals(ButtonType.OK) ? form.options() : null;
    }

    private JsonObject model() {
        return models.get(choice.getValue());
    }

    private void show() {
        fields.getChildren().clear();
        values.clear();
        about.setText(model().get("description").getAsString());
        complaint.setText(complaintNow());
        int row = 0;
        for (JsonElement each : model().getAsJsonArray("parameters")) {
            JsonObject parameter = each.getAsJsonObject();
            String name = parameter.get("name").getAsString();
            Control field = field(name, parameter);
            field.setTooltip(new Tooltip(parameter.get("help").getAsString()));
            Label bounds = new Label(parameter.has("minimum") ? bounds(parameter) : "");
            bounds.setOpacity(0.7d);
            fields.addRow(row, new Label(words(name)), field, bounds);
            row += 1;
        }
        dialog.getDialogPane().getScene().getWindow().sizeToScene();
    }

    private Control field(String name, JsonObject parameter) {
        JsonElement given = parameter.get("default");
        Supplier<JsonPrimitive> value; // Groovy does not infer the type from the map
        switch (parameter.get("kind").getAsString()) {
            case "switch":
                CheckBox box = new CheckBox();
                box.setSelected(given.getAsBoolean());
                value = () -> new JsonPrimitive(box.isSelected());
                values.put(name, value);
                return box;
            case "choice":
                ComboBox<String> list = new ComboBox<>();
                for (JsonElement each : parameter.getAsJsonArray("choices")) {
                    list.getItems().add(each.getAsString());
                }
                list.setValue(given.getAsString());
                value = () -> new JsonPrimitive(list.getValue());
                values.put(name, value);
                return list;
            default:
                TextField text = new TextField(given.getAsString());
                value = () -> number(text.getText(), parameter);
                values.put(name, value);
                return text;
        }
    }

    /** Return the label for the name of a parameter: Min area, µm² for min_area_um2. */
    private static String words(String name) {
        String spaced = name.replaceFirst("_um2\\z", ", \u00b5m\u00b2").replaceFirst("_um\\z", ", \u00b5m")
                .replace("_", " ");
        return spaced.substring(0, 1).toUpperCase() + spaced.substring(1);
    }

    private static String bounds(JsonObject parameter) {
        return parameter.get("minimum").getAsString() + " to " + parameter.get("maximum").getAsString();
    }

    private static JsonPrimitive number(String text, JsonObject parameter) {
        try {
            double value = Double.parseDouble(text.trim());
            boolean isWhole = parameter.get("integer").getAsBoolean();
            if (value >= parameter.get("minimum").getAsDouble() && value <= parameter.get("maximum").getAsDouble()
                    && (!isWhole || value == Math.rint(value))) {
                return isWhole ? new JsonPrimitive((long) value) : new JsonPrimitive(value);
            }
        } catch (NumberFormatException e) {
            // reported below, with the bounds
        }
        throw new IllegalArgumentException(
                words(parameter.get("name").getAsString()) + ": enter a number from " + bounds(parameter));
    }

    /** Return why the model cannot run with these values, an empty text if it can. */
    private String complaintNow() {
        if (!problem(model()).isEmpty()) {
            return "This model cannot run: " + problem(model());
        }
        for (Supplier<JsonPrimitive> value : values.values()) {
            try {
                value.get();
            } catch (IllegalArgumentException e) {
                return e.getMessage();
            }
        }
        return "";
    }

    private static String problem(JsonObject model) {
        JsonElement problem = model.get("problem");
        return problem == null || problem.isJsonNull() ? "" : problem.getAsString();
    }

    private JsonObject options() {
        JsonObject parameters = new JsonObject();
        values.forEach((name, value) -> parameters.add(name, value.get()));
        JsonObject options = new JsonObject();
        options.addProperty(RequestKeys.MODEL, model().get("name").getAsString());
        options.add(RequestKeys.PARAMETERS, parameters);
        if (!channels.getText().isBlank()) {
            options.add(RequestKeys.CHANNEL, channels(channels.getText()));
        }
        return options;
    }

    private static JsonArray channels(String text) {
        JsonArray chosen = new JsonArray();
        for (String each : new ArrayList<>(List.of(text.split(",")))) {
            if (each.trim().matches("[0-9]+")) {
                chosen.add(Integer.parseInt(each.trim()));
            } else {
                chosen.add(each.trim());
            }
        }
        return chosen;
    }
}
