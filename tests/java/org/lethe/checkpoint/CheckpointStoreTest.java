package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.EnvironmentException;
import org.lethe.Hashes;
import org.lethe.UserException;
import org.lethe.model.LoraConfig;

class CheckpointStoreTest {
  @TempDir Path dir;
  private Path place;

  @BeforeEach
  void name() {
    place = dir.resolve("run/checkpoints");
  }

  private static CheckpointManifest manifest(int step) {
    return new CheckpointManifest(
        CheckpointManifest.FORMAT,
        CheckpointManifest.VERSION,
        "0.0",
        "unlearn",
        "adapter",
        step,
        0,
        7,
        new CheckpointManifest.Cursor(0, step, 100),
        new CheckpointManifest.MethodState("ME+GD", Map.of()),
        Map.of("loss < 1", 1),
        "{\"isa\":\"x\"}",
        "F32",
        PeftConfigFile.json(new PeftConfig("base", new LoraConfig(8, 16, List.of("q_proj")))),
        "model",
        "b",
        "c",
        new CheckpointManifest.Metrics(10L * step, "m" + step),
        null,
        List.of());
  }

  private static void write(CheckpointStore store, int step) {
    store.write(
        manifest(step),
        0,
        out -> out.write(ByteBuffer.wrap(("state " + step).getBytes(StandardCharsets.UTF_8))));
  }

  private List<String> names() throws IOException {
    try (Stream<Path> entries = Files.list(place)) {
      return entries.map(p -> p.getFileName().toString()).sorted().toList();
    }
  }

  @Test
  void theNewestIsFoundAndOldOnesGo() throws IOException {
    CheckpointStore store = new CheckpointStore(place, 2);
    assertTrue(store.newest().isEmpty());
    write(store, 3);
    write(store, 20);
    write(store, 100);
    assertEquals(List.of("step-000000020", "step-000000100"), names());
    CheckpointStore.Found found = new CheckpointStore(place, 2).newest().orElseThrow();
    assertEquals(100, found.manifest().step());
    assertEquals("state 100", Files.readString(found.state()));
    assertEquals(List.of(), found.refused());
    assertEquals(
        manifest(100).with(found.manifest().files(), found.manifest().previous()),
        found.manifest());
    // The chain: each names the hash of the manifest before it.
    CheckpointManifest.Previous previous = found.manifest().previous();
    assertEquals("step-000000020", previous.name());
    assertEquals(
        Hashes.sha256(Files.readAllBytes(place.resolve("step-000000020/manifest.json"))),
        previous.sha256());
  }

  @Test
  void aDamagedOneIsRefusedWithItsReasonAndTheOneBeforeIsTaken() throws IOException {
    CheckpointStore store = new CheckpointStore(place, 5);
    write(store, 1);
    write(store, 2);
    write(store, 3);
    write(store, 4);
    Files.writeString(place.resolve("step-000000004/state.safetensors"), "state 5");
    Files.delete(place.resolve("step-000000003/manifest.json"));
    Path truncated = place.resolve("step-000000002/manifest.json");
    String whole = Files.readString(truncated);
    Files.writeString(truncated, whole.substring(0, whole.length() / 2));
    CheckpointStore.Found found = new CheckpointStore(place, 5).newest().orElseThrow();
    assertEquals(1, found.manifest().step());
    assertEquals(3, found.refused().size());
    assertTrue(found.refused().get(0).contains("SHA-256 differs"), found.refused().get(0));
    assertTrue(found.refused().get(1).contains("has no manifest.json"), found.refused().get(1));
    assertTrue(found.refused().get(2).contains("is damaged"), found.refused().get(2));
    Files.writeString(place.resolve("step-000000001/state.safetensors"), "x");
    String message =
        assertThrows(UserException.class, () -> new CheckpointStore(place, 5).newest())
            .getMessage();
    assertTrue(message.contains("none of its checkpoints can be used"), message);
    assertTrue(message.contains("has 1 bytes, by manifest.json 7"), message);
  }

  @Test
  void everyFlippedByteIsNoticed() throws IOException {
    CheckpointStore store = new CheckpointStore(place, 5);
    write(store, 1);
    write(store, 2);
    Path state = place.resolve("step-000000002/state.safetensors");
    byte[] bytes = Files.readAllBytes(state);
    for (int i = 0; i < bytes.length; i++) {
      byte[] damaged = bytes.clone();
      damaged[i] ^= 1;
      Files.write(state, damaged);
      assertEquals(1, new CheckpointStore(place, 5).newest().orElseThrow().manifest().step());
    }
    Files.write(state, bytes);
    assertEquals(2, new CheckpointStore(place, 5).newest().orElseThrow().manifest().step());
  }

  @Test
  void anotherVersionIsNamedWithItsRemedy() throws IOException {
    CheckpointStore store = new CheckpointStore(place, 5);
    write(store, 1);
    Path file = place.resolve("step-000000001/manifest.json");
    String version = "\"format_version\" : " + CheckpointManifest.VERSION;
    String text = Files.readString(file);
    assertTrue(text.contains(version), text);
    Files.writeString(file, text.replace(version, "\"format_version\" : 99"));
    String message =
        assertThrows(UserException.class, () -> new CheckpointStore(place, 5).newest())
            .getMessage();
    assertTrue(
        message.contains("format version 99, this Lethe reads " + CheckpointManifest.VERSION),
        message);
  }

  @Test
  void theSameStepAgainIsKeptWhenWholeAndWrittenWhenNot() throws IOException {
    CheckpointStore store = new CheckpointStore(place, 5);
    write(store, 1);
    write(store, 2);
    Path state = place.resolve("step-000000002/state.safetensors");
    write(store, 2);
    assertEquals("state 2", Files.readString(state));
    Files.writeString(state, "damaged");
    write(store, 2);
    assertEquals("state 2", Files.readString(state));
    assertEquals(2, new CheckpointStore(place, 5).newest().orElseThrow().manifest().step());
  }

  @Test
  void aFailureOfAnyCallOrByteLosesNothing() throws IOException {
    write(new CheckpointStore(place, 1), 1);
    long failures = 0;
    long bytesWritten = 0;
    for (boolean bytes : new boolean[] {true, false}) {
      boolean succeeded = false;
      for (int budget = 0; !succeeded; budget++) {
        FailingStorage storage =
            bytes
                ? new FailingStorage(budget, Integer.MAX_VALUE, 1)
                : new FailingStorage(Long.MAX_VALUE, budget, 1);
        CheckpointStore store = new CheckpointStore(storage, place, 1);
        store.newest();
        int step = bytes ? 2 : 3;
        try {
          write(store, step);
          succeeded = true;
        } catch (EnvironmentException e) {
          failures++;
          CheckpointStore.Found found = new CheckpointStore(place, 1).newest().orElseThrow();
          assertEquals(step - 1, found.manifest().step(), e.getMessage());
          assertEquals("state " + (step - 1), Files.readString(found.state()));
          assertEquals(List.of(found.path().getFileName().toString()), names());
        }
      }
      CheckpointStore.Found found = new CheckpointStore(place, 1).newest().orElseThrow();
      assertEquals(bytes ? 2 : 3, found.manifest().step());
      if (bytes) {
        bytesWritten =
            Files.size(found.state()) + Files.size(found.path().resolve("manifest.json"));
      }
    }
    // Every byte, and: directory, state, force, manifest, force, force directory, rename, force
    // parent.
    assertEquals(bytesWritten + 8, failures);
  }

  @Test
  void whatACrashLeftUnfinishedIsDeleted() throws IOException {
    CheckpointStore store = new CheckpointStore(place, 5);
    write(store, 1);
    Path half =
        Files.createDirectory(
            place.resolve(".step-000000002.new-00000000-0000-0000-0000-000000000000"));
    Files.writeString(half.resolve("state.safetensors"), "half");
    Files.writeString(place.resolve("notes.txt"), "mine");
    assertEquals(1, new CheckpointStore(place, 5).newest().orElseThrow().manifest().step());
    assertEquals(List.of("notes.txt", "step-000000001"), names());
  }

  @Test
  void asksForRoomFirst() {
    CheckpointStore store = new CheckpointStore(place, 5);
    String message =
        assertThrows(
                EnvironmentException.class,
                () -> store.write(manifest(1), Long.MAX_VALUE, out -> {}))
            .getMessage();
    assertTrue(message.contains("needs " + Long.MAX_VALUE + " bytes"), message);
  }
}
