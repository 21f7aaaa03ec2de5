package qupath.lib.objects.hierarchy.events;

import java.util.LinkedHashSet;
import java.util.Set;
import qupath.lib.objects.PathObject;

public class PathObjectSelectionModel {

    private final Set<PathObject> selected = new LinkedHashSet<>();

    public Set<PathObject> getSelectedObjects() {
        return selected;
    }

    public void clearSelection() {
        selected.clear();
    }
}
