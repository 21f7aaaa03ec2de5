package qupath.lib.gui.prefs;

import javafx.beans.property.SimpleStringProperty;
import javafx.beans.property.StringProperty;

public class PathPrefs {

    public static StringProperty createPersistentPreference(String name, String defaultValue) {
        return new SimpleStringProperty(defaultValue);
    }
}
