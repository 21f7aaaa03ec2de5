package qupath.lib.objects.classes;

public final class PathClass {

    private final String name;

    private PathClass(String name) {
        this.name = name;
    }

    public static PathClass fromString(String name) {
        return new PathClass(name);
    }

    @Override
    public String toString() {
        return name;
    }
}
