package org.lethe.run;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.lethe.UserException;
import org.lethe.config.RunConfig;
import org.lethe.data.AnchorDictionary;
import org.lethe.data.Counterpart;
import org.lethe.data.Example;
import org.lethe.data.TokenSequence;
import org.lethe.method.Method;
import org.lethe.method.Role;
import org.lethe.method.Targets;
import org.lethe.train.HardTargets;
import org.lethe.train.StepSequence;

/** What "Who's Harry Potter" learns in place of the forget rows. */
final class GenericTargets {
  private GenericTargets() {}

  /** A sequence for each forget row; none when the method is another. */
  static Map<Example, StepSequence> of(
      RunConfig config, Method method, List<Example> forget, LoadedModel loaded) {
    Optional<Targets.Generic> generic = Targets.generic(Settings.methodConfig(config.method()));
    if (generic.isEmpty() || method.uses().stream().noneMatch(u -> u.role() == Role.TARGET)) {
      return Map.of();
    }
    boolean translated = generic.get().translated();
    if (translated && config.data().anchors().isEmpty()) {
      throw new UserException(
          "method.forget is WHP, whose base reads the translated text; give data.anchors a JSON"
              + " object of names and their replacements, or set"
              + " method.forget_options.baseline=original");
    }
    Optional<AnchorDictionary> anchors =
        translated ? config.data().anchors().map(AnchorDictionary::read) : Optional.empty();
    List<Example> rows = forget.stream().distinct().toList();
    List<StepSequence> made = new ArrayList<>();
    for (Example row : rows) {
      TokenSequence own = loaded.encoder().encode(row);
      StepSequence sequence = new StepSequence(Role.TARGET, made.size(), own, row.source());
      made.add(
          anchors.isEmpty()
              ? sequence
              : sequence.with(counterpart(anchors.get(), row, own, loaded)));
    }
    List<StepSequence> targets =
        generic.get().hard()
            ? HardTargets.label(loaded.model(), made, generic.get().alpha(), translated)
            : made;
    Map<Example, StepSequence> byRow = new LinkedHashMap<>();
    for (int i = 0; i < rows.size(); i++) {
      byRow.put(rows.get(i), targets.get(i));
    }
    return byRow;
  }

  private static Counterpart counterpart(
      AnchorDictionary anchors, Example row, TokenSequence own, LoadedModel loaded) {
    int[] translated =
        loaded
            .encoder()
            .encode(
                anchors.translate(row.question()).text(),
                anchors.translate(row.answer()).text(),
                row.source())
            .ids();
    return Counterpart.translated(loaded.tokenizer(), anchors, own.ids(), translated, row.source());
  }
}
