import java.net.InetAddress;
import java.net.UnknownHostException;

/** Java as a client: InetAddress, which asks the C library and caches on its own. */
public final class Lookup {
    private Lookup() {}

    public static void main(String[] names) {
        for (String name : names) {
            StringBuilder line = new StringBuilder(name);
            try {
                for (InetAddress address : InetAddress.getAllByName(name)) {
                    line.append(' ').append(address.getHostAddress());
                }
            } catch (UnknownHostException unknown) {
                String reason = unknown.getMessage();
                line.append(reason.endsWith("Name or service not known") ? " NONAME" : " AGAIN " + reason);
            }
            System.out.println(line);
        }
    }
}
