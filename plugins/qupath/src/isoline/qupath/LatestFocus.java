package isoline.qupath;

/**
 * Tells the server where the user looks, without keeping anyone waiting.
 *
 * Of several changes only the latest is tried again. Used from one thread.
 */
final class LatestFocus {

    private final IsolineClient client;
    private final String job;
    private Cancellation sending = new Cancellation();

    LatestFocus(IsolineClient client, String job) {
        this.client = client;
        this.job = job;
    }

    /** Look at `x`, `y` in image coordinates from now on. */
    void look(double x, double y) {
        stop();
        Cancellation mine = new Cancellation();
        sending = mine;
        Background.run(() -> {
            client.until(mine).focus(job, x, y);
            return null;
        }, client);
    }

    /** Give up telling it. */
    void stop() {
        sending.cancel();
    }
}
