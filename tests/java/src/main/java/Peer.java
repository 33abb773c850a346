// A client of Parlance in Java: what docs/clients.md asks for, and code generated from proto/.
//
// It follows a room from its first event and prints each event that it handles; every line of its
// input is sent to the room. Now and then it drops its stream. It ends when its input does.

import com.google.gson.Gson;
import dev.parlance.message.v1.Cursor;
import dev.parlance.message.v1.Event;
import dev.parlance.message.v1.MessageContent;
import dev.parlance.message.v1.MessageServiceGrpc;
import dev.parlance.message.v1.MessageServiceGrpc.MessageServiceBlockingStub;
import dev.parlance.message.v1.RoomCursor;
import dev.parlance.message.v1.SendMessageRequest;
import dev.parlance.message.v1.StreamServiceGrpc;
import dev.parlance.message.v1.SubscribeRequest;
import dev.parlance.message.v1.SubscribeResponse;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.Iterator;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

public final class Peer {
  private static final long LONG_SILENCE_SECONDS = 60;
  private static final Gson JSON = new Gson();

  private final String room;
  private final Channel channel;
  private final MessageServiceBlockingStub messages;
  private final ScheduledExecutorService watch = Executors.newSingleThreadScheduledExecutor();
  private Cursor cursor = Cursor.getDefaultInstance();

  private Peer(String room, Channel channel) {
    this.room = room;
    this.channel = channel;
    this.messages = MessageServiceGrpc.newBlockingStub(channel);
  }

  private static synchronized void print(Map<String, Object> line) {
    System.out.println(JSON.toJson(line));
    System.out.flush();
  }

  /** Sends a text until it is answered, always with the same request id. */
  private void send(String text) throws InterruptedException {
    SendMessageRequest request =
        SendMessageRequest.newBuilder()
            .setRoomId(room)
            .setContent(MessageContent.newBuilder().setText(text))
            .setRequestId(UUID.randomUUID().toString())
            .build();
    for (Pause pause = new Pause(); ; ) {
      try {
        print(Map.of("sent", messages.sendMessage(request).getSeq(), "text", text));
        return;
      } catch (StatusRuntimeException error) {
        pause.beforeNextTry(Refusal.of(error).askedOrThrow());
      }
    }
  }

  /** Subscribes again and again, each time with the cursor. */
  private void follow() throws InterruptedException {
    for (Pause pause = new Pause(); ; ) {
      long before = cursor.getSeq();
      Duration asked;
      try {
        asked = stream();
      } catch (StatusRuntimeException error) {
        asked = Refusal.of(error).askedOrThrow();
        print(Map.of("ended", error.getStatus().getCode().name()));
      }
      if (cursor.getSeq() > before) {
        pause = new Pause();
      }
      pause.beforeNextTry(asked);
    }
  }

  /**
   * One stream until its end, and how long the server then asks to wait. The cursor stands behind
   * what was handled: where it would be stored, that would happen here.
   */
  private Duration stream() {
    ClientCall<SubscribeRequest, SubscribeResponse> call =
        channel.newCall(StreamServiceGrpc.getSubscribeMethod(), CallOptions.DEFAULT);
    SubscribeRequest request =
        SubscribeRequest.newBuilder()
            .addRooms(RoomCursor.newBuilder().setRoomId(room).setCursor(cursor))
            .build();
    Duration asked = Duration.ZERO;
    int length = ThreadLocalRandom.current().nextInt(10, 30);
    int handled = 0;
    ScheduledFuture<?> silence = endWhenSilent(call);
    try {
      Iterator<SubscribeResponse> frames = ClientCalls.blockingServerStreamingCall(call, request);
      while (frames.hasNext()) {
        SubscribeResponse frame = frames.next();
        silence.cancel(false);
        silence = endWhenSilent(call);
        switch (frame.getFrameCase()) {
          case ATTACHED -> {
            moveTo(frame.getAttached().getEpoch(), frame.getAttached().getResumeFrom());
            print(Map.of("stream", server(call), "length", length));
          }
          case EVENT -> {
            if (handle(frame.getEvent().getEvent()) && ++handled == length) {
              print(Map.of("dropped", cursor.getSeq()));
              return Duration.ZERO;
            }
          }
          case SKIPPED -> moveTo(cursor.getEpoch(), frame.getSkipped().getToSeq());
          case RESET -> {
            print(Map.of("reset", frame.getReset().getKeepThrough()));
            moveTo(frame.getReset().getEpoch(), frame.getReset().getResumeFrom());
          }
          case CLOSED ->
              throw Status.NOT_FOUND.withDescription("the room is closed to us").asRuntimeException();
          case GO_AWAY -> asked = Refusal.duration(frame.getGoAway().getAfter());
          default -> {}
        }
      }
      return asked;
    } finally {
      silence.cancel(false);
      call.cancel("no longer read", null);
    }
  }

  private ScheduledFuture<?> endWhenSilent(ClientCall<?, ?> call) {
    Runnable end = () -> call.cancel("silent for too long", null);
    return watch.schedule(end, LONG_SILENCE_SECONDS, TimeUnit.SECONDS);
  }

  /** Sets the position; the time of the event there, where it is known, goes with it. */
  private void moveTo(String epoch, long seq) {
    Cursor.Builder moved = cursor.toBuilder().setEpoch(epoch);
    if (moved.getSeq() != seq) {
      moved.setSeq(seq).clearTime();
    }
    cursor = moved.build();
  }

  /** Handles an event, unless it was handled before. */
  private boolean handle(Event event) {
    if (event.getSeq() <= cursor.getSeq()) {
      return false;
    }
    String text = event.getMessageSent().getContent().getText();
    print(Map.of("seq", event.getSeq(), "actor", event.getActorId(), "text", text));
    cursor = cursor.toBuilder().setSeq(event.getSeq()).setTime(event.getTime()).build();
    return true;
  }

  private static String server(ClientCall<?, ?> call) {
    SocketAddress remote = call.getAttributes().get(Grpc.TRANSPORT_ATTR_REMOTE_ADDR);
    return remote instanceof InetSocketAddress address
        ? address.getHostString() + ":" + address.getPort()
        : String.valueOf(remote);
  }

  public static void main(String[] arguments) throws IOException, InterruptedException {
    Map<String, String> options = new HashMap<>();
    for (int at = 0; at + 1 < arguments.length; at += 2) {
      options.put(arguments[at], arguments[at + 1]);
    }
    Metadata headers = new Metadata();
    headers.put(
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER),
        "Bearer " + options.get("--token"));
    Channel channel =
        Replicas.connect(options.get("--addresses"), options.get("--service-config"));
    channel = ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(headers));
    Peer peer = new Peer(options.get("--room"), channel);
    Thread following = new Thread(peer::followOrExit);
    following.setDaemon(true);
    following.start();
    InputStreamReader input = new InputStreamReader(System.in, StandardCharsets.UTF_8);
    try (BufferedReader lines = new BufferedReader(input)) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        peer.send(line);
      }
    }
    System.exit(0);
  }

  private void followOrExit() {
    try {
      follow();
    } catch (RuntimeException | InterruptedException error) {
      error.printStackTrace();
      System.exit(1);
    }
  }
}
