package org.lethe.run;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.lethe.LetheException;
import org.lethe.kernels.Backend;

/**
 * What Lethe finds on a machine: backends, libraries, memory, places to write, and what would mend
 * what is missing. Names neither the host nor its user; a home directory is written as ~.
 */
public final class Doctor {
  private static final List<String> BACKENDS = List.of("cpu", "cpu_avx2", "cpu_avx512", "cuda");
  private static final List<String> OPENMP =
      List.of("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_CPU_AFFINITY");

  /** Where each library's jar says its version. */
  private static final Map<String, String> LIBRARIES = libraries();

  private final Map<String, String> environment;
  private final Machine machine;
  private final List<String> advice = new ArrayList<>();
  private boolean canRun;

  /**
   * What was found.
   *
   * @param canRun whether models can be computed with at all
   * @param facts by name, as {@link Inspection#facts}; "advice" lists what could be mended
   */
  public record Result(boolean canRun, Map<String, Object> facts) {}

  private Doctor(Map<String, String> environment, Machine machine) {
    this.environment = environment;
    this.machine = machine;
  }

  /**
   * Looks at this machine.
   *
   * @param environment the process's variables; a few that concern Lethe are read
   */
  public static Result examine(Map<String, String> environment) {
    return examine(environment, new Machine(Path.of("/")));
  }

  static Result examine(Map<String, String> environment, Machine machine) {
    return new Doctor(environment, machine).run();
  }

  private Result run() {
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("lethe", Version.string());
    List<Map<String, Object>> backends = backends();
    facts.put("backends", backends);
    facts.put("cuda", cuda());
    Map<String, Object> libraries = new LinkedHashMap<>();
    libraries.put("java", Runtime.version().toString());
    libraries.put("glibc", machine.glibc());
    LIBRARIES.forEach((name, place) -> libraries.put(name, version(place)));
    facts.put("libraries", libraries);
    facts.put("processors", machine.processors());
    facts.put("memory", machine.memory());
    facts.put("openmp", openMp());
    facts.put("directories", directories());
    facts.put("can_run", canRun);
    facts.put("advice", List.copyOf(advice));
    return new Result(canRun, facts);
  }

  private List<Map<String, Object>> backends() {
    List<Map<String, Object>> rows = new ArrayList<>();
    for (String name : BACKENDS) {
      Map<String, Object> row = new LinkedHashMap<>();
      row.put("name", name);
      String said;
      boolean opens = false;
      try (Backend backend = Backend.open(name, 1)) {
        said = backend.description();
        opens = true;
      } catch (LetheException | LinkageError e) {
        said = shortened(rootMessage(e));
      }
      row.put("available", opens);
      row.put("says", said);
      rows.add(row);
      if (name.equals("cpu")) {
        canRun = opens;
        if (!opens) {
          advice.add("No model can run: the CPU backend does not load (" + said + ")");
        }
      }
    }
    return rows;
  }

  private static String rootMessage(Throwable failure) {
    Throwable root = failure;
    while (root.getMessage() == null && root.getCause() != null) {
      root = root.getCause();
    }
    return String.valueOf(root.getMessage());
  }

  /** One line, without the user's name. */
  private static String shortened(String message) {
    return message.lines().findFirst().orElse("").replace(System.getProperty("user.home"), "~");
  }

  private Map<String, Object> cuda() {
    Map<String, Object> facts = new LinkedHashMap<>();
    boolean plugin = Backend.hasPlugin("cuda");
    boolean device = machine.hasGpu();
    String driver = machine.nvidiaDriver();
    boolean toolkit = machine.isOnPath("nvcc", environment.getOrDefault("PATH", ""));
    List<String> devices = new ArrayList<>();
    String refusal = plugin ? openDevices(devices) : "";
    boolean blasMissing = refusal.contains("cuBLASLt was not found");
    facts.put("plug_in", plugin);
    facts.put("device", device || !devices.isEmpty());
    facts.put("devices", devices);
    facts.put("driver", driver);
    // The plug-in looks for it last: only then is it known.
    facts.put("cublas", devices.isEmpty() ? blasMissing ? "not found" : "unknown" : "found");
    facts.put("toolkit", toolkit);
    if (!devices.isEmpty()) {
      return facts;
    }
    List<String> needed = new ArrayList<>();
    if (!plugin) {
      needed.add("a build of Lethe that brings liblethe_cuda.so (this one does not)");
    }
    if (!device) {
      needed.add("an NVIDIA GPU that this system (or container) is given");
    }
    if (driver.equals(Machine.NONE)) {
      needed.add("NVIDIA's driver");
    }
    if (blasMissing) {
      needed.add(
          "cuBLASLt: the CUDA toolkit's, pip install nvidia-cublas, or a file that LETHE_CUBLASLT"
              + " names");
    }
    if (!plugin && !toolkit) {
      needed.add("to build it yourself, CUDA's toolkit with nvcc on PATH");
    }
    if (needed.isEmpty()) {
      needed.add("what its backend says: " + refusal);
    }
    advice.add("For device=cuda this machine needs: " + String.join("; ", needed));
    return facts;
  }

  /** Adds every CUDA device that opens; why the first that does not. */
  private static String openDevices(List<String> devices) {
    for (int i = 0; ; i++) {
      try (Backend backend = Backend.open("cuda:" + i, 1)) {
        devices.add(backend.description());
      } catch (LetheException | LinkageError e) {
        return shortened(rootMessage(e));
      }
    }
  }

  private Map<String, Object> openMp() {
    Map<String, Object> facts = new LinkedHashMap<>();
    OPENMP.forEach(name -> facts.put(name, environment.getOrDefault(name, "unset")));
    if (!environment.containsKey("GOMP_SPINCOUNT") && !environment.containsKey("OMP_WAIT_POLICY")) {
      advice.add(
          "Threads that wait spin for milliseconds; beside other programs set GOMP_SPINCOUNT=3000,"
              + " as ./lethe does");
    }
    return facts;
  }

  private List<Map<String, Object>> directories() {
    Path home = Path.of(System.getProperty("user.home"));
    String javacpp = System.getProperty("org.bytedeco.javacpp.cachedir");
    String tokenizers = environment.get("DJL_CACHE_DIR");
    List<Map<String, Object>> rows = new ArrayList<>();
    rows.add(
        directory(
            "natives",
            javacpp == null ? home.resolve(".javacpp").resolve("cache") : Path.of(javacpp),
            "-Dorg.bytedeco.javacpp.cachedir=DIR moves it"));
    rows.add(
        directory(
            "tokenizers",
            tokenizers == null ? home.resolve(".djl.ai") : Path.of(tokenizers),
            "DJL_CACHE_DIR moves it"));
    rows.add(directory("working directory", Path.of(""), "give output another place"));
    return rows;
  }

  private Map<String, Object> directory(String use, Path directory, String remedy) {
    Path at = directory.toAbsolutePath();
    while (!Files.exists(at) && at.getParent() != null) {
      at = at.getParent();
    }
    boolean writable = Files.isDirectory(at) && Files.isWritable(at);
    Map<String, Object> row = new LinkedHashMap<>();
    row.put("use", use);
    row.put("path", directory.toString().isEmpty() ? "." : shortened(directory.toString()));
    row.put("writable", writable);
    row.put("free_bytes", free(at));
    if (!writable) {
      advice.add("The directory for " + use + " cannot be written to; " + remedy);
    }
    return row;
  }

  private static long free(Path directory) {
    return directory.toFile().getUsableSpace();
  }

  private static String version(String place) {
    try (InputStream in = Doctor.class.getResourceAsStream(place)) {
      if (in == null) {
        return "unknown";
      }
      Properties properties = new Properties();
      properties.load(in);
      return properties.getProperty("version", "unknown");
    } catch (IOException e) {
      return "unknown";
    }
  }

  private static Map<String, String> libraries() {
    Map<String, String> places = new LinkedHashMap<>();
    places.put("javacpp", "/META-INF/maven/org.bytedeco/javacpp/pom.properties");
    places.put(
        "jackson", "/META-INF/maven/com.fasterxml.jackson.core/jackson-databind/pom.properties");
    places.put("tokenizers", "/native/lib/tokenizers.properties");
    places.put("jinjava", "/META-INF/maven/com.hubspot.jinjava/jinjava/pom.properties");
    return places;
  }
}
