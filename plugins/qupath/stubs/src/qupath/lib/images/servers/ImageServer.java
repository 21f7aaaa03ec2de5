package qupath.lib.images.servers;

import java.io.IOException;
import java.net.URI;
import java.util.Collection;
import qupath.lib.regions.RegionRequest;

public interface ImageServer<T> extends AutoCloseable {

    String getPath();

    Collection<URI> getURIs();

    String getServerType();

    int getWidth();

    int getHeight();

    int nChannels();

    int nZSlices();

    boolean isRGB();

    PixelType getPixelType();

    ImageChannel getChannel(int channel);

    PixelCalibration getPixelCalibration();

    ImageServerMetadata getOriginalMetadata();

    T readRegion(RegionRequest request) throws IOException;
}
