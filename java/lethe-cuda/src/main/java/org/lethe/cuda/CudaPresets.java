package org.lethe.cuda;

import java.io.File;
import java.io.IOException;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.cuda.global.nccl;
import org.bytedeco.javacpp.Loader;
import org.lethe.EnvironmentException;

/**
 * Whether the natives of the JavaCPP presets load here. The presets themselves answer a lack with
 * an {@code UnsatisfiedLinkError} that names the library the first time, and with a {@code
 * NoClassDefFoundError} that does not from then on; this says it every time. Any thread may call
 * it.
 */
public final class CudaPresets {
  private static final String RESOURCES = "/org/bytedeco/cuda/" + Loader.getPlatform() + "/";

  private CudaPresets() {}

  /**
   * Loads the presets of CUDA's runtime.
   *
   * @throws EnvironmentException when the machine lacks a library they need; says which, and what
   *     to install
   */
  public static void requireRuntime() {
    load(cudart.class, "libjnicudart.so");
  }

  /**
   * Loads the presets of CUDA's runtime and of NCCL.
   *
   * @throws EnvironmentException when the machine lacks a library they need; says which, and what
   *     to install
   */
  public static void requireNccl() {
    requireRuntime();
    load(nccl.class, "libjninccl.so");
  }

  private static void load(Class<?> presets, String library) {
    try {
      Loader.load(presets);
    } catch (LinkageError e) {
      String why = why(library);
      throw new EnvironmentException(
          "the JavaCPP presets for CUDA do not load: "
              + (why.isEmpty() ? e.getMessage() : why)
              + "; "
              + remedy(why),
          e);
    }
  }

  /** What the dynamic linker says about a library of the presets; "" when it has no objection. */
  private static String why(String library) {
    try {
      File file = Loader.cacheResource(CudaPresets.class, RESOURCES + library);
      if (file == null) {
        return library + " is on no class path";
      }
      System.load(file.getAbsolutePath());
      return "";
    } catch (UnsatisfiedLinkError e) {
      String message = String.valueOf(e.getMessage());
      // The path of the presets' own library stands before what it lacks.
      return message.substring(message.indexOf(": ") < 0 ? 0 : message.indexOf(": ") + 2);
    } catch (IOException e) {
      return "cannot unpack " + library + " (" + e.getMessage() + ")";
    }
  }

  /** What mends a lack. */
  static String remedy(String why) {
    if (why.contains("libcuda.so")) {
      return "install an NVIDIA driver; in a container, start it with the devices visible"
          + " (nvidia-smi shows whether they are)";
    } else if (why.contains("libcudart.so")) {
      return "install CUDA 13's runtime and name its directory in LD_LIBRARY_PATH";
    } else if (why.contains("libnccl.so")) {
      return "install NCCL 2 for CUDA 13 and name its directory in LD_LIBRARY_PATH";
    } else if (why.contains("no class path")) {
      return "add the jar org.bytedeco:cuda with classifier " + Loader.getPlatform();
    } else if (why.contains("cannot unpack")) {
      return "set -Dorg.bytedeco.javacpp.cachedir to a writable directory";
    }
    return "look at what `ldd` says of the presets' libraries in ~/.javacpp/cache";
  }
}
