package org.lethe.kernels;

import java.io.BufferedInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.JarURLConnection;
import java.net.URI;
import java.net.URL;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.zip.CRC32;
import java.util.zip.CheckedInputStream;
import org.bytedeco.javacpp.Loader;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.internal.abi.Abi;

/**
 * Unpacks the native libraries and loads what the backends need. Any thread may call it.
 *
 * <p>The system property {@code lethe.plugins} names a directory whose {@code liblethe_*.so} are
 * used instead of those that Lethe brings; it is read whenever a backend opens.
 */
final class Natives {
  private static final String PLUGINS_PROPERTY = "lethe.plugins";
  private static final String PLATFORM = "linux-x86_64";
  private static final String PLUGINS = "/org/lethe/internal/abi/" + PLATFORM + "/";
  private static final String[] BACKENDS = {"liblethe_cpu_avx2.so", "liblethe_cpu_avx512.so"};
  // A build without nvcc does not bring it.
  private static final String CUDA = "liblethe_cuda.so";
  // JavaCPP loads these itself when Abi is first used, from where they were unpacked.
  private static final String[] BINDING = {"liblethe.so", "libjniAbi.so"};
  // In the order of their needs: oneDNN needs OpenMP. Loaded from oneDNN's jar, so that the
  // backends find them by SONAME.
  private static final String[] NEEDED = {"libgomp.so.1", "libdnnl.so.3"};

  private Natives() {}

  /** The directory that holds the backend plug-ins; loads the libraries on the first call. */
  static File pluginDirectory() {
    File own = Holder.DIRECTORY;
    String other = System.getProperty(PLUGINS_PROPERTY, "");
    if (other.isEmpty()) {
      return own;
    }
    File directory = new File(other);
    if (!directory.isDirectory()) {
      throw new UserException(
          PLUGINS_PROPERTY + " is '" + other + "', which is no directory; name one or unset it");
    }
    return directory;
  }

  /** Whether that directory has a backend. */
  static boolean hasPlugin(String backend) {
    return new File(pluginDirectory(), "liblethe_" + backend + ".so").isFile();
  }

  private static final class Holder {
    static final File DIRECTORY = unpack();

    private static File unpack() {
      String platform = Loader.getPlatform();
      if (!platform.equals(PLATFORM)) {
        throw new EnvironmentException(
            "Lethe's natives are built for "
                + PLATFORM
                + ", this is "
                + platform
                + "; run it there");
      }
      for (String library : BINDING) {
        cache(PLUGINS + library);
      }
      for (String library : NEEDED) {
        System.load(cache("/org/bytedeco/dnnl/" + PLATFORM + "/" + library).getAbsolutePath());
      }
      File directory = null;
      for (String library : BACKENDS) {
        directory = cache(PLUGINS + library).getParentFile();
      }
      if (Abi.class.getResource(PLUGINS + CUDA) != null) {
        cache(PLUGINS + CUDA);
      }
      return directory;
    }

    private static File cache(String resource) {
      URL url = Abi.class.getResource(resource);
      if (url == null) {
        throw new EnvironmentException(
            resource + " is on no class path; add lethe's jar and dnnl's " + PLATFORM + " jar");
      }
      // A file already, where classes lie in a directory: JavaCPP's cache has one place for all
      // such directories.
      if (url.getProtocol().equals("file")) {
        return new File(URI.create(url.toString()));
      }
      try {
        return unpacked(url);
      } catch (IOException e) {
        throw new EnvironmentException(
            "cannot unpack "
                + resource
                + " ("
                + e.getMessage()
                + "); set -Dorg.bytedeco.javacpp.cachedir to a writable directory",
            e);
      }
    }
  }

  /**
   * The file that a resource of a jar is unpacked to, with the resource's content. JavaCPP takes a
   * file of the same size and date for the same, and in jars whose entries all have one date, as
   * reproducible ones do, a library of another build may have its size.
   */
  static File unpacked(URL resource) throws IOException {
    if (!(resource.openConnection() instanceof JarURLConnection jar)) {
      return Loader.cacheResource(resource);
    }
    long checksum = jar.getJarEntry().getCrc();
    Path lock = Loader.getCacheDir().toPath().resolve("lethe.lock");
    // The JVM's threads, whichever loader has this class; then other processes.
    synchronized (Runtime.getRuntime()) {
      try (FileChannel channel =
          FileChannel.open(lock, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
        channel.lock(); // until the channel is closed
        File file = Loader.cacheResource(resource);
        if (checksum(file) == checksum) {
          return file;
        }
        // Another file, so that processes which have the old one mapped keep it.
        Files.delete(file.toPath());
        file = Loader.cacheResource(resource);
        if (checksum(file) != checksum) {
          throw new IOException(file + " was unpacked, but does not have its content");
        }
        return file;
      }
    }
  }

  private static long checksum(File file) throws IOException {
    CRC32 crc = new CRC32();
    try (InputStream in =
        new CheckedInputStream(new BufferedInputStream(new FileInputStream(file), 1 << 16), crc)) {
      in.transferTo(OutputStream.nullOutputStream());
    }
    return crc.getValue();
  }
}
