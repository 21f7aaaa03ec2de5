package qupath.lib.objects.hierarchy;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.hierarchy.events.PathObjectSelectionModel;

public final class PathObjectHierarchy {

    private final PathObject root = new PathObject() { };
    private final PathObjectSelectionModel selection = new PathObjectSelectionModel();
    /** Not of QuPath: how often it was told of a change, and when. */
    public final List<Long> events = new ArrayList<>();

    public PathObject getRootObject() {
        return root;
    }

    public PathObjectSelectionModel getSelectionModel() {
        return selection;
    }

    public Collection<PathObject> getAnnotationObjects() {
        return root.getChildObjects().stream().filter(object -> object.getROI().isArea()).toList();
    }

    public void fireHierarchyChangedEvent(Object source, PathObject parent) {
        events.add(System.nanoTime());
    }
}
