package org.lethe.bench;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;

/** What results must say about where they come from, and who else was at work there. */
public final class Machine {
  private static final Path STAT = Path.of("/proc/stat");
  private static final Path OWN = Path.of("/proc/self/stat");

  private final long busy;
  private final long all;
  private final long own;

  private Machine(long busy, long all, long own) {
    this.busy = busy;
    this.all = all;
    this.own = own;
  }

  /** Clock ticks of all processors since the system started, and this process's among them. */
  public static Machine now() {
    long[] ticks =
        Arrays.stream(lines(STAT).get(0).split("\\s+", -1))
            .skip(1)
            .limit(8)
            .mapToLong(Long::parseLong)
            .toArray();
    long all = Arrays.stream(ticks).sum();
    String own = lines(OWN).get(0);
    // After the name, which may hold anything: state is field 3; 14 to 17 are user and system time
    // of the process and of the children it waited for.
    String[] fields = own.substring(own.lastIndexOf(')') + 2).split(" ", -1);
    long mine = 0;
    for (int field = 14; field <= 17; field++) {
      mine += Long.parseLong(fields[field - 3]);
    }
    return new Machine(all - ticks[3] - ticks[4], all, mine);
  }

  /** The share of all processors that other processes took since then. */
  public double othersSince(Machine then) {
    long passed = Math.max(1, all - then.all);
    return Math.max(0, (double) (busy - then.busy - (own - then.own)) / passed);
  }

  /** The processor's name, as the system says it. */
  public static String processor() {
    return lines(Path.of("/proc/cpuinfo")).stream()
        .filter(line -> line.startsWith("model name"))
        .map(line -> line.substring(line.indexOf(':') + 1).strip())
        .findFirst()
        .orElse(System.getProperty("os.arch"));
  }

  private static List<String> lines(Path file) {
    try {
      return Files.readAllLines(file, StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException("benchmarks run on Linux, where there is " + file, e);
    }
  }
}
