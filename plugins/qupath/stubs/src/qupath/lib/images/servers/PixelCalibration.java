package qupath.lib.images.servers;

public class PixelCalibration {

    private final double width;
    private final double height;

    public PixelCalibration(double width, double height) {
        this.width = width;
        this.height = height;
    }

    public boolean hasPixelSizeMicrons() {
        return width > 0;
    }

    public double getPixelWidthMicrons() {
        return width;
    }

    public double getPixelHeightMicrons() {
        return height;
    }
}
