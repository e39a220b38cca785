package org.lethe.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.abort;

import java.time.Duration;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.global.nccl;
import org.bytedeco.cuda.nccl.ncclComm;
import org.bytedeco.javacpp.BytePointer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.lethe.EnvironmentException;

class CudaPresetsTest {
  /** A machine that has everything shows nothing of what is said where it lacks. */
  private static String lack() {
    try {
      CudaPresets.requireNccl();
    } catch (EnvironmentException e) {
      return e.getMessage();
    }
    return abort("the presets' natives load on this machine");
  }

  @Test
  void aLackIsNamedWithItsRemedyEveryTime() {
    String lack = lack();
    assertTrue(lack.contains("do not load: lib"), lack);
    assertTrue(lack.contains("cannot open shared object file"), lack);
    assertTrue(lack.contains("; install "), lack);
    // From the second time on the presets answer without the library's name.
    assertThrows(LinkageError.class, () -> nccl.ncclGetErrorString(1));
    assertEquals(lack, lack());
  }

  @Test
  void aCollectiveNamesTheLackInsteadOfALinkageError() {
    String lack = lack();
    try (BytePointer place = new BytePointer(1L)) {
      Executable over =
          () ->
              NcclCollective.over(
                  new ncclComm(place), new CUstream_st(place), Duration.ofSeconds(1));
      assertEquals(lack, assertThrows(EnvironmentException.class, over).getMessage());
    }
  }

  @Test
  void everyLibraryHasItsRemedy() {
    String tail = ": cannot open shared object file: No such file or directory";
    assertTrue(CudaPresets.remedy("libcuda.so.1" + tail).contains("NVIDIA driver"));
    assertTrue(CudaPresets.remedy("libcudart.so.13" + tail).contains("CUDA 13's runtime"));
    assertTrue(CudaPresets.remedy("libnccl.so.2" + tail).contains("NCCL 2"));
    assertTrue(CudaPresets.remedy("libjnicudart.so is on no class path").contains("add the jar"));
    assertTrue(CudaPresets.remedy("cannot unpack x (full)").contains("cachedir"));
    assertTrue(CudaPresets.remedy("undefined symbol: x").contains("ldd"));
  }
}
