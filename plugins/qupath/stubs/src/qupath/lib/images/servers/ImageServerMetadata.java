package qupath.lib.images.servers;

public class ImageServerMetadata {

    private final PixelCalibration calibration;

    public ImageServerMetadata(PixelCalibration calibration) {
        this.calibration = calibration;
    }

    public PixelCalibration getPixelCalibration() {
        return calibration;
    }
}
