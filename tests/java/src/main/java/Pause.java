import java.util.concurrent.ThreadLocalRandom;

/** Pauses between tries: from 100 ms on, doubled up to 10 s, with jitter. */
final class Pause {
  private static final long LONGEST_MS = 10_000;

  private long milliseconds = 100;

  /** Lets the next pause pass, or what the server asked for if that is longer. */
  void beforeNextTry(java.time.Duration asked) throws InterruptedException {
    long jittered = ThreadLocalRandom.current().nextLong(milliseconds / 2, milliseconds);
    Thread.sleep(Math.max(asked.toMillis(), jittered));
    milliseconds = Math.min(2 * milliseconds, LONGEST_MS);
  }
}
