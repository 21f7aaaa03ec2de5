package isoline.qupath;

import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.io.IOException;

/** One thing that a job says: a line of its stream. */
final class JobEvent {

    private static final String FEATURES = ",\"features\":[";

    final long seq;
    final String kind;
    /** Everything but the features. */
    final JsonObject said;
    /** A JSON list. It stays text until QuPath reads it: parsed once, not twice. */
    final String features;

    private JobEvent(JsonObject said, String features) {
        this.seq = said.get("seq").getAsLong();
        this.kind = said.get("event").getAsString();
        this.said = said;
        this.features = features;
    }

    /** Return what `line` says. Raises IOException for what is no event. */
    static JobEvent read(String line) throws IOException {
        try {
            int at = line.indexOf(FEATURES); // always the last key
            if (at < 0 || !line.endsWith("]}")) {
                return new JobEvent(JsonParser.parseString(line).getAsJsonObject(), "[]");
            }
            JsonObject head = JsonParser.parseString(line.substring(0, at) + "}").getAsJsonObject();
            return new JobEvent(head, line.substring(at + FEATURES.length() - 1, line.length() - 1));
        } catch (JsonParseException | IllegalStateException | NullPointerException e) {
            throw new IOException("the server sent something that is no event");
        }
    }
}
