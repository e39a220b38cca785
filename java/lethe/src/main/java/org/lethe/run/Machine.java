package org.lethe.run;

import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.OptionalLong;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * What Linux says of the machine, read from its virtual files; what cannot be read is "unknown".
 *
 * @param root the directory that /proc, /sys and /dev are looked for in; tests bring their own
 */
record Machine(Path root) {
  static final String NONE = "none";
  private static final String UNKNOWN = "unknown";
  private static final Pattern GLIBC = Pattern.compile("stable release version (\\d+\\.\\d+)");
  private static final Pattern DRIVER = Pattern.compile("Kernel Module.*?(\\d+\\.\\d+(\\.\\d+)?)");

  /** Instruction sets that matter to the CPU backends, as /proc/cpuinfo spells them. */
  private static final List<String> FLAGS =
      List.of("avx2", "fma", "avx512f", "avx512bw", "avx512_bf16", "amx_bf16");

  /** The C library that this process runs on. */
  String glibc() {
    for (String line : lines("proc/self/maps")) {
      int slash = line.indexOf('/');
      String file = slash < 0 ? "" : line.substring(slash);
      if (file.matches(".*/libc(-[\\d.]+)?\\.so(\\.6)?")) {
        // The library carries its banner; glibc has no file that says the version.
        String text = text(root.resolve(file.substring(1)), StandardCharsets.ISO_8859_1);
        Matcher matcher = GLIBC.matcher(text);
        return matcher.find() ? matcher.group(1) : UNKNOWN;
      }
    }
    return UNKNOWN;
  }

  /** Processors: how many, of which kind, and what this process may use of them. */
  Map<String, Object> processors() {
    Map<String, Object> facts = new LinkedHashMap<>();
    String model = UNKNOWN;
    String flags = "";
    for (String line : lines("proc/cpuinfo")) {
      if (line.startsWith("model name") && model.equals(UNKNOWN)) {
        model = line.substring(line.indexOf(':') + 1).strip();
      } else if (line.startsWith("flags") && flags.isEmpty()) {
        flags = " " + line.substring(line.indexOf(':') + 1).strip() + " ";
      }
    }
    String found = flags;
    facts.put("model", model);
    facts.put(
        "instruction_sets", FLAGS.stream().filter(f -> found.contains(" " + f + " ")).toList());
    facts.put("available", Runtime.getRuntime().availableProcessors());
    facts.put("cgroup_limit", cpuLimit());
    return facts;
  }

  private String cpuLimit() {
    String[] parts = cgroup("cpu.max").split("\\s+", -1);
    if (parts.length == 2 && parts[0].matches("\\d+") && parts[1].matches("[1-9]\\d*")) {
      return String.format(
          Locale.ROOT, "%.2f", Double.parseDouble(parts[0]) / Double.parseDouble(parts[1]));
    }
    return NONE;
  }

  /** Bytes of memory: the machine's, what is free, the cgroup's limit, the Java heap's. */
  Map<String, Object> memory() {
    Map<String, Object> facts = new LinkedHashMap<>();
    for (String line : lines("proc/meminfo")) {
      String[] parts = line.split("\\s+", -1);
      if (parts.length > 1 && parts[1].matches("\\d+")) {
        switch (parts[0]) {
          case "MemTotal:" -> facts.put("total_bytes", Long.parseLong(parts[1]) * 1024);
          case "MemAvailable:" -> facts.put("available_bytes", Long.parseLong(parts[1]) * 1024);
          default -> {}
        }
      }
    }
    OptionalLong limit = memoryLimit();
    facts.put("cgroup_limit_bytes", limit.isPresent() ? (Object) limit.getAsLong() : NONE);
    facts.put(
        "heap_limit_bytes", ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getMax());
    return facts;
  }

  private OptionalLong memoryLimit() {
    String limit = cgroup("memory.max").strip();
    if (limit.isEmpty()) {
      limit = String.join("", lines("sys/fs/cgroup/memory/memory.limit_in_bytes")).strip();
    }
    // The first version of cgroups says "no limit" by a number near 2^63.
    return limit.matches("\\d{1,18}")
        ? OptionalLong.of(Long.parseLong(limit))
        : OptionalLong.empty();
  }

  /** A file of this process's control group, or of the nearest group above that has a limit. */
  private String cgroup(String name) {
    String path = "";
    for (String line : lines("proc/self/cgroup")) {
      if (line.startsWith("0::/")) {
        path = line.substring("0::/".length());
      }
    }
    Path base = root.resolve("sys/fs/cgroup");
    Path group = base.resolve(path).normalize();
    while (group.startsWith(base)) {
      Path file = group.resolve(name);
      String text = Files.isReadable(file) ? text(file, StandardCharsets.UTF_8).strip() : "max";
      if (!text.startsWith("max")) {
        return text;
      }
      group = group.getParent();
    }
    return "";
  }

  /** Whether the system has an NVIDIA device. */
  boolean hasGpu() {
    return Files.exists(root.resolve("dev/nvidia0"));
  }

  /** The version of NVIDIA's kernel module, or "none". */
  String nvidiaDriver() {
    for (String line : lines("proc/driver/nvidia/version")) {
      Matcher matcher = DRIVER.matcher(line);
      if (matcher.find()) {
        return matcher.group(1);
      }
    }
    return NONE;
  }

  /** Whether a tool is in one of the directories of a PATH. */
  boolean isOnPath(String tool, String path) {
    for (String directory : path.split(":", -1)) {
      if (!directory.isEmpty() && Files.isExecutable(Path.of(directory).resolve(tool))) {
        return true;
      }
    }
    return false;
  }

  private List<String> lines(String file) {
    return text(root.resolve(file), StandardCharsets.UTF_8).lines().toList();
  }

  private static String text(Path file, Charset charset) {
    try {
      return Files.isReadable(file) ? new String(Files.readAllBytes(file), charset) : "";
    } catch (IOException e) {
      // Virtual files may exist and still refuse to be read; then nothing is known.
      return "";
    }
  }
}
