package org.lethe.method;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/** The guide to all losses, made of what they say of themselves. */
public final class MethodGuide {
  private static final String HEAD =
      """
      # Methods

      Made from the losses themselves (`MethodGuide`); a test holds it up to date. An objective is
      `forget_coefficient` times a forget loss plus `retain_coefficient` times a retain loss:

          method: {forget: NPO, forget_options: {beta: 0.1}, retain: KL, forget_coefficient: 1}

      Rows are positions of a sequence that predict a token; `nll` is minus the log-probability of
      that token, `_ref` says "of the base, its adapters off". Means are over the whole step,
      however it is cut; padding does not exist. Positions: `answer` (rows that predict the answer
      and its end), `all` (question too), `spans` (marked tokens), `answer_unshifted` (one row
      later), `every` (`all` and the last row, which predicts nothing known). Passes are those of a
      step, in sequences per pair: forward and backward, and forward alone of the reference; a
      reference that is one number per sequence is cached before the first step.

      """;

  private MethodGuide() {}

  /** The guide, as Markdown. */
  public static String markdown() {
    StringBuilder out = new StringBuilder(HEAD);
    for (Side side : Side.values()) {
      out.append("## ").append(side == Side.FORGET ? "Forget" : "Retain").append(" losses\n\n");
      out.append("| name | reduction | positions | passes | reference | coefficient | source |\n");
      out.append("|---|---|---|---|---|---|---|\n");
      Methods.of(side).forEach(spec -> out.append(row(spec)));
      out.append('\n');
    }
    for (LossSpec spec : Methods.all()) {
      out.append(section(spec));
    }
    return out.toString();
  }

  /** The names of a side, for help texts. */
  public static List<String> names(Side side) {
    return Methods.of(side).stream().map(LossSpec::name).toList();
  }

  private static String row(LossSpec spec) {
    List<Use> uses = uses(spec);
    Set<String> positions = new LinkedHashSet<>();
    uses.forEach(use -> positions.add(lower(use.positions())));
    return "| ["
        + spec.name()
        + "](#"
        + anchor(spec)
        + ") | "
        + cell(spec.reduction())
        + " | "
        + String.join(", ", positions)
        + " | "
        + passes(spec, uses)
        + " | "
        + reference(uses)
        + " | "
        + number(spec.coefficient())
        + " | "
        + cell(spec.source())
        + " |\n";
  }

  private static String section(LossSpec spec) {
    StringBuilder out = new StringBuilder();
    out.append("### ").append(spec.name()).append("\n\n");
    out.append(sentence(spec.title()));
    if (spec.whole()) {
      out.append(" A complete objective: set `retain: none`.");
    }
    out.append("\n\n    ").append(spec.formula()).append("\n\n");
    out.append("Reduction: ").append(spec.reduction()).append(". ");
    out.append("Source: ").append(spec.source()).append(". ");
    out.append("Coefficient ")
        .append(number(spec.coefficient()))
        .append(" (")
        .append(spec.coefficientSource())
        .append(").\n\n");
    if (!spec.note().isEmpty()) {
      out.append("Where sources differ: ").append(spec.note()).append(".\n\n");
    }
    if (!spec.options().isEmpty()) {
      out.append("| option | meaning | values | default | the default comes from |\n");
      out.append("|---|---|---|---|---|\n");
      for (Option o : spec.options()) {
        List<String> cells =
            List.of("`" + o.name() + "`", o.meaning(), o.range(), o.standard(), o.source());
        out.append("| ")
            .append(String.join(" | ", cells.stream().map(MethodGuide::cell).toList()))
            .append(" |\n");
      }
      out.append('\n');
    }
    return out.toString();
  }

  private static List<Use> uses(LossSpec spec) {
    List<Use> uses = new ArrayList<>();
    spec.losses(Map.of()).forEach(part -> uses.addAll(part.loss().uses()));
    return uses;
  }

  private static String passes(LossSpec spec, List<Use> uses) {
    Set<Role> trained = new TreeSet<>();
    Set<Role> compared = new TreeSet<>();
    for (Use use : uses) {
      trained.add(use.role());
      if (use.reference() == ReferenceUse.HIDDEN) {
        compared.add(use.role());
      }
    }
    boolean measures = spec.losses(Map.of()).stream().anyMatch(p -> p.loss().measures() > 0);
    return trained.size()
        + (compared.isEmpty() ? "" : " + " + compared.size() + " forward")
        + (measures ? " (twice forward with several micro-batches)" : "");
  }

  private static String reference(List<Use> uses) {
    Set<String> kinds = new LinkedHashSet<>();
    for (Use use : uses) {
      switch (use.reference()) {
        case NONE -> {}
        case SEQUENCE_NLL -> kinds.add("nll per sequence");
        case HIDDEN ->
            kinds.add(use.view().equals(Use.BASE) ? "hidden states" : "view " + use.view());
      }
    }
    return kinds.isEmpty() ? "none" : String.join(", ", kinds);
  }

  private static String anchor(LossSpec spec) {
    return spec.name().toLowerCase(Locale.ROOT).replaceAll("[^a-z0-9_-]", "");
  }

  private static String sentence(String phrase) {
    return phrase.substring(0, 1).toUpperCase(Locale.ROOT) + phrase.substring(1) + ".";
  }

  private static String lower(Enum<?> value) {
    return value.name().toLowerCase(Locale.ROOT);
  }

  private static String number(double value) {
    return value == StrictMath.rint(value) ? Long.toString((long) value) : Double.toString(value);
  }

  /** A vertical bar would end the cell. */
  private static String cell(String text) {
    return text.replace("|", "\\|");
  }
}
