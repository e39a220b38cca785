package org.lethe.run;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.lethe.UserException;
import org.lethe.config.Config;
import org.lethe.config.Grid;
import org.lethe.config.LoraSection;
import org.lethe.config.RunConfig;
import org.lethe.evaluate.Evaluation;
import org.lethe.method.Method;
import org.lethe.train.Step;

/** What a sweep is to do: a configuration per combination of the grid's values. */
final class SweepPlan {
  /** Stands for {@code method.forget} and {@code method.retain} together: FORGET+RETAIN. */
  static final String METHOD = "method";

  /** Keys that the sweep sets itself, or that an unlearning does not look at. */
  private static final Set<String> FIXED =
      Set.of("output", "overwrite", "version", "phases", "scratch");

  private final RunConfig base;
  private final Grid grid;
  private final List<SweepCell> cells = new ArrayList<>();

  private SweepPlan(RunConfig base, Grid grid) {
    this.base = base;
    this.grid = grid;
  }

  /**
   * Makes all configurations, and checks of each what needs no model.
   *
   * @param base its output is the directory of the whole sweep
   * @param most runs that there may be
   * @throws UserException naming the run and the key that is wrong
   */
  static SweepPlan of(RunConfig base, Grid grid, int most) {
    if (grid.axes().isEmpty()) {
      throw new UserException(
          "there is no grid; give one, for example --grid method=ME+GD,NPO+GD --grid"
              + " method.forget_coefficient=0.1,0.5,1");
    }
    if (grid.size() > most) {
      throw new UserException(
          "the grid has "
              + grid.size()
              + " combinations, and a sweep may have "
              + most
              + " runs; give fewer values, or allow more by --max");
    }
    SweepPlan plan = new SweepPlan(base, grid);
    plan.requireKeys();
    plan.add(List.of());
    plan.requireDistinct();
    return plan;
  }

  List<SweepCell> cells() {
    return cells;
  }

  RunConfig base() {
    return base;
  }

  Grid grid() {
    return grid;
  }

  private void requireKeys() {
    List<String> keys = grid.axes().stream().map(Grid.Axis::key).toList();
    for (String key : keys) {
      if (FIXED.contains(key.split("\\.", -1)[0])) {
        throw new UserException(
            "grid: " + key + " cannot be swept; give keys of method, train, lora or data");
      }
      if (keys.contains(METHOD) && (key.equals("method.forget") || key.equals("method.retain"))) {
        throw new UserException(
            "grid: method names both losses, so " + key + " cannot be swept beside it; drop one");
      }
    }
  }

  /** One value per axis; the last axis changes fastest. */
  private void add(List<Grid.Value> values) {
    if (values.size() == grid.axes().size()) {
      cells.add(cell(cells.size() + 1, values));
      return;
    }
    for (Grid.Value value : grid.axes().get(values.size()).values()) {
      List<Grid.Value> more = new ArrayList<>(values);
      more.add(value);
      add(more);
    }
  }

  private SweepCell cell(int number, List<Grid.Value> values) {
    List<String> overrides = new ArrayList<>();
    List<String> names = new ArrayList<>();
    Map<String, String> texts = new LinkedHashMap<>();
    for (int i = 0; i < values.size(); i++) {
      String key = grid.axes().get(i).key();
      Grid.Value value = values.get(i);
      texts.put(key, value.text());
      if (key.equals(METHOD)) {
        names.add(value.text());
        overrides.addAll(losses(value.text()));
      } else {
        names.add(shortKey(key) + "=" + value.text());
        overrides.add(key + "=" + value.yaml());
      }
    }
    String name = String.join(" ", names);
    String where = "run " + number + " (" + name + "): ";
    try {
      RunConfig inside = Config.with(base, RunConfig.class, overrides);
      requireRunnable(inside);
      overrides.add(
          "output=" + quote(base.output().resolve(SweepCell.directory(number, name)).toString()));
      return new SweepCell(number, name, texts, Config.with(base, RunConfig.class, overrides));
    } catch (UserException e) {
      throw new UserException(where + e.getMessage(), e);
    }
  }

  /** The last part of a key, unless another axis ends on it, too. */
  private String shortKey(String key) {
    String last = key.substring(key.lastIndexOf('.') + 1);
    boolean alone =
        grid.axes().stream().filter(a -> ("." + a.key()).endsWith("." + last)).count() == 1;
    return alone ? last : key;
  }

  private static List<String> losses(String method) {
    String[] names = method.split("\\+", -1);
    if (names.length != 2 || names[0].isBlank() || names[1].isBlank()) {
      throw new UserException(
          "grid: method '" + method + "' is not FORGET+RETAIN; write ME+GD, or GA+none");
    }
    return List.of(
        "method.forget=" + quote(names[0].strip()), "method.retain=" + quote(names[1].strip()));
  }

  /** What Unlearn would refuse without looking at the model. */
  private static void requireRunnable(RunConfig config) {
    if (config.lora().start() == LoraSection.Start.FRESH) {
      FineTune.refuseAdapter(config, "unlearn");
    }
    Settings.requireTrainable(config);
    Method method = Settings.method(config.method());
    Step.requireReference(method, config.train().fullParameters());
    Inputs.requireOutside(config);
    LoadedModel.modelDirectory(config);
    config.evaluate().neverSaw().ifPresent(Evaluation::read);
  }

  /** Values that differ as texts can mean the same, such as 1 and 1.0. */
  private void requireDistinct() {
    Map<String, SweepCell> seen = new HashMap<>();
    for (SweepCell cell : cells) {
      RunConfig anywhere =
          Config.with(
              cell.config(), RunConfig.class, List.of("output=" + quote(base.output().toString())));
      SweepCell same = seen.put(Config.toYaml(anywhere), cell);
      if (same != null) {
        throw new UserException(
            "grid: run "
                + same.number()
                + " ("
                + same.name()
                + ") and run "
                + cell.number()
                + " ("
                + cell.name()
                + ") are the same run; give each value once");
      }
    }
  }

  private static String quote(String text) {
    return "'" + text.replace("'", "''") + "'";
  }
}
