package isoline.qupath;

import java.io.IOException;
import java.util.concurrent.CancellationException;

/** Calls of a server in the background; their failures are only logged. */
final class Background {

    private Background() {}

    /** Make `call` in a new thread; a failure is logged, as explained by `client`. */
    static Thread run(Attempts.Attempt<Void> call, IsolineClient client) {
        Thread thread = new Thread(() -> {
            try {
                call.make();
            } catch (IOException e) {
                System.getLogger("isoline").log(System.Logger.Level.DEBUG, client.explain(e));
            } catch (InterruptedException | CancellationException e) {
                Thread.currentThread().interrupt(); // the call is no longer needed
            }
        }, "isoline-call");
        thread.setDaemon(true);
        thread.start();
        return thread;
    }
}
