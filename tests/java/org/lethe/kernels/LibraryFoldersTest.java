package org.lethe.kernels;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Libraries go to other machines: none names the folder it was built in, to search it or otherwise.
 */
class LibraryFoldersTest {
  private static final String PLACE = "/org/lethe/internal/abi/linux-x86_64/";

  @ParameterizedTest
  @ValueSource(
      strings = {"libjniAbi.so", "liblethe.so", "liblethe_cpu_avx2.so", "liblethe_cpu_avx512.so"})
  void aLibraryDoesNotNameTheFolderItWasBuiltIn(String library) throws IOException {
    String root = Path.of(System.getProperty("lethe.root")).toAbsolutePath().normalize().toString();
    String content;
    try (InputStream in = Backend.class.getResourceAsStream(PLACE + library)) {
      content = new String(in.readAllBytes(), StandardCharsets.ISO_8859_1);
    }
    assertTrue(content.startsWith("\u007fELF"), library);
    assertFalse(content.contains(root + "/"), library + " names " + root);
  }
}
