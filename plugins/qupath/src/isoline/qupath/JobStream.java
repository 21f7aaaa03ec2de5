package isoline.qupath;

import java.io.IOException;

/** The events of a job, each once, in order; a broken stream is resumed after the last event. */
final class JobStream implements AutoCloseable {

    /** Opens the events after a number. */
    interface Source {
        LineReader open(long after) throws IOException, InterruptedException;
    }

    private final String job;
    private final Source source;
    private final Attempts attempts;
    private LineReader lines;
    /** The number of the last event that was read completely. */
    private long after = -1;
    /** Why the connection broke; null once the next attempt begins. */
    private IOException broken;

    JobStream(String job, Source source, Attempts attempts) {
        this.job = job;
        this.source = source;
        this.attempts = attempts;
    }

    /** Return the id of the job. */
    String getJob() {
        return job;
    }

    /** Return whether the connection has broken, so that the next call of `next` begins with a pause. */
    boolean isBroken() {
        return broken != null;
    }

    /**
     * Return the next event; null if a second passes without one or the connection breaks.
     *
     * Throws Refused if the server refuses the request, Attempts.GaveUp if the connection cannot be
     * restored, and a CancellationException if the user cancels during a pause.
     */
    JobEvent next() throws IOException, InterruptedException {
        if (broken != null) {
            IOException failure = broken;
            broken = null;
            attempts.pause(failure);
        }
        try {
            if (lines == null) {
                lines = source.open(after);
            }
            return read(lines.next());
        } catch (IOException e) {
            broken = e;
            close();
            return null;
        }
    }

    @Override
    public void close() {
        if (lines != null) {
            lines.close();
            lines = null;
        }
    }

    private JobEvent read(String line) throws IOException {
        if (line == null) {
            return null;
        }
        JobEvent event = line.isEmpty() ? null : JobEvent.read(line); // a heartbeat is empty
        attempts.alive();
        if (event == null || event.seq <= after) {
            return null;
        }
        after = event.seq;
        return event;
    }
}
