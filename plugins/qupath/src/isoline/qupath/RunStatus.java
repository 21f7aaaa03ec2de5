package isoline.qupath;

/** The progress of a run, or how it ended. */
public final class RunStatus {

    /** One of "starting", "running", "done", "failed", "cancelled", "lost". */
    public final String state;
    /** A message for the user. */
    public final String message;
    /** A message about what it waits for and how long; empty if it is not waiting. */
    public final String waiting;
    public final long objects;
    public final long tilesDone;
    public final long tiles;
    /** The estimated remaining time; negative if unknown. */
    public final double secondsLeft;
    /** The number of features that QuPath could not read. */
    public final long refused;

    RunStatus(String state, String message, String waiting, long objects, long tilesDone, long tiles,
            double secondsLeft, long refused) {
        this.state = state;
        this.message = message;
        this.waiting = waiting;
        this.objects = objects;
        this.tilesDone = tilesDone;
        this.tiles = tiles;
        this.secondsLeft = secondsLeft;
        this.refused = refused;
    }

    /** Return the status of this run among several, of which the earlier ones have `before` objects. */
    RunStatus among(String which, long before) {
        return new RunStatus(state, which + message, waiting.isEmpty() ? "" : which + waiting, before + objects,
                tilesDone, tiles, secondsLeft, refused);
    }
}
