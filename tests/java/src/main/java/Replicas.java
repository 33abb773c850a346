import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import io.grpc.EquivalentAddressGroup;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.NameResolverRegistry;
import io.grpc.StatusOr;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** The name `parlance:` stands for all replicas, whose addresses are known from the start. */
final class Replicas extends NameResolverProvider {
  private final List<EquivalentAddressGroup> replicas;

  private Replicas(String addresses) {
    replicas = Arrays.stream(addresses.split(",")).map(Replicas::replica).toList();
  }

  /** Opens one channel to all replicas, with the service config of the installation. */
  static ManagedChannel connect(String addresses, String serviceConfig) throws IOException {
    NameResolverRegistry.getDefaultRegistry().register(new Replicas(addresses));
    // grpc-java wants JSON as maps, whose numbers are doubles: what Gson makes of it.
    Map<String, ?> config =
        new Gson().fromJson(Files.readString(Path.of(serviceConfig)), new TypeToken<>() {});
    return Grpc.newChannelBuilder("parlance:///parlance", InsecureChannelCredentials.create())
        .defaultServiceConfig(config)
        .keepAliveTime(30, TimeUnit.SECONDS)
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .keepAliveWithoutCalls(true)
        .build();
  }

  private static EquivalentAddressGroup replica(String address) {
    int colon = address.lastIndexOf(':');
    int port = Integer.parseInt(address.substring(colon + 1));
    return new EquivalentAddressGroup(new InetSocketAddress(address.substring(0, colon), port));
  }

  @Override
  public NameResolver newNameResolver(URI target, NameResolver.Args arguments) {
    return new NameResolver() {
      @Override
      public String getServiceAuthority() {
        return "parlance";
      }

      @Override
      public void start(Listener2 listener) {
        listener.onResult2(
            ResolutionResult.newBuilder().setAddressesOrError(StatusOr.fromValue(replicas)).build());
      }

      @Override
      public void shutdown() {}
    };
  }

  @Override
  public String getDefaultScheme() {
    return "parlance";
  }

  @Override
  protected boolean isAvailable() {
    return true;
  }

  @Override
  protected int priority() {
    return 5;
  }
}
