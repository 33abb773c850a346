import com.google.protobuf.Any;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.EnumSet;
import java.util.Set;

/** How a stream or a call ended, whether to go on, and how long the server asks to wait. */
record Refusal(StatusRuntimeException error, boolean again, Duration asked) {
  private static final Set<Code> AGAIN =
      EnumSet.of(Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED);
  private static final Set<Code> BROKEN =
      EnumSet.of(Code.UNKNOWN, Code.INTERNAL, Code.CANCELLED);

  /** With a token that is renewed, UNAUTHENTICATED would be among those to go on after. */
  static Refusal of(StatusRuntimeException error) {
    boolean answered = false;
    Duration asked = Duration.ZERO;
    try {
      com.google.rpc.Status status = StatusProto.fromThrowable(error);
      for (Any detail : status == null ? Set.<Any>of() : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          answered = true;
        } else if (detail.is(RetryInfo.class)) {
          asked = duration(detail.unpack(RetryInfo.class).getRetryDelay());
        }
      }
    } catch (com.google.protobuf.InvalidProtocolBufferException unreadable) {
      error.addSuppressed(unreadable);
    }
    Code code = error.getStatus().getCode();
    return new Refusal(error, AGAIN.contains(code) || BROKEN.contains(code) && !answered, asked);
  }

  /** How long to wait at least; throws where the same answer would come again. */
  Duration askedOrThrow() {
    if (!again) {
      throw error;
    }
    return asked;
  }

  static Duration duration(com.google.protobuf.Duration duration) {
    return Duration.ofSeconds(duration.getSeconds(), duration.getNanos());
  }
}
