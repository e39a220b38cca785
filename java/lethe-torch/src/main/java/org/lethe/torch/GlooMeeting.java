package org.lethe.torch;

import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.bytedeco.pytorch.PrefixStore;
import org.bytedeco.pytorch.Store;
import org.bytedeco.pytorch.StringVector;
import org.lethe.EnvironmentException;

/**
 * How ranks recognise each other in a store that may hold what an ended run left behind.
 *
 * <p>Each rank comes with a name that nobody had before. Rank 0 repeats the names it sees under its
 * own; a rank whose name is repeated knows that this rank 0 is of its run, and says so under the
 * new name. What follows is kept under that name alone.
 */
final class GlooMeeting {
  private static final long POLL_MILLIS = 5;

  private final Store store;
  private final GlooCollective.Place place;
  private final String where;
  private final String name = UUID.randomUUID().toString();

  /**
   * A rank that comes.
   *
   * @param store one that may be passed on
   */
  GlooMeeting(Store store, GlooCollective.Place place, String where) {
    this.store = store;
    this.place = place;
    this.where = where;
  }

  /**
   * Waits for every rank.
   *
   * @return the part of the store that is this run's
   * @throws EnvironmentException when one does not come, with the ranks that are missing
   */
  Store meet() {
    long end = System.nanoTime() + place.timeout().toNanos();
    store.set(hello(place.rank()), name);
    String run = place.rank() == 0 ? name : "";
    String seen = "";
    while (true) {
      if (place.rank() == 0) {
        String now = names();
        if (!now.equals(seen)) {
          store.set("lethe/run/" + name, now);
          store.set("lethe/run", name);
          seen = now;
        }
      } else if (run.isEmpty()) {
        run = recognised();
      }
      if (!run.isEmpty()) {
        if (!has(ready(run, place.rank()))) {
          store.set(ready(run, place.rank()), "");
        }
        if (missing(run).isEmpty()) {
          return GlooCollective.shareable(new PrefixStore("lethe/" + run, store), place);
        }
      }
      if (System.nanoTime() - end > 0) {
        throw timedOut(run);
      }
      pause();
    }
  }

  /** The names that rank 0 sees, each between two spaces. */
  private String names() {
    return IntStream.range(0, place.size())
        .mapToObj(rank -> has(hello(rank)) ? store.get_to_str(hello(rank)) : "-")
        .collect(Collectors.joining(" ", " ", " "));
  }

  /** The name of the run whose rank 0 has repeated this rank's; "" while there is none. */
  private String recognised() {
    if (has("lethe/run")) {
      String run = store.get_to_str("lethe/run");
      if (store.get_to_str("lethe/run/" + run).contains(" " + name + " ")) {
        return run;
      }
    }
    return "";
  }

  private List<Integer> missing(String run) {
    List<Integer> missing = new ArrayList<>();
    for (int rank = 0; rank < place.size(); rank++) {
      if (!has(ready(run, rank))) {
        missing.add(rank);
      }
    }
    return missing;
  }

  private EnvironmentException timedOut(String run) {
    List<Integer> missing = new ArrayList<>();
    if (run.isEmpty()) {
      missing.add(0);
      IntStream.range(1, place.size()).filter(rank -> !has(hello(rank))).forEach(missing::add);
    } else {
      missing.addAll(missing(run));
    }
    return new EnvironmentException(
        place
            + " waited "
            + place.waited()
            + " at "
            + where
            + " for rank "
            + missing.stream().map(String::valueOf).collect(Collectors.joining(", "))
            + ", which did not come; start every rank once, with the same place and size, or raise"
            + " the timeout");
  }

  private boolean has(String key) {
    return store.check(new StringVector(key));
  }

  private static String hello(int rank) {
    return "lethe/hello/" + rank;
  }

  private static String ready(String run, int rank) {
    return "lethe/ready/" + run + "/" + rank;
  }

  private void pause() {
    try {
      Thread.sleep(POLL_MILLIS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new EnvironmentException(
          place + " was interrupted while it waited for the others; start all ranks again", e);
    }
  }
}
