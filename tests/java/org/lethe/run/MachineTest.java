package org.lethe.run;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.kernels.Backend;

/** Linux's virtual files, as several machines have them. */
class MachineTest {
  @TempDir Path root;

  private Machine machine;

  @BeforeEach
  void look() {
    machine = new Machine(root);
  }

  private void file(String name, String text) throws IOException {
    Path file = root.resolve(name);
    Files.createDirectories(file.getParent());
    Files.writeString(file, text);
  }

  @Test
  void ofAnEmptyMachineNothingIsKnown() {
    assertEquals("unknown", machine.glibc());
    assertEquals("unknown", machine.processors().get("model"));
    assertEquals(List.of(), machine.processors().get("instruction_sets"));
    assertEquals("none", machine.processors().get("cgroup_limit"));
    assertEquals("none", machine.memory().get("cgroup_limit_bytes"));
    assertFalse(machine.hasGpu());
    assertEquals("none", machine.nvidiaDriver());
  }

  @Test
  void theNearestGroupWithALimitCounts() throws IOException {
    file("proc/self/cgroup", "0::/jobs/7\n");
    file("sys/fs/cgroup/jobs/7/memory.max", "max\n");
    file("sys/fs/cgroup/jobs/memory.max", "1073741824\n");
    file("sys/fs/cgroup/jobs/7/cpu.max", "150000 100000\n");
    assertEquals(1L << 30, machine.memory().get("cgroup_limit_bytes"));
    assertEquals("1.50", machine.processors().get("cgroup_limit"));
  }

  @Test
  void theFirstVersionOfGroupsIsReadToo() throws IOException {
    file("proc/self/cgroup", "4:memory:/jobs\n");
    file("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n");
    assertEquals(1L << 31, machine.memory().get("cgroup_limit_bytes"));
    file("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assertEquals("none", machine.memory().get("cgroup_limit_bytes"));
  }

  @Test
  void processorsMemoryAndLibraryAreRead() throws IOException {
    file(
        "proc/cpuinfo",
        """
        processor\t: 0
        model name\t: Some CPU
        flags\t\t: fpu avx2 fma avx512_bf16

        processor\t: 1
        model name\t: Some CPU
        flags\t\t: fpu
        """);
    file("proc/meminfo", "MemTotal:       1024 kB\nMemFree: 1 kB\nMemAvailable:    512 kB\n");
    file("proc/self/maps", "7f-80 r-xp 0 08:01 1   /usr/lib/libc.so.6\n");
    file("usr/lib/libc.so.6", "\0\0GNU C Library (D 2.31-13) stable release version 2.31.\n\0");
    assertEquals("Some CPU", machine.processors().get("model"));
    assertEquals(
        List.of("avx2", "fma", "avx512_bf16"), machine.processors().get("instruction_sets"));
    assertEquals(1024L * 1024, machine.memory().get("total_bytes"));
    assertEquals(512L * 1024, machine.memory().get("available_bytes"));
    assertEquals("2.31", machine.glibc());
  }

  @Test
  void adviceForCudaNamesWhatIsMissingOnly() throws IOException {
    String none = cudaAdvice();
    assertTrue(none.contains("GPU"), none);
    assertTrue(none.contains("driver"), none);
    file("dev/nvidia0", "");
    file(
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun\nGCC version: 12\n");
    assertEquals("580.65.06", machine.nvidiaDriver());
    String with = cudaAdvice();
    assertFalse(with.contains("an NVIDIA GPU"), with);
    assertFalse(with.contains("NVIDIA's driver"), with);
    // What the machine shows is made up; a plug-in that is there still speaks of the real one.
    boolean plugin = Backend.hasPlugin("cuda");
    assertTrue(with.contains(plugin ? "no CUDA device" : "liblethe_cuda.so"), with);
  }

  private String cudaAdvice() {
    List<?> advice =
        (List<?>)
            Doctor.examine(Map.of("PATH", "", "GOMP_SPINCOUNT", "3000"), machine)
                .facts()
                .get("advice");
    assertEquals(1, advice.size(), advice.toString());
    return advice.get(0).toString();
  }
}
