package qupath.lib.gui;

import java.awt.image.BufferedImage;
import javafx.scene.control.Menu;
import javafx.stage.Stage;
import qupath.lib.gui.viewer.QuPathViewer;
import qupath.lib.images.ImageData;

public class QuPathGUI {

    /** Not of QuPath. */
    public static QuPathGUI instance;
    public ImageData<BufferedImage> imageData;
    public QuPathViewer viewer;
    public final Menu extensions = new Menu("Extensions");
    public Stage stage;

    public static QuPathGUI getInstance() {
        return instance;
    }

    public ImageData<BufferedImage> getImageData() {
        return imageData;
    }

    public QuPathViewer getViewer() {
        return viewer;
    }

    public Menu getMenu(String name, boolean createMenu) {
        return extensions;
    }

    public Stage getStage() {
        return stage;
    }
}
