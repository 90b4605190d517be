import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightInfo;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.Location;
import org.apache.arrow.memory.RootAllocator;

/**
 * Reads what sheaf-gateway has of a topic.
 *
 * <p>Needs org.apache.arrow:flight-core and org.apache.arrow:arrow-memory-netty, and
 * --add-opens=java.base/java.nio=ALL-UNNAMED for the JVM.
 */
public final class ReadTopic {
  public static void main(String[] arguments) throws Exception {
    String topic = arguments[0];
    Location server = Location.forGrpcInsecure("localhost", 8080);
    try (RootAllocator allocator = new RootAllocator();
        FlightClient client = FlightClient.builder(allocator, server).build()) {
      // One ticket for the whole topic. "topics/logs?from=1200&follow=true" is one too.
      FlightInfo info = client.getInfo(FlightDescriptor.path(topic));
      try (FlightStream stream = client.getStream(info.getEndpoints().get(0).getTicket())) {
        while (stream.next()) {
          System.out.print(stream.getRoot().contentToTSVString());
        }
      }
    }
  }
}
