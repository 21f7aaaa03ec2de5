package isoline.qupath;

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CancellationException;

/**
 * Plays attempts that fail as specified, with a clock that advances only during pauses.
 *
 * Reads a JSON list of scenes from its only argument and prints the events of each.
 */
public final class Retrying {

    /** A clock that advances only in `sleep` and `work`, and a given random number. */
    private static final class Stage implements RetryPolicy.Surroundings {

        private final List<Double> pauses = new ArrayList<>();
        private final double chance;
        private final int cancelsIn;
        private long nanos;

        Stage(double chance, int cancelsIn) {
            this.chance = chance;
            this.cancelsIn = cancelsIn;
        }

        @Override
        public long nanoTime() {
            return nanos;
        }

        @Override
        public Instant now() {
            return Instant.parse("2026-03-01T12:00:00Z").plusNanos(nanos);
        }

        @Override
        public double random() {
            return chance;
        }

        @Override
        public void sleep(Duration pause, Cancellation stop) {
            pauses.add(pause.toNanos() / 1e9);
            if (pauses.size() == cancelsIn) {
                stop.cancel();
                stop.check();
            }
            work(pause.toNanos() / 1e9);
        }

        void work(double seconds) {
            nanos += Math.round(seconds * 1e9);
        }
    }

    public static void main(String[] arguments) throws Exception {
        List<Object> said = new ArrayList<>();
        for (JsonElement scene : JsonParser.parseString(arguments[0]).getAsJsonArray()) {
            said.add(played(scene.getAsJsonObject()));
        }
        said.add(Map.of("cancelled_after_ms", waking(false), "interrupted_after_ms", waking(true)));
        System.out.println(new Gson().toJson(said));
        System.exit(0);
    }

    private static Map<String, Object> played(JsonObject scene) throws InterruptedException {
        Stage stage = new Stage(number(scene, "chance", 0.5), (int) number(scene, "cancels_in", 0));
        RetryPolicy protocol = RetryPolicy.ofProtocol();
        RetryPolicy policy = new RetryPolicy(protocol.silence, protocol.request, protocol.stream, stage);
        List<String> heard = new ArrayList<>();
        Attempts attempts = new Attempts(policy, scene.has("stream") ? policy.stream : policy.request,
                new Cancellation(), new Attempts.Listener() {
            @Override
            public void lost(IOException failure, Duration pause, Duration left) {
                heard.add(failure.getMessage() + ", " + left.toMillis() + " ms left");
            }

            @Override
            public void back() {
                heard.add("back");
            }
        });
        Map<String, Object> said = new TreeMap<>();
        said.put("end", play(scene, stage, policy, attempts));
        said.put("pauses", stage.pauses);
        said.put("heard", heard);
        return said;
    }

    private static String play(JsonObject scene, Stage stage, RetryPolicy policy, Attempts attempts)
            throws InterruptedException {
        List<JsonElement> steps = new ArrayList<>();
        scene.getAsJsonArray("steps").forEach(step -> steps.add(step));
        try {
            return attempts.run(() -> {
                while (!steps.isEmpty()) {
                    JsonObject step = steps.remove(0).getAsJsonObject();
                    stage.work(number(step, "seconds", 0));
                    if (step.has("alive")) {
                        attempts.alive();
                    } else {
                        throw failure(step, policy);
                    }
                }
                return "answered";
            });
        } catch (Attempts.GaveUp e) {
            return "gave up: " + e.getMessage();
        } catch (IOException e) {
            return "final: " + e.getMessage();
        } catch (CancellationException e) {
            return "cancelled";
        }
    }

    private static IOException failure(JsonObject step, RetryPolicy policy) {
        if (!step.has("status")) {
            return new IOException("no answer");
        }
        int status = step.get("status").getAsInt();
        Duration retryAfter = policy.retryAfter(step.has("retry_after") ? step.get("retry_after").getAsString() : "");
        return new Refused(status, "Code", "status " + status, retryAfter);
    }

    /** Return how many milliseconds a real pause of a minute continues after it is cancelled or interrupted. */
    private static long waking(boolean isInterrupted) throws InterruptedException {
        Cancellation stop = new Cancellation();
        Thread sleeper = new Thread(() -> {
            try {
                RetryPolicy.machine().sleep(Duration.ofMinutes(1), stop);
            } catch (InterruptedException | CancellationException e) {
                Thread.currentThread().interrupt();
            }
        });
        sleeper.start();
        Thread.sleep(100);
        long began = System.nanoTime();
        if (isInterrupted) {
            sleeper.interrupt();
        } else {
            stop.cancel();
        }
        sleeper.join(30_000);
        return (System.nanoTime() - began) / 1_000_000;
    }

    private static double number(JsonObject from, String key, double otherwise) {
        return from.has(key) ? from.get(key).getAsDouble() : otherwise;
    }
}
