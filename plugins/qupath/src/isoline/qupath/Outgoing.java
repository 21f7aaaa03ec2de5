package isoline.qupath;

import java.net.http.HttpRequest;
import java.nio.ByteBuffer;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;

/**
 * The body of one attempt, which knows when that begins and that there is only one.
 *
 * Java repeats a GET by itself, at once, where the server closes the connection without an answer;
 * the attempts are this client's to count.
 */
final class Outgoing implements HttpRequest.BodyPublisher {

    /** Completed when there is a connection and the request is about to be sent. */
    final CompletableFuture<Void> begun = new CompletableFuture<>();
    private final HttpRequest.BodyPublisher body;

    Outgoing(byte[] bytes) {
        this.body = HttpRequest.BodyPublishers.ofByteArray(bytes);
    }

    @Override
    public long contentLength() {
        if (!begun.complete(null)) {
            throw new IllegalStateException("the server closed the connection without an answer");
        }
        return body.contentLength();
    }

    @Override
    public void subscribe(Flow.Subscriber<? super ByteBuffer> subscriber) {
        body.subscribe(subscriber);
    }
}
