package org.lethe.checkpoint;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.WritableByteChannel;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.regex.Pattern;
import org.lethe.EnvironmentException;
import org.lethe.Hashes;
import org.lethe.UserException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The checkpoints of a run: {@code step-000000020/} and its like, each written whole or not at all
 * ({@link OutputDirectory}: aside, forced to the disk, renamed, parent forced) and each with a
 * manifest that holds the sizes and hashes of its files and the hash of the manifest before it.
 *
 * <p>A crash at any moment leaves the checkpoints that were there, and at most a directory whose
 * name begins with a point, which the next run deletes. One process at a time; one thread at a
 * time.
 */
public final class CheckpointStore {
  /** Name of the manifest inside a checkpoint. */
  public static final String MANIFEST = "manifest.json";

  /** Name of the tensors inside a checkpoint; {@link TrainingState} says what they are. */
  public static final String STATE = "state.safetensors";

  private static final Logger LOG = LoggerFactory.getLogger(CheckpointStore.class);
  private static final Pattern NAME = Pattern.compile("step-\\d{9}");
  private static final Pattern LEFTOVER = Pattern.compile("\\.step-\\d{9}\\.new-[0-9a-f-]{36}");
  private static final int PIECE_BYTES = 1 << 20;

  private final Storage storage;
  private final Path directory;
  private final int keep;
  private CheckpointManifest.Previous last;

  /**
   * The store of a run.
   *
   * @param directory made with the first checkpoint
   * @param keep how many are kept, at least 1; older ones are deleted after a new one is on disk
   */
  public CheckpointStore(Path directory, int keep) {
    this(new Storage(), directory, keep);
  }

  CheckpointStore(Storage storage, Path directory, int keep) {
    this.storage = storage;
    this.directory = directory;
    this.keep = keep;
  }

  /** Writes the tensors of a checkpoint. */
  @FunctionalInterface
  public interface State {
    /** Writes all of them; the channel stays open. */
    void writeTo(WritableByteChannel channel) throws IOException;
  }

  /**
   * A checkpoint that verifies.
   *
   * @param refused why newer ones do not, newest first
   */
  public record Found(Path path, CheckpointManifest manifest, List<String> refused) {
    /** The file of the tensors. */
    public Path state() {
      return path.resolve(STATE);
    }
  }

  /**
   * Writes a checkpoint; when the call returns it is on the disk, and older ones beyond {@code
   * keep} are gone.
   *
   * @param manifest without files and previous, which are filled in
   * @param stateBytes what the tensors will take, checked against the room on the disk first
   * @throws EnvironmentException if there is no room or writing fails; the checkpoints before are
   *     as they were
   */
  public Path write(CheckpointManifest manifest, long stateBytes, State state) {
    Path target = directory.resolve(name(manifest.step()));
    if (isThere(target, manifest)) {
      return target;
    }
    List<CheckpointManifest.FileEntry> files = new ArrayList<>();
    String[] json = new String[1];
    OutputDirectory.write(
        storage,
        target,
        false,
        stateBytes,
        out -> {
          HashingChannel channel = new HashingChannel(out.open(STATE));
          try (channel) {
            state.writeTo(channel);
          }
          files.add(channel.entry(STATE));
          json[0] = manifest.with(files, last).json();
          out.writeString(MANIFEST, json[0]);
        });
    last = new CheckpointManifest.Previous(name(manifest.step()), Hashes.sha256(json[0]));
    deleteOld(manifest.step());
    return target;
  }

  /**
   * The newest checkpoint whose manifest and files are what they were, and why newer ones are not.
   * Directories that a crash left unfinished are deleted.
   *
   * @return empty when there is no checkpoint at all
   * @throws UserException when there are some and none verifies
   */
  public Optional<Found> newest() {
    List<Path> found = list();
    List<String> refused = new ArrayList<>();
    for (Path path : found) {
      try {
        CheckpointManifest manifest = verify(path);
        return Optional.of(new Found(path, manifest, refused));
      } catch (UserException e) {
        refused.add(e.getMessage());
      } catch (IOException e) {
        refused.add(path + ": cannot be read (" + e + ")");
      }
    }
    if (!refused.isEmpty()) {
      throw new UserException(
          directory
              + ": none of its checkpoints can be used: "
              + String.join("; ", refused)
              + "; delete them to begin again from the first step");
    }
    return Optional.empty();
  }

  /** Says which checkpoint the run went on from: the next one names it as the one before. */
  public void goOnFrom(Found found) {
    try {
      last =
          new CheckpointManifest.Previous(
              found.path().getFileName().toString(), hash(found.path().resolve(MANIFEST)));
    } catch (IOException e) {
      throw new EnvironmentException(
          found.path() + ": cannot be read (" + e + "); check its permissions", e);
    }
  }

  /**
   * Checks a checkpoint's files against its manifest.
   *
   * @throws UserException naming the file that is missing or not what was written
   */
  public static CheckpointManifest verify(Path checkpoint) throws IOException {
    Path file = checkpoint.resolve(MANIFEST);
    if (!Files.isRegularFile(file)) {
      throw new UserException(checkpoint + ": has no " + MANIFEST);
    }
    CheckpointManifest manifest = CheckpointManifest.read(Files.readString(file), file.toString());
    for (CheckpointManifest.FileEntry entry : manifest.files()) {
      Path path = checkpoint.resolve(entry.name());
      if (!checkpoint.equals(path.normalize().getParent()) || !Files.isRegularFile(path)) {
        throw new UserException(path + ": is missing, though " + MANIFEST + " lists it");
      }
      if (Files.size(path) != entry.size()) {
        throw new UserException(
            path + ": has " + Files.size(path) + " bytes, by " + MANIFEST + " " + entry.size());
      }
      if (!hash(path).equals(entry.sha256())) {
        throw new UserException(path + ": is not what was written: its SHA-256 differs");
      }
    }
    return manifest;
  }

  /**
   * Whether a run that came to the same step again, with the same numbers, finds its checkpoint
   * there. One that is damaged is deleted.
   */
  private boolean isThere(Path target, CheckpointManifest manifest) {
    if (!Files.exists(target)) {
      return false;
    }
    try {
      CheckpointManifest there = verify(target);
      if (there.configSha256().equals(manifest.configSha256())
          && there.metrics().equals(manifest.metrics())) {
        last =
            new CheckpointManifest.Previous(
                target.getFileName().toString(), hash(target.resolve(MANIFEST)));
        return true;
      }
    } catch (IOException | UserException e) {
      LOG.warn(
          "{} is written again, since what is there does not verify: {}", target, e.getMessage());
    }
    try {
      storage.deleteTree(target);
      return false;
    } catch (IOException e) {
      throw new EnvironmentException(
          target + ": is damaged and cannot be deleted (" + e + "); delete it yourself", e);
    }
  }

  private static String name(int step) {
    return String.format(Locale.ROOT, "step-%09d", step);
  }

  /** Checkpoints, newest first. */
  private List<Path> list() {
    List<Path> found = new ArrayList<>();
    if (!Files.isDirectory(directory)) {
      return found;
    }
    try (DirectoryStream<Path> entries = Files.newDirectoryStream(directory)) {
      for (Path entry : entries) {
        String name = entry.getFileName().toString();
        if (NAME.matcher(name).matches()) {
          found.add(entry);
        } else if (LEFTOVER.matcher(name).matches()) {
          storage.deleteTree(entry);
        }
      }
    } catch (IOException e) {
      throw new EnvironmentException(
          directory + ": cannot be looked at (" + e + "); check its permissions", e);
    }
    found.sort(Comparator.reverseOrder());
    return found;
  }

  /** Deletes the oldest; what goes wrong here costs disk space, not the checkpoint. */
  private void deleteOld(int newest) {
    List<Path> all =
        list().stream()
            .filter(p -> p.getFileName().toString().compareTo(name(newest)) <= 0)
            .toList();
    for (Path old : all.subList(Math.min(keep, all.size()), all.size())) {
      try {
        storage.deleteTree(old);
      } catch (IOException e) {
        throw new EnvironmentException(
            directory.resolve(name(newest))
                + ": is written, but an older checkpoint could not be deleted ("
                + e
                + "); delete "
                + old
                + " yourself",
            e);
      }
    }
  }

  private static String hash(Path file) throws IOException {
    MessageDigest digest = Hashes.sha256();
    byte[] piece = new byte[PIECE_BYTES];
    try (InputStream in = new DigestInputStream(Files.newInputStream(file), digest)) {
      while (in.read(piece) >= 0) {
        // The stream's digest takes what is read.
      }
    }
    return HexFormat.of().formatHex(digest.digest());
  }

  /** Hashes what passes through. */
  private static final class HashingChannel implements WritableByteChannel {
    private final WritableByteChannel channel;
    private final MessageDigest digest = Hashes.sha256();
    private long size;

    HashingChannel(WritableByteChannel channel) {
      this.channel = channel;
    }

    @Override
    public int write(ByteBuffer bytes) throws IOException {
      ByteBuffer all = bytes.duplicate();
      int count = channel.write(bytes);
      digest.update(all.limit(all.position() + count));
      size += count;
      return count;
    }

    CheckpointManifest.FileEntry entry(String name) {
      return new CheckpointManifest.FileEntry(
          name, size, HexFormat.of().formatHex(digest.digest()));
    }

    @Override
    public boolean isOpen() {
      return channel.isOpen();
    }

    @Override
    public void close() throws IOException {
      channel.close();
    }
  }
}
