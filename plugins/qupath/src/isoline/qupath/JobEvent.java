package isoline.qupath;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.util.Set;

/** One event of a job: a line of its stream. */
final class JobEvent {

    private static final String FEATURES = ",\"features\":[";
    private static final Set<String> LAST = Set.of("done", "failed", "cancelled");

    public final long seq;
    public final String kind;
    /** The event without its features. */
    final JsonObject said;
    /** A JSON list, kept as text until QuPath parses it, so that it is parsed only once. */
    final String features;

    private JobEvent(JsonObject said, String features) {
        this.seq = said.get("seq").getAsLong();
        this.kind = said.get("event").getAsString();
        this.said = said;
        this.features = features;
    }

    /** Return whether this is the last event of a job. */
    boolean isLast() {
        return LAST.contains(kind);
    }

    /** Return the event in `line`. Throws IOException if it is not one. */
    static JobEvent read(String line) throws IOException {
        try {
            int at = line.indexOf(FEATURES); // always the last key
            if (at < 0 || !line.endsWith("]}")) {
                return new JobEvent(JsonParser.parseString(line).getAsJsonObject(), "[]");
            }
            JsonObject head = JsonParser.parseString(line.substring(0, at) + "}").getAsJsonObject();
            return new JobEvent(head, line.substring(at + FEATURES.length() - 1, line.length() - 1));
        } catch (RuntimeException e) { // Gson throws various subclasses
            throw new IOException("a line of the stream is not an event");
        }
    }
}
