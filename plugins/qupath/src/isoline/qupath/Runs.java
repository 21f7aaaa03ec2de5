package isoline.qupath;

import java.util.List;
import java.util.function.Consumer;

/** Runs on several objects, one after another and told of as one. No window. */
public final class Runs {

    private final List<Run> runs;
    private volatile boolean hasEnded;

    /** Prepare `runs`, one at least. */
    public Runs(List<Run> runs) {
        this.runs = runs;
    }

    /** Run all to the end, or to the first that is not done; `listener` hears how far they are. */
    public RunStatus call(Consumer<RunStatus> listener) {
        RunStatus end = callAll(listener);
        hasEnded = true;
        return end;
    }

    /** Return whether there is nothing left to cancel. */
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

    /** Stop the one that runs, and begin none of those that follow. */
    public void cancel() {
        runs.forEach(run -> run.cancel());
    }

    /** Take back what they added and nobody changed; return how many objects that were. */
    public int removeResults() {
        int removed = 0;
        for (Run run : runs) {
            removed += run.removeResults();
        }
        return removed;
    }
}
