package isoline.qupath;

import java.io.IOException;
import java.util.concurrent.CancellationException;

/** Calls of a server whose failure changes nothing, off the thread that wants them. */
final class Background {

    private Background() {}

    /** Make `call` in a thread of its own; what `client` says of a failure goes into the log. */
    static Thread run(Attempts.Attempt<Void> call, IsolineClient client) {
        Thread thread = new Thread(() -> {
            try {
                call.make();
            } catch (IOException e) {
                System.getLogger("isoline").log(System.Logger.Level.DEBUG, client.explain(e));
            } catch (InterruptedException | CancellationException e) {
                Thread.currentThread().interrupt(); // nobody wants it any more
            }
        }, "isoline-call");
        thread.setDaemon(true);
        thread.start();
        return thread;
    }
}
