package org.lethe.checkpoint;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.WritableByteChannel;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;

/** The calls {@link OutputDirectory} makes to the file system; tests put failures in their way. */
class Storage {
  /** Creates a file; its channel forces the content to the disk when closed. */
  WritableByteChannel create(Path file) throws IOException {
    return FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
  }

  void force(WritableByteChannel channel) throws IOException {
    ((FileChannel) channel).force(true);
  }

  void createDirectory(Path directory) throws IOException {
    Files.createDirectory(directory);
  }

  /** Forces a directory's entries to the disk. */
  void forceDirectory(Path directory) throws IOException {
    try (FileChannel channel = FileChannel.open(directory, StandardOpenOption.READ)) {
      channel.force(true);
    }
  }

  void move(Path from, Path to) throws IOException {
    Files.move(from, to, StandardCopyOption.ATOMIC_MOVE);
  }

  long usableBytes(Path directory) throws IOException {
    // Files.getFileStore looks the place up in the table of mounts, where that of a chroot is not:
    // a
    // run would fail when it saves.
    return directory.toFile().getUsableSpace();
  }

  /** Deletes a directory and all below; does not follow links. */
  void deleteTree(Path directory) throws IOException {
    Files.walkFileTree(
        directory,
        new SimpleFileVisitor<>() {
          @Override
          public FileVisitResult visitFile(Path file, BasicFileAttributes attributes)
              throws IOException {
            Files.delete(file);
            return FileVisitResult.CONTINUE;
          }

          @Override
          public FileVisitResult postVisitDirectory(Path visited, IOException failure)
              throws IOException {
            if (failure != null) {
              throw failure;
            }
            Files.delete(visited);
            return FileVisitResult.CONTINUE;
          }
        });
  }
}
