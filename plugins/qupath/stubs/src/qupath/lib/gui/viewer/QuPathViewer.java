package qupath.lib.gui.viewer;

public class QuPathViewer {

    /** Not of QuPath. */
    public volatile double x;
    public volatile double y;

    public double getCenterPixelX() {
        return x;
    }

    public double getCenterPixelY() {
        return y;
    }
}
