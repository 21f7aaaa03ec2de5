package isoline.qupath;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;

/** A driver of the client (docs/conformance.md): its network code here, the rest in `Replay`. */
public final class Driver {

    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

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
        String token = assignment.has("token") ? assignment.get("token").getAsString() : "";
        client = new IsolineClient(assignment.get("url").getAsString(), token).following(policy);
        looks = assignment.has("looks") ? assignment.getAsJsonArray("looks") : new JsonArray();
    }

    public static void main(String[] arguments) throws Exception {
        switch (arguments.length == 1 ? arguments[0] : "") {
            case "capabilities":
                print(capabilities());
                break;
            case "request":
                print(Replay.request(read().getAsJsonObject()));
                break;
            case "events":
                print(Replay.shown(System.in.readAllBytes()));
                break;
            case "follow":
                warmUp();
                JsonObject assignment = read().getAsJsonObject();
                new Driver(assignment).run(assignment.getAsJsonObject("request"));
                break;
            default:
                System.err.println("usage: Driver MODE; see docs/conformance.md");
                System.exit(2);
        }
        System.exit(0); // without waiting for requests that are still being retried
    }

    private static JsonArray capabilities() {
        JsonArray capabilities = new JsonArray();
        List.of("regions", "spacing", "contours", "prompts", "follow").forEach(each -> capabilities.add(each));
        return capabilities;
    }

    private static JsonElement read() throws IOException {
        return JsonParser.parseString(new String(System.in.readAllBytes(), StandardCharsets.UTF_8));
    }

    private void run(JsonObject request) throws InterruptedException {
        try {
            follow(client.submit(request).get("job").getAsString());
        } catch (IOException e) {
            JsonObject line = new JsonObject();
            line.addProperty("error", client.explain(e));
            print(line);
        }
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

    private static void print(JsonElement value) {
        OUT.println(value);
        OUT.flush();
    }
}
