package org.lethe.bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.lethe.UserException;
import org.lethe.data.TokenSequence;
import org.lethe.method.Method;
import org.lethe.method.Role;
import org.lethe.method.Use;
import org.lethe.train.StepSequence;

/** Rows of a step: those that {@code bench/peers/make_rows.py} writes, or some like them. */
final class Rows {
  private static final long SEED = 11;
  private static final double MEDIAN_TOKENS = 100;

  /** Of the lengths' logarithm. */
  private static final double DEVIATION = 0.35;

  private Rows() {}

  /** The batches of a file, each with the sequences of the roles that the method looks at. */
  static List<List<StepSequence>> read(Path file, Method method) {
    Set<Role> roles = EnumSet.noneOf(Role.class);
    method.uses().stream().map(Use::role).forEach(roles::add);
    JsonNode document;
    try {
      document = new ObjectMapper().readTree(file.toFile());
    } catch (IOException e) {
      throw new UserException(file + " cannot be read; make it with bench/peers/make_rows.py", e);
    }
    List<List<StepSequence>> batches = new ArrayList<>();
    for (JsonNode batch : document.path("batches")) {
      List<StepSequence> step = new ArrayList<>();
      for (JsonNode s : batch) {
        Role role = Role.valueOf(s.path("role").asText());
        if (roles.contains(role)) {
          step.add(sequence(role, s));
        }
      }
      batches.add(step);
    }
    if (batches.isEmpty()) {
      throw new UserException(file + " holds no batches; make it with bench/peers/make_rows.py");
    }
    return batches;
  }

  /**
   * A step of random tokens in rows as long as TOFU's: some hundred tokens, two fifths of them the
   * question.
   *
   * @param pairs rows of each role that the method looks at
   */
  static List<StepSequence> likeTofu(Method method, int vocabulary, int pairs) {
    Set<Role> roles = EnumSet.noneOf(Role.class);
    method.uses().stream().map(Use::role).forEach(roles::add);
    Random random = new Random(SEED);
    List<StepSequence> step = new ArrayList<>();
    for (Role role : roles) {
      for (int pair = 0; pair < pairs; pair++) {
        double length = MEDIAN_TOKENS * Math.exp(DEVIATION * random.nextGaussian());
        int[] ids = random.ints(Math.max(6, Math.round(length)), 3, vocabulary).toArray();
        TokenSequence tokens = new TokenSequence(ids, 2 * ids.length / 5);
        step.add(new StepSequence(role, pair, tokens, role + " " + pair));
      }
    }
    return step;
  }

  private static StepSequence sequence(Role role, JsonNode s) {
    JsonNode node = s.path("ids");
    int[] ids = new int[node.size()];
    for (int i = 0; i < ids.length; i++) {
      ids[i] = node.get(i).asInt();
    }
    int pair = s.path("pair").asInt();
    TokenSequence tokens = new TokenSequence(ids, s.path("answer_start").asInt());
    return new StepSequence(role, pair, tokens, role + " " + pair);
  }
}
