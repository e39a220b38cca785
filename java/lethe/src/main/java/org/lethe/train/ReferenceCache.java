package org.lethe.train;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.lethe.EnvironmentException;
import org.lethe.Hashes;
import org.lethe.InternalFaultException;
import org.lethe.UserException;
import org.lethe.data.TokenSequence;
import org.lethe.method.Method;
import org.lethe.method.Positions;
import org.lethe.method.ReferenceUse;
import org.lethe.method.Role;
import org.lethe.model.Model;

/**
 * What the reference model, the base with its adapters off, says of each sequence: one number,
 * computed once before the first step and kept on disk.
 *
 * <p>The file's name carries a hash of the base weights, the storage and the kernels (instruction
 * set, threads, library versions); each entry a hash of its tokens and positions. So an entry is
 * found exactly when it would be computed again to the same bits. Only the backend's thread may
 * call {@link #fill}.
 */
public final class ReferenceCache {
  // A SHA-256 and what Double.toHexString writes.
  private static final Pattern ENTRY =
      Pattern.compile("([0-9a-f]{64})\t(-?(?:0x[01]\\.[0-9a-f]+p-?\\d+|Infinity)|NaN)");

  private final Map<String, Double> entries = new HashMap<>();
  private final Path file;

  private ReferenceCache(Path file) {
    this.file = file;
  }

  /**
   * Opens the cache of a model, reading what a former run left.
   *
   * @param directory where cache files lie; made when absent
   */
  public static ReferenceCache open(Path directory, Model model) {
    try {
      Files.createDirectories(directory);
      ReferenceCache cache =
          new ReferenceCache(
              directory.resolve("reference-" + key(model).substring(0, 32) + ".tsv"));
      if (Files.exists(cache.file)) {
        cache.read();
      }
      return cache;
    } catch (IOException e) {
      throw new EnvironmentException(
          "cannot use the reference cache in "
              + directory
              + " ("
              + e.getMessage()
              + "); make it writable",
          e);
    }
  }

  /**
   * Stands for the cache of a run that is only planned: steps are cut as with one, and nothing can
   * be looked up.
   */
  public static ReferenceCache planned() {
    return new ReferenceCache(null);
  }

  /** Whether a method asks for the reference's sequence nll at all. */
  public static boolean isNeeded(Method method) {
    return method.uses().stream().anyMatch(u -> u.reference() == ReferenceUse.SEQUENCE_NLL);
  }

  /**
   * Computes and stores what the steps of a run need and the cache lacks; returns how many were
   * computed.
   */
  public int fill(Model model, Method method, Iterable<List<StepSequence>> steps) {
    Map<Role, Set<Positions>> wanted = new EnumMap<>(Role.class);
    method.uses().stream()
        .filter(u -> u.reference() == ReferenceUse.SEQUENCE_NLL)
        .forEach(
            u ->
                wanted
                    .computeIfAbsent(u.role(), r -> EnumSet.noneOf(Positions.class))
                    .add(u.positions()));
    Map<Positions, Map<String, TokenSequence>> missing = new EnumMap<>(Positions.class);
    // Epochs bring the same rows: hashing each once is enough.
    Map<Role, Set<TokenSequence>> seen = new EnumMap<>(Role.class);
    wanted.keySet().forEach(role -> seen.put(role, new HashSet<>()));
    for (List<StepSequence> step : steps) {
      for (StepSequence s : step) {
        if (wanted.containsKey(s.role()) && seen.get(s.role()).add(s.tokens())) {
          wanted.get(s.role()).forEach(p -> want(s.tokens(), p, missing));
        }
      }
    }
    int computed = 0;
    for (Map.Entry<Positions, Map<String, TokenSequence>> of : missing.entrySet()) {
      compute(model, of.getKey(), of.getValue());
      computed += of.getValue().size();
    }
    return computed;
  }

  private void want(
      TokenSequence sequence,
      Positions positions,
      Map<Positions, Map<String, TokenSequence>> missing) {
    String key = key(sequence, positions);
    if (!entries.containsKey(key)) {
      missing.computeIfAbsent(positions, p -> new LinkedHashMap<>()).put(key, sequence);
    }
  }

  /** The reference's nll of a sequence, summed over the positions. */
  public double nll(TokenSequence sequence, Positions positions) {
    Double nll = entries.get(key(sequence, positions));
    if (nll == null) {
      throw new InternalFaultException("a sequence of the run is not in the reference cache");
    }
    return nll;
  }

  private void compute(Model model, Positions positions, Map<String, TokenSequence> missing) {
    List<TokenSequence> sequences = new ArrayList<>(missing.values());
    List<String> lines = new ArrayList<>();
    try (Scorer scorer = Scorer.forSequences(model, sequences, false)) {
      List<Scorer.Score> scores = scorer.score(sequences, positions);
      int i = 0;
      for (String key : missing.keySet()) {
        double nll = scores.get(i++).nll();
        entries.put(key, nll);
        lines.add(key + "\t" + Double.toHexString(nll));
      }
    }
    try {
      String text = String.join("\n", lines) + "\n";
      Files.writeString(file, text, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    } catch (IOException e) {
      throw new EnvironmentException(
          "cannot write " + file + " (" + e.getMessage() + "); free disk space and start again", e);
    }
  }

  private void read() throws IOException {
    // One byte a character: whatever is in the file, it is read and its line is counted.
    String text = Files.readString(file, StandardCharsets.ISO_8859_1);
    int number = 0;
    for (int begin = 0; begin < text.length(); ) {
      number++;
      int end = text.indexOf('\n', begin);
      Matcher entry = ENTRY.matcher(text.substring(begin, end < 0 ? text.length() : end));
      // A line without an end was cut off, and what is left of its number may still be one.
      if (end < 0 || !entry.matches()) {
        throw new UserException(
            file
                + ":"
                + number
                + ": not an entry of a reference cache; delete the file, it is computed again");
      }
      entries.put(entry.group(1), Double.valueOf(entry.group(2)));
      begin = end + 1;
    }
  }

  private static String key(TokenSequence sequence, Positions positions) {
    MessageDigest digest = Hashes.sha256();
    digest.update(positions.name().getBytes(StandardCharsets.UTF_8));
    ByteBuffer bytes = ByteBuffer.allocate((sequence.ids().length + 1) * Integer.BYTES);
    bytes.putInt(sequence.answerStart());
    bytes.asIntBuffer().put(sequence.ids());
    digest.update(bytes.array());
    for (TokenSequence.Span span : sequence.spans()) {
      digest.update((span.from() + "-" + span.to() + " ").getBytes(StandardCharsets.UTF_8));
    }
    return HexFormat.of().formatHex(digest.digest());
  }

  /** A hash of what the reference's numbers depend on besides the sequences. */
  private static String key(Model model) {
    return Hashes.sha256(model.ops().backend().description() + "\n" + model.fingerprint());
  }
}
