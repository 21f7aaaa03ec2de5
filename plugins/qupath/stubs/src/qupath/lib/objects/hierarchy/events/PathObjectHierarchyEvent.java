package qupath.lib.objects.hierarchy.events;

public class PathObjectHierarchyEvent {

    public boolean isChanging() {
        return false;
    }
}
