package isoline.qupath;

import java.net.http.HttpRequest;
import java.nio.ByteBuffer;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;

/**
 * The body of one attempt, which detects when the attempt begins and prevents a second one.
 *
 * Java by itself repeats a GET at once if the server closes the connection without a response, but
 * this client has to count the attempts.
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
            throw new IllegalStateException("the server closed the connection without a response");
        }
        return body.contentLength();
    }

    @Override
    public void subscribe(Flow.Subscriber<? super ByteBuffer> subscriber) {
        body.subscribe(subscriber);
    }
}
