package isoline.qupath;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;

/** A driver of the client's network code without QuPath, as described in docs/conformance.md. */
public final class Driver {

    private final IsolineClient client;
    private final JsonArray looks;

    private Driver(JsonObject assignment) {
        JsonObject limits = assignment.has("limits") ? assignment.getAsJsonObject("limits") : new JsonObject();
        RetryPolicy protocol = RetryPolicy.ofProtocol();
        RetryPolicy policy = new RetryPolicy(
                limit(limits, "silence_seconds", protocol.silence),
                limit(limits, "request_seconds", protocol.request),
                limit(limits, "stream_seconds", protocol.stream),
                RetryPolicy.machine());
        client = new IsolineClient(assignment.get("url").getAsString(), "").following(policy);
        looks = assignment.has("looks") ? assignment.getAsJsonArray("looks") : new JsonArray();
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 1 || !arguments[0].equals("follow")) {
            System.err.println("usage: Driver follow < ASSIGNMENT; see docs/conformance.md");
            System.exit(2);
        }
        warmUp();
        JsonObject assignment = JsonParser.parseReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))
                .getAsJsonObject();
        Driver driver = new Driver(assignment);
        try {
            driver.follow(driver.client.submit(assignment.getAsJsonObject("request")).get("job").getAsString());
        } catch (IOException e) {
            JsonObject line = new JsonObject();
            line.addProperty("error", driver.client.explain(e));
            print(line);
        }
        System.exit(0); // without waiting for a focus change that is still being retried
    }

    /** Load the classes of the client, which may take a second and must not be measured. */
    private static void warmUp() throws IOException, InterruptedException {
        String problem = "{\"code\":\"Busy\",\"detail\":\"busy\",\"remedy\":\"\"}";
        List<String> answers = List.of("", answer("503 Service Unavailable", problem),
                answer("201 Created", "{\"job\":\"a\"}"), answer("200 OK", "{\"event\":\"done\",\"seq\":0}\n"));
        try (ServerSocket server = new ServerSocket(0, answers.size(), InetAddress.getLoopbackAddress())) {
            Thread thread = new Thread(() -> serve(server, answers));
            thread.setDaemon(true);
            thread.start();
            IsolineClient client = new IsolineClient("http://127.0.0.1:" + server.getLocalPort(), "");
            try (JobStream stream = client.follow(client.submit(new JsonObject()).get("job").getAsString())) {
                while (stream.next() == null) {
                    continue;
                }
            }
        }
    }

    /** Respond to one connection after another and close it; an empty response sends nothing. */
    private static void serve(ServerSocket server, List<String> answers) {
        for (String answer : answers) {
            try (Socket socket = server.accept()) {
                socket.getInputStream().read(new byte[65_536]);
                socket.getOutputStream().write(answer.getBytes(StandardCharsets.UTF_8));
            } catch (IOException e) {
                return; // the client has what it needs
            }
        }
    }

    private static String answer(String status, String body) {
        return "HTTP/1.1 " + status + "\r\nConnection: close\r\nContent-Length: " + body.length() + "\r\n\r\n" + body;
    }

    private void follow(String job) throws IOException, InterruptedException {
        LatestFocus focus = new LatestFocus(client, job);
        try (JobStream stream = client.follow(job)) {
            JobEvent event = null;
            while (event == null || !event.isLast()) {
                event = stream.next();
                if (event != null) {
                    JsonObject line = new JsonObject();
                    line.addProperty("event", event.kind);
                    line.addProperty("seq", event.seq);
                    print(line);
                    look(focus, event.seq);
                }
            }
        }
    }

    private void look(LatestFocus focus, long after) {
        for (JsonElement each : looks) {
            JsonObject look = each.getAsJsonObject();
            if (look.get("after").getAsLong() == after) {
                JsonArray there = look.getAsJsonArray("focus");
                focus.look(there.get(0).getAsDouble(), there.get(1).getAsDouble());
            }
        }
    }

    private static Duration limit(JsonObject limits, String key, Duration otherwise) {
        return limits.has(key) ? Duration.ofMillis(Math.round(limits.get(key).getAsDouble() * 1000)) : otherwise;
    }

    private static void print(JsonObject line) {
        System.out.println(line);
        System.out.flush();
    }
}
