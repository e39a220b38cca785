package org.lethe.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;
import org.junit.jupiter.api.Test;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;

/** What the README shows runs, on the shim, and is shown as it is. */
class ReadmeExampleTest {
  private static final Path ROOT = Path.of(System.getProperty("lethe.root"));

  /** Stands for the program's own kernel. */
  private interface Kernel {
    void run(BytePointer numbers, CUstream_st stream);
  }

  private static void example(
      Backend backend, Pointer floats, long n, CUstream_st stream, Kernel kernel) {
    // README: begin
    CudaStreams.use(backend, stream);
    try (SharedMemory shared = CudaMemory.share(backend, floats, n * Float.BYTES);
        Buffer rounded = backend.allocate(n * Short.BYTES)) {
      new Ops(backend, Dtype.F32).convert(n, Dtype.F32, shared.ref(), Dtype.BF16, rounded.at(0));
      kernel.run(CudaMemory.bytes(backend, rounded.at(0), n * Short.BYTES), stream);
      backend.synchronize();
    }
    // README: end
  }

  @Test
  void theExampleRuns() {
    try (Backend backend = Shim.open();
        FloatPointer floats = new FloatPointer(1f, -2.5f, 1 + 0x1p-8f);
        BytePointer place = new BytePointer(8L).zero()) {
      short[] seen = new short[3];
      CUstream_st stream = new CUstream_st(place);
      example(
          backend,
          floats,
          3,
          stream,
          (numbers, on) -> {
            assertEquals(stream, on);
            for (int i = 0; i < seen.length; i++) {
              seen[i] = numbers.getShort(2L * i);
            }
          });
      assertEquals(0x3f80, seen[0]);
      assertEquals(0xc020, seen[1] & 0xffff);
      assertEquals(0x3f80, seen[2], "half way goes to even");
      assertEquals(stream, CudaStreams.of(backend));
    }
  }

  @Test
  void theReadmeShowsItAsItIs() throws IOException {
    String source =
        Files.readString(
            ROOT.resolve("java/lethe-cuda/src/test/java/org/lethe/cuda/ReadmeExampleTest.java"));
    String begin = "    // README: begin\n";
    int from = source.indexOf(begin) + begin.length();
    String listing = source.substring(from, source.indexOf("\n    // README: end")).stripIndent();
    assertTrue(
        Files.readString(ROOT.resolve("README.md")).contains("```java\n" + listing + "\n```\n"),
        "README.md does not show it");
  }
}
