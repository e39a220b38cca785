package org.lethe.run;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterArithmetic;
import org.lethe.checkpoint.OutputDirectory;
import org.lethe.config.CalibrateSection;
import org.lethe.config.RunConfig;
import org.lethe.evaluate.Evaluation;
import org.lethe.model.Model;
import org.lethe.model.View;

/**
 * How much of an adapter can be kept: θ(u) = u·before + (1 − u)·after with the least u at which a
 * score of what is to be kept reaches a share of the original model's. Unlearning methods are then
 * compared by what the model at that u still gives away, since each has paid the same price.
 *
 * <p>"Towards Effective Evaluations and Comparisons for LLM Unlearning Methods" (arXiv 2406.09179,
 * UWC); {@code model_mix} and {@code ps_p} of tmlr-group/Unlearning-with-Control,
 * evaluation_everything.py. Under LoRA the mixture is the adapter times 1 − u, exactly. The
 * published code leaves the choice of u to its user; here every multiple of a step is tried upwards
 * from 0, so a score that is not monotone in u gives the least u, too.
 */
public final class Calibrate {
  /**
   * One mixture.
   *
   * @param u share of the original model
   */
  public record Tried(double u, Evaluation evaluation) {}

  /**
   * What was found.
   *
   * @param original the model without the adapter
   * @param bar the score that must be reached
   * @param tried upwards from u = 0; the last one reaches the bar
   */
  public record Result(Evaluation original, double bar, List<Tried> tried) {
    /** The mixture that was chosen. */
    public Tried chosen() {
      return tried.get(tried.size() - 1);
    }
  }

  private Calibrate() {}

  /**
   * Calibrates the configured adapter and writes {@code calibration.json}, {@code evaluation.json}
   * of the chosen mixture, and that mixture as {@code adapter/}.
   */
  public static Result runAndWrite(RunConfig config, RunListener listener) {
    Path adapter =
        config
            .adapter()
            .orElseThrow(
                () ->
                    new UserException(
                        "adapter is not set; give the adapter that is to be calibrated"));
    OutputDirectory.check(config.output(), config.overwrite(), 0);
    Inputs.requireOutside(config);
    Result result;
    try (LoadedModel loaded = LoadedModel.open(config)) {
      loaded.loadAdapter(config);
      result = run(config, loaded, listener);
    }
    OutputDirectory.write(
        config.output(),
        config.overwrite(),
        0,
        out -> {
          out.writeString("calibration.json", json(config.calibrate(), result));
          out.writeString("evaluation.json", result.chosen().evaluation().json());
        });
    AdapterArithmetic.write(
        List.of(new AdapterArithmetic.Summand(adapter, 1 - result.chosen().u())),
        LoadedModel.modelDirectory(config).toString(),
        config.output().resolve("adapter"),
        true);
    return result;
  }

  private static Result run(RunConfig config, LoadedModel loaded, RunListener listener) {
    CalibrateSection c = config.calibrate();
    Evaluation original = Evaluate.run(config, loaded, false, listener).evaluation();
    Double before = original.byName().get(c.score());
    if (before == null) {
      throw new UserException(
          "calibrate.score is "
              + c.score()
              + ", which this evaluation does not give; it gives "
              + original.byName().keySet());
    }
    double bar = c.atLeast() * before;
    Model model = loaded.model();
    List<Tried> tried = new ArrayList<>();
    int steps = (int) Math.ceil(1 / c.step() - 1e-9);
    for (int i = 0; i <= steps; i++) {
      double u = Math.min(1, i * c.step());
      View mixture = model.reference().plus(model.lora(), 1 - u);
      Evaluation evaluation = Evaluate.run(config, loaded, mixture, listener).evaluation();
      tried.add(new Tried(u, evaluation));
      double score = evaluation.byName().get(c.score());
      listener.note("u = " + (float) u + ": " + c.score() + " " + (float) score);
      // At u = 1 it is the original, to the bit.
      if (score >= bar) {
        break;
      }
    }
    return new Result(original, bar, List.copyOf(tried));
  }

  private static String json(CalibrateSection c, Result result) {
    ObjectMapper mapper = new ObjectMapper().enable(SerializationFeature.INDENT_OUTPUT);
    ObjectNode node = mapper.createObjectNode();
    node.put("score", c.score())
        .put("original", result.original().byName().get(c.score()))
        .put("bar", result.bar())
        .put("u", result.chosen().u());
    ArrayNode tried = node.putArray("tried");
    for (Tried t : result.tried()) {
      tried.addObject().put("u", t.u()).set("scores", mapper.valueToTree(t.evaluation().byName()));
    }
    try {
      return mapper.writeValueAsString(node) + "\n";
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
