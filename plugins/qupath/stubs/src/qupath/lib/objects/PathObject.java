package qupath.lib.objects;

import com.google.gson.JsonObject;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.roi.interfaces.ROI;

/** An object in memory, as far as the plugin can see one. */
public abstract class PathObject {

    private UUID id = UUID.randomUUID();
    private ROI roi;
    private PathClass pathClass;
    private String name;
    private boolean isLocked;
    private PathObject parent;
    private Map<String, String> metadata;
    private List<PathObject> children;

    public UUID getID() {
        return id;
    }

    public void setID(UUID id) {
        this.id = id;
    }

    public ROI getROI() {
        return roi;
    }

    public void setROI(ROI roi) {
        this.roi = roi;
    }

    public PathClass getPathClass() {
        return pathClass;
    }

    public void setPathClass(PathClass pathClass) {
        this.pathClass = pathClass;
    }

    public String getName() {
        return name;
    }

    public void setName(String name) {
        this.name = name;
    }

    public boolean isLocked() {
        return isLocked;
    }

    public void setLocked(boolean locked) {
        this.isLocked = locked;
    }

    public PathObject getParent() {
        return parent;
    }

    public Map<String, String> getMetadata() {
        if (metadata == null) {
            metadata = new LinkedHashMap<>();
        }
        return metadata;
    }

    public boolean hasChildObjects() {
        return children != null && !children.isEmpty();
    }

    public Collection<PathObject> getChildObjects() {
        return children == null ? List.of() : new ArrayList<>(children);
    }

    public void addChildObjects(Collection<? extends PathObject> objects) {
        if (children == null) {
            children = new ArrayList<>();
        }
        for (PathObject object : objects) {
            if (object.parent != null) {
                throw new IllegalStateException(object.id + " has a parent already");
            }
            object.parent = this;
        }
        children.addAll(objects);
    }

    public void removeChildObjects(Collection<PathObject> objects) {
        for (PathObject object : objects) {
            object.parent = null;
        }
        if (children != null) {
            children.removeAll(new HashSet<>(objects));
        }
    }

    /** Not of QuPath: what `GsonTools` writes of this object. */
    public JsonObject toJson() {
        return new JsonObject();
    }
}
