package org.lethe.train;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.Role;
import org.lethe.method.Use;
import org.lethe.model.Goldens;
import org.lethe.model.Model;

/** Steps on the tiny golden model: three forget and three retain rows, each with a refusal. */
final class GoldenSteps {
  private static final int CONTEXT = 64;

  private GoldenSteps() {}

  static Model model(Backend backend, Dtype dtype) {
    return ModelDirectory.load(new Ops(backend, dtype), Goldens.path("llama-tiny"), CONTEXT);
  }

  /** All twelve sequences; each source names its role and pair. */
  static List<StepSequence> all() {
    List<StepSequence> sequences = new ArrayList<>();
    for (JsonNode s : Goldens.json("llama-tiny/lora_step.json").get("sequences")) {
      int[] ids =
          StreamSupport.stream(s.get("ids").spliterator(), false)
              .mapToInt(JsonNode::asInt)
              .toArray();
      Role role = Role.valueOf(s.get("role").asText());
      int pair = s.get("pair").asInt();
      sequences.add(
          new StepSequence(
              role,
              pair,
              new TokenSequence(ids, s.get("answerStart").asInt()),
              role + ".jsonl:" + (pair + 1)));
    }
    return sequences;
  }

  /** The sequences that a method looks at. */
  static List<StepSequence> of(Method method) {
    Set<Role> roles = method.uses().stream().map(Use::role).collect(Collectors.toSet());
    return all().stream().filter(s -> roles.contains(s.role())).toList();
  }

  /** The same step again and again. */
  static BatchSource repeated(List<StepSequence> step) {
    return new BatchSource() {
      @Override
      public int stepsPerEpoch() {
        return 1;
      }

      @Override
      public List<StepSequence> step(int index) {
        return step;
      }
    };
  }

  /** Plain settings with a token budget and an answer to what is not finite. */
  static TrainSettings settings(
      int steps, double learningRate, int tokens, TrainSettings.OnNonFinite onNonFinite) {
    return new TrainSettings(
        steps, learningRate, Schedule.CONSTANT, 0, 0.9, 0.999, 1e-8, 0.01, 1, tokens, onNonFinite);
  }
}
