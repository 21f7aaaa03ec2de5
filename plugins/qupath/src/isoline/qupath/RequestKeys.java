package isoline.qupath;

/**
 * The keys that this client writes into a request; the user's options may have others.
 *
 * The tests read this file and compare it with the server's schema.
 */
final class RequestKeys {

    static final String IMAGE = "image";
    static final String IMAGE_SIZE = "image_size";
    static final String SPACING_UM = "spacing_um";
    static final String OVERRIDE_SPACING = "override_spacing";
    static final String CHANNEL = "channel";
    static final String Z = "z";
    static final String MODEL = "model";
    static final String PARAMETERS = "parameters";
    static final String REGION = "region";
    static final String PROMPTS = "prompts";
    static final String FOCUS = "focus";
    static final String FORMAT = "format";
    static final String REPLACES = "replaces";

    private RequestKeys() {}
}
