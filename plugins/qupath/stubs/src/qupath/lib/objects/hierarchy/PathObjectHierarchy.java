package qupath.lib.objects.hierarchy;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import qupath.lib.objects.Feature;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.hierarchy.events.PathObjectHierarchyEvent;
import qupath.lib.objects.hierarchy.events.PathObjectHierarchyListener;
import qupath.lib.objects.hierarchy.events.PathObjectSelectionModel;

public final class PathObjectHierarchy {

    private final PathObject root = new PathObject() { };
    private final PathObjectSelectionModel selection = new PathObjectSelectionModel();
    private final List<PathObjectHierarchyListener> listeners = new CopyOnWriteArrayList<>();
    /** Not of QuPath: when it was told of changes. */
    public final List<Long> events = new ArrayList<>();

    public PathObject getRootObject() {
        return root;
    }

    public PathObjectSelectionModel getSelectionModel() {
        return selection;
    }

    public Collection<PathObject> getAnnotationObjects() {
        return root.getChildObjects().stream()
                .filter(object -> object instanceof Feature feature && feature.type.equals("annotation")).toList();
    }

    public void removeObjects(Collection<? extends PathObject> objects, boolean keepChildren) {
        root.removeChildObjects(new ArrayList<>(objects));
        fireHierarchyChangedEvent(this, root);
    }

    public void addListener(PathObjectHierarchyListener listener) {
        listeners.add(listener);
    }

    public void removeListener(PathObjectHierarchyListener listener) {
        listeners.remove(listener);
    }

    public void fireHierarchyChangedEvent(Object source, PathObject parent) {
        events.add(System.nanoTime());
        listeners.forEach(listener -> listener.hierarchyChanged(new PathObjectHierarchyEvent()));
    }
}
