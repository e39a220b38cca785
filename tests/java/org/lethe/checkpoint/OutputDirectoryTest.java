package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.EnvironmentException;
import org.lethe.UserException;

class OutputDirectoryTest {
  private static final Map<String, String> OLD = Map.of("a.txt", "old a", "gone.txt", "old");
  private static final Map<String, String> NEW = Map.of("a.txt", "new aa", "b.txt", "new b");

  @TempDir Path dir;

  private static void content(OutputDirectory.Sink out, Map<String, String> files)
      throws IOException {
    for (Map.Entry<String, String> file : new TreeMap<>(files).entrySet()) {
      out.writeString(file.getKey(), file.getValue());
    }
  }

  private static Map<String, String> contentOf(Path directory) throws IOException {
    Map<String, String> files = new TreeMap<>();
    try (Stream<Path> entries = Files.list(directory)) {
      for (Path entry : entries.toList()) {
        files.put(entry.getFileName().toString(), Files.readString(entry));
      }
    }
    return files;
  }

  private Path old() {
    Path target = dir.resolve("out");
    OutputDirectory.write(target, true, 0, out -> content(out, OLD));
    return target;
  }

  private void assertNothingBeside(Path target) throws IOException {
    try (Stream<Path> entries = Files.list(target.getParent())) {
      assertEquals(List.of(target), entries.toList());
    }
  }

  @Test
  void createsParentsAndReplacesOnlyWhenAllowed() throws IOException {
    Path target = dir.resolve("x/y/out");
    OutputDirectory.write(target, false, 10, out -> content(out, OLD));
    assertEquals(OLD, contentOf(target));
    String message =
        assertThrows(
                UserException.class,
                () -> OutputDirectory.write(target, false, 0, out -> content(out, NEW)))
            .getMessage();
    assertTrue(message.contains("not empty"), message);
    assertEquals(OLD, contentOf(target));
    OutputDirectory.write(target, true, 0, out -> content(out, NEW));
    assertEquals(NEW, contentOf(target));
    assertNothingBeside(target);
  }

  @Test
  void takesAnEmptyDirectoryAndRefusesAFile() throws IOException {
    Path target = Files.createDirectory(dir.resolve("empty"));
    OutputDirectory.write(target, false, 0, out -> content(out, NEW));
    assertEquals(NEW, contentOf(target));
    Path file = Files.writeString(dir.resolve("file"), "x");
    assertThrows(UserException.class, () -> OutputDirectory.check(file, true, 0));
    assertEquals("x", Files.readString(file));
  }

  @Test
  void aLinkToADirectoryStaysALink() throws IOException {
    Path target = old();
    Path link = Files.createSymbolicLink(dir.resolve("link"), target);
    OutputDirectory.write(link, true, 0, out -> content(out, NEW));
    assertTrue(Files.isSymbolicLink(link));
    assertEquals(NEW, contentOf(target));
  }

  @Test
  void aFullDiskAtAnyByteLeavesTheOldContent() throws IOException {
    Path target = old();
    int total = NEW.values().stream().mapToInt(String::length).sum();
    for (int bytes = 0; bytes < total; bytes++) {
      Storage storage = new FailingStorage(bytes, Integer.MAX_VALUE, 1);
      String message =
          assertThrows(
                  EnvironmentException.class,
                  () -> OutputDirectory.write(storage, target, true, 7, out -> content(out, NEW)))
              .getMessage();
      assertTrue(message.contains("7 bytes needed, "), message);
      assertTrue(message.contains(" bytes available"), message);
      assertEquals(OLD, contentOf(target));
      assertNothingBeside(target);
    }
    OutputDirectory.write(
        new FailingStorage(total, Integer.MAX_VALUE, 1), target, true, 0, out -> content(out, NEW));
    assertEquals(NEW, contentOf(target));
  }

  @Test
  void aFailureOfAnyCallLeavesTheOldContent() throws IOException {
    Path target = old();
    int calls = 0;
    for (boolean succeeded = false; !succeeded; calls++) {
      FailingStorage storage = new FailingStorage(Long.MAX_VALUE, calls, 1);
      try {
        OutputDirectory.write(storage, target, true, 0, out -> content(out, NEW));
        succeeded = true;
      } catch (EnvironmentException e) {
        assertTrue(e.getMessage().contains("injected"), e.getMessage());
        assertEquals(1, storage.failed());
        assertEquals(OLD, contentOf(target));
      }
      assertNothingBeside(target);
    }
    // create directory, 2 × (create, force), force directory, 2 renames, force parent
    assertEquals(9 + 1, calls);
    assertEquals(NEW, contentOf(target));
  }

  @Test
  void saysWhereTheOldContentIsWhenItCannotBePutBack() throws IOException {
    Path target = old();
    int callsBeforeSecondRename = 7;
    Storage storage = new FailingStorage(Long.MAX_VALUE, callsBeforeSecondRename, 2);
    String message =
        assertThrows(
                EnvironmentException.class,
                () -> OutputDirectory.write(storage, target, true, 0, out -> content(out, NEW)))
            .getMessage();
    try (Stream<Path> entries = Files.list(dir)) {
      Path aside = entries.toList().get(0);
      assertTrue(message.contains(aside.toString()), message);
      assertEquals(OLD, contentOf(aside));
    }
  }

  @Test
  void otherExceptionsPassThroughAndLeaveTheOldContent() throws IOException {
    Path target = old();
    assertThrows(
        UserException.class,
        () ->
            OutputDirectory.write(
                target,
                true,
                0,
                out -> {
                  out.writeString("a.txt", "half");
                  throw new UserException("stop");
                }));
    for (String name : new String[] {"", ".", "..", "../x", "a/b", "/x"}) {
      assertThrows(
          UserException.class,
          () -> OutputDirectory.write(target, true, 0, out -> out.writeString(name, "x")),
          name);
    }
    assertThrows(
        EnvironmentException.class,
        () ->
            OutputDirectory.write(
                target,
                true,
                0,
                out -> {
                  out.writeString("a", "x");
                  out.writeString("a", "x");
                }));
    assertEquals(OLD, contentOf(target));
    assertNothingBeside(target);
  }

  @Test
  void asksForRoomFirst() throws IOException {
    Path target = old();
    String message =
        assertThrows(
                EnvironmentException.class,
                () -> OutputDirectory.write(target, true, Long.MAX_VALUE, out -> content(out, NEW)))
            .getMessage();
    assertTrue(message.contains("needs " + Long.MAX_VALUE + " bytes where "), message);
    assertEquals(OLD, contentOf(target));
  }

  @Test
  void copiesFiles() throws IOException {
    Path source = Files.writeString(dir.resolve("tokenizer.json"), "{}");
    Path target = dir.resolve("out");
    OutputDirectory.write(target, false, 0, out -> out.copy(source, "tokenizer.json"));
    assertEquals(Map.of("tokenizer.json", "{}"), contentOf(target));
    assertThrows(
        UserException.class,
        () ->
            OutputDirectory.write(
                dir.resolve("other"), false, 0, out -> out.copy(dir.resolve("none"), "x")));
    assertTrue(Files.notExists(dir.resolve("other")));
  }
}
