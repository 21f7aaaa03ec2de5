package isoline.qupath;

/**
 * When the hierarchy may change again.
 *
 * Each change makes QuPath draw everything anew: at most once a second, more seldom the more
 * objects there are and the longer the last change took.
 */
final class Pace {

    private static final long SECOND = 1_000_000_000L;
    private static final long LONGEST_PAUSE = 20 * SECOND;
    private static final long PAUSE_PER_OBJECT = 10_000L;
    private static final int MOST_PENDING = 100_000;

    private long ended;
    private long pause;

    /** Return whether `pending` objects, one at least, are to be shown now. */
    boolean isDue(int pending) {
        long least = pending >= MOST_PENDING ? SECOND : pause;
        return ended == 0 || System.nanoTime() - ended >= least;
    }

    /** Note a change that `began` then, System.nanoTime(), after which there are `objects`. */
    void changed(long began, int objects) {
        ended = System.nanoTime();
        pause = Math.min(SECOND + objects * PAUSE_PER_OBJECT + 4 * (ended - began), LONGEST_PAUSE);
    }
}
