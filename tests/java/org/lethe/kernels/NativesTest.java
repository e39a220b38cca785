package org.lethe.kernels;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Libraries as they are unpacked from jars. */
class NativesTest {
  private static final String ENTRY = "natives-test/library.so";
  private static final long DATE = 1_700_000_000_000L;

  @TempDir Path directory;

  /** A jar whose entries have the one date of a reproducible build. */
  private URL jar(String folder, String content) throws IOException {
    Path jar = Files.createDirectories(directory.resolve(folder)).resolve("natives-test.jar");
    try (ZipOutputStream out = new ZipOutputStream(Files.newOutputStream(jar))) {
      ZipEntry entry = new ZipEntry(ENTRY);
      entry.setTime(DATE);
      out.putNextEntry(entry);
      out.write(content.getBytes(StandardCharsets.UTF_8));
    }
    return URI.create("jar:" + jar.toUri() + "!/" + ENTRY).toURL();
  }

  @Test
  void aLibraryOfAnotherBuildIsNotTakenForItsOwnBySizeAndDate() throws IOException {
    URL first = jar("first", "the first build");
    URL other = jar("other", "the other build");
    File unpacked = Natives.unpacked(first);
    try {
      assertEquals("the first build", Files.readString(unpacked.toPath()));
      assertEquals(unpacked, Natives.unpacked(first));
      // As a process has it mapped.
      try (InputStream held = Files.newInputStream(unpacked.toPath())) {
        assertEquals(unpacked, Natives.unpacked(other));
        assertEquals("the other build", Files.readString(unpacked.toPath()));
        assertEquals("the first build", new String(held.readAllBytes(), StandardCharsets.UTF_8));
      }
    } finally {
      Files.deleteIfExists(unpacked.toPath());
    }
  }
}
