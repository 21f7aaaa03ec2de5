package qupath.lib.images.servers;

public enum PixelType {
    UINT8,
    UINT16,
    FLOAT32
}
