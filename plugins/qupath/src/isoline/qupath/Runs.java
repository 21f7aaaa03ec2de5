package isoline.qupath;

import java.util.List;
import java.util.function.Consumer;

/** Runs on several objects, one after another, reported as one. Has no window. */
public final class Runs {

    private final List<Run> runs;
    private volatile boolean hasEnded;

    /** Prepare `runs`, at least one. */
    public Runs(List<Run> runs) {
        this.runs = runs;
    }

    /** Run all, until one is not done; report the status to `listener` and return the last one. */
    public RunStatus call(Consumer<RunStatus> listener) {
        RunStatus end = callAll(listener);
        hasEnded = true;
        return end;
    }

    /** Return whether all runs have ended. */
    public boolean hasEnded() {
        return hasEnded;
    }

    private RunStatus callAll(Consumer<RunStatus> listener) {
        RunStatus end = runs.get(0).status();
        long objects = 0;
        for (int k = 0; k < runs.size(); k++) {
            String which = runs.size() == 1 ? "" : "Region " + (k + 1) + " of " + runs.size() + ": ";
            long before = objects;
            end = runs.get(k).telling(status -> listener.accept(status.among(which, before))).call();
            objects += end.objects;
            if (!end.state.equals("done")) {
                return end.among(which, before);
            }
        }
        return end.among("", objects - end.objects);
    }

    /** Cancel the current run and all that follow. */
    public void cancel() {
        runs.forEach(run -> run.cancel());
    }

    /** Remove the objects of all runs that the user has not changed; return their number. */
    public int removeResults() {
        int removed = 0;
        for (Run run : runs) {
            removed += run.removeResults();
        }
        return removed;
    }
}
