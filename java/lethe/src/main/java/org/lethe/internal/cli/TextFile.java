package org.lethe.internal.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import org.lethe.EnvironmentException;
import org.lethe.UserException;

/** Writes a small text file whole or not at all. */
final class TextFile {
  private TextFile() {}

  /**
   * Writes a file in UTF-8; its directory is created.
   *
   * @throws UserException when it exists and is not to be overwritten
   * @throws EnvironmentException when it cannot be written
   */
  static void write(Path file, String text, boolean overwrite) {
    if (Files.isDirectory(file)) {
      throw new UserException(file + ": is a directory; give the name of a file");
    }
    if (Files.exists(file) && !overwrite) {
      throw new UserException(file + ": exists; choose another name, or replace it by --overwrite");
    }
    Path place = file.toAbsolutePath();
    Path fresh = place.resolveSibling("." + place.getFileName() + ".new");
    try {
      Files.createDirectories(place.getParent());
      try {
        Files.writeString(fresh, text);
        Files.move(fresh, place, StandardCopyOption.ATOMIC_MOVE);
      } finally {
        Files.deleteIfExists(fresh);
      }
    } catch (IOException e) {
      throw new EnvironmentException(
          file + ": cannot be written (" + e + "); choose another place", e);
    }
  }
}
