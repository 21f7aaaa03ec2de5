package isoline.qupath;

import java.io.IOException;

/** Follows what a job says; a connection that breaks is taken up where it broke off. */
final class JobStream implements AutoCloseable {

    private static final long SILENCE_S = 15;
    private static final long LONGEST_WAIT_MS = 4000;
    private static final int RETRIES = 12; // half a minute in all: a server that starts again

    private final IsolineClient client;
    private final String job;
    private LineReader lines;
    /** The number of the last event. */
    private long after = -1;
    private int failures;
    private String reason = "";
    private long heard;

    JobStream(IsolineClient client, String job) {
        this.client = client;
        this.job = job;
    }

    /** Return whether the connection has broken and was not made again yet. */
    boolean isBroken() {
        return lines == null && failures > 0;
    }

    /** Return whether it has broken so often that there is no sense in going on. */
    boolean isLost() {
        return failures > RETRIES;
    }

    /** Return why the connection broke last, in words. */
    String getReason() {
        return reason;
    }

    /**
     * Return the next event; null where a second passes without one, and when the connection breaks.
     *
     * Raises IsolineClient.Refused where the server does not let this job be followed.
     */
    JobEvent next() throws IOException, InterruptedException {
        try {
            if (lines == null) {
                connect();
            }
            return nextOf(lines);
        } catch (IsolineClient.Refused e) {
            if (e.status != 429 && e.status < 502) {
                throw e;
            }
            broke(e.getMessage());
        } catch (IOException e) {
            broke(client.explain(e));
        }
        return null;
    }

    @Override
    public void close() throws IOException {
        if (lines != null) {
            lines.close();
            lines = null;
        }
    }

    private void connect() throws IOException, InterruptedException {
        if (failures > 0) {
            Thread.sleep(Math.min(LONGEST_WAIT_MS, 100L << failures));
        }
        lines = new LineReader(client.events(job, after));
        heard = System.nanoTime();
    }

    private JobEvent nextOf(LineReader lines) throws IOException, InterruptedException {
        String line = lines.next();
        if (line == null) {
            if (System.nanoTime() - heard > SILENCE_S * 1_000_000_000L) {
                throw new IOException("nothing was heard of the server");
            }
            return null;
        }
        heard = System.nanoTime();
        if (line.equals(LineReader.END)) {
            throw new IOException("the server closed the stream");
        }
        JobEvent event = line.isEmpty() ? null : JobEvent.read(line); // a heartbeat is empty
        if (event == null || event.seq <= after) {
            return null;
        }
        after = event.seq;
        failures = 0;
        return event;
    }

    private void broke(String why) throws IOException {
        reason = why;
        failures += 1;
        close();
    }
}
