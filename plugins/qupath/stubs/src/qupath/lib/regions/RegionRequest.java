package qupath.lib.regions;

public class RegionRequest {

    /** Not of QuPath: downsample, x, y, width, height, z, t. */
    public final double[] values;

    private RegionRequest(double... values) {
        this.values = values;
    }

    public static RegionRequest createInstance(String path, double downsample, int x, int y,
            int width, int height, int z, int t) {
        return new RegionRequest(downsample, x, y, width, height, z, t);
    }
}
