package qupath.lib.io;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonSerializer;
import qupath.lib.objects.PathObject;

public class GsonTools {

    public static Gson getInstance() {
        JsonSerializer<PathObject> asFeature = (object, type, context) -> object.toJson();
        return new GsonBuilder().registerTypeHierarchyAdapter(PathObject.class, asFeature).create();
    }
}
