package qupath.lib.scripting;

import java.awt.image.BufferedImage;
import qupath.lib.images.ImageData;

public class QP {

    /** Not of QuPath. */
    public static ImageData<BufferedImage> current;

    public static ImageData<BufferedImage> getCurrentImageData() {
        return current;
    }
}
