import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Base64;

/** Java's HttpClient as it comes, which reads https.proxyHost by itself; see fetch.sh. */
public final class Fetch {
    private Fetch() {}

    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        BufferedReader calls = new BufferedReader(new InputStreamReader(System.in));
        for (String line = calls.readLine(); line != null; line = calls.readLine()) {
            String[] call = line.split(" ");
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(call[1]));
            if (call[2].equals("-")) {
                request.method(call[0], BodyPublishers.noBody());
            } else {
                request.method(call[0], BodyPublishers.ofFile(Path.of(call[2])));
                request.header("Content-Type", "application/octet-stream");
            }
            try {
                HttpResponse<byte[]> answer = client.send(request.build(), BodyHandlers.ofByteArray());
                StringBuilder head = new StringBuilder();
                answer.headers().map().forEach((name, values) ->
                        values.forEach(value -> head.append(name).append(": ").append(value).append('\n')));
                System.out.println(answer.statusCode() + "\t" + base64(head.toString().getBytes(StandardCharsets.ISO_8859_1))
                        + "\t" + base64(answer.body()));
            } catch (java.io.IOException failed) {
                System.out.println("ERROR\t" + String.valueOf(failed).replace('\n', ' '));
            }
        }
        System.exit(0);
    }

    private static String base64(byte[] bytes) {
        return Base64.getEncoder().encodeToString(bytes);
    }
}
