package qupath.lib.images.servers;

public class ImageChannel {

    private final String name;

    public ImageChannel(String name) {
        this.name = name;
    }

    public String getName() {
        return name;
    }
}
