package isoline.qupath;

/** How far a run is, or how it ended. */
public final class RunStatus {

    /** One of "starting", "running", "done", "failed", "cancelled", "lost". */
    public final String state;
    /** In words, for the user. */
    public final String message;
    /** What it waits for and how long, in words; empty where it does not wait. */
    public final String waiting;
    public final long objects;
    public final long tilesDone;
    public final long tiles;
    /** Seconds; negative where that is not known. */
    public final double secondsLeft;
    /** Features that QuPath could not read. */
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

    /** Return this as that of one run among others, which have found `before` objects so far. */
    RunStatus among(String which, long before) {
        return new RunStatus(state, which + message, waiting.isEmpty() ? "" : which + waiting, before + objects,
                tilesDone, tiles, secondsLeft, refused);
    }
}
