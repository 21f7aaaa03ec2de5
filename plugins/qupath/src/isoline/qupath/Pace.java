package isoline.qupath;

/**
 * Limits how often the hierarchy changes.
 *
 * Each change makes QuPath redraw everything. There is at most one per second, and fewer the more
 * objects there are and the longer the last change took.
 */
final class Pace {

    private static final long SECOND = 1_000_000_000L;
    private static final long LONGEST_PAUSE = 20 * SECOND;
    private static final long PAUSE_PER_OBJECT = 10_000L;
    private static final int MOST_PENDING = 100_000;

    private long ended;
    private long pause;

    /** Return whether `pending` objects, at least one, should be shown now. */
    boolean isDue(int pending) {
        long least = pending >= MOST_PENDING ? SECOND : pause;
        return ended == 0 || System.nanoTime() - ended >= least;
    }

    /** Record a change that `began` at this System.nanoTime() and after which there are `objects`. */
    void changed(long began, int objects) {
        ended = System.nanoTime();
        pause = Math.min(SECOND + objects * PAUSE_PER_OBJECT + 4 * (ended - began), LONGEST_PAUSE);
    }
}
