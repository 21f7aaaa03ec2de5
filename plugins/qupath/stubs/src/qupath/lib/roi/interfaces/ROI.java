package qupath.lib.roi.interfaces;

import java.util.List;
import qupath.lib.geom.Point2;

public interface ROI {

    List<Point2> getAllPoints();

    boolean isArea();

    boolean isPoint();

    int getZ();

    int getT();
}
