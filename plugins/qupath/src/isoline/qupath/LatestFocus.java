package isoline.qupath;

/**
 * Reports to the server where the user is looking, in the background.
 *
 * Of several changes only the latest is retried. To be used from one thread.
 */
final class LatestFocus {

    private final IsolineClient client;
    private final String job;
    private Cancellation sending = new Cancellation();

    LatestFocus(IsolineClient client, String job) {
        this.client = client;
        this.job = job;
    }

    /** Move the focus to `x`, `y` in image coordinates. */
    void look(double x, double y) {
        stop();
        Cancellation mine = new Cancellation();
        sending = mine;
        Background.run(() -> {
            client.until(mine).focus(job, x, y);
            return null;
        }, client);
    }

    /** Stop sending. */
    void stop() {
        sending.cancel();
    }
}
