package org.lethe.nd4j;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import org.lethe.UserException;
import org.lethe.kernels.Buffer;
import org.lethe.model.Layout;
import org.lethe.model.Model;
import org.lethe.model.Parameter;
import org.lethe.model.Trainable;
import org.lethe.train.StepReport;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;
import org.nd4j.linalg.indexing.NDArrayIndex;

/**
 * What a {@link TrainingListener} may ask about the model that trains, under the names that DL4J's
 * {@code Model} uses. Good during the call that hands it over, on that call's thread.
 *
 * <p>Parameters are those that train: the adapters, or every weight of a model that trains whole.
 * They are copied when asked for, once and straight into the array, as the fp32 masters that the
 * optimizer keeps; writing to them changes nothing in the model.
 */
public final class TrainedModel {
  private final Model model;
  private StepReport report;
  private String phase = "";
  private int iterationCount;
  private int epochCount;

  /**
   * @param model null when nobody gave one
   */
  TrainedModel(Model model) {
    this.model = model;
  }

  /** The objective of the last step, before its update; NaN before the first. */
  public double score() {
    return report == null ? Double.NaN : report.loss();
  }

  /** Everything that Lethe says about the last step; empty before the first. */
  public Optional<StepReport> report() {
    return Optional.ofNullable(report);
  }

  /** The phase's name, such as {@code "unlearn NPO+GD"}; "" when none was announced. */
  public String phase() {
    return phase;
  }

  /** The number of the last step, or of the next one before the first: from 0, over all phases. */
  public int iterationCount() {
    return iterationCount;
  }

  /** The number of the current epoch, from 0, over all phases. */
  public int epochCount() {
    return epochCount;
  }

  /** How many numbers train. */
  public long numParams() {
    return trainable().layout().count();
  }

  /** A snapshot of all parameters, FLOAT [{@link #numParams}], one tensor after the other. */
  public INDArray params() {
    Trainable trainable = trainable();
    return flat(trainable, trainable.master());
  }

  /**
   * A snapshot of the parameters by name, as PEFT (or Hugging Face) spells them, in the order of
   * {@link #params}: views of one array, FLOAT, of the tensors' own shapes.
   */
  public Map<String, INDArray> paramTable() {
    return table(trainable().layout(), params());
  }

  /**
   * The last step's gradients, before the clip, as {@link #paramTable} is laid out; zeros before
   * the first step.
   */
  public Map<String, INDArray> gradientTable() {
    Trainable trainable = trainable();
    return table(trainable.layout(), flat(trainable, trainable.gradients()));
  }

  void begin(String name, int iteration, int epoch) {
    phase = name;
    iterationCount = iteration;
    epochCount = epoch;
  }

  void done(StepReport last, int iteration, int epoch) {
    report = last;
    iterationCount = iteration;
    epochCount = epoch;
  }

  private Trainable trainable() {
    if (model == null) {
      throw new UserException(
          "this listener was given no model to take parameters from; make the Nd4jRunListener with"
              + " the model that the trainer has");
    }
    Trainable trainable = model.trainable();
    if (trainable == null) {
      throw new UserException("this model is frozen: nothing trains; add adapters to it first");
    }
    return trainable;
  }

  private static INDArray flat(Trainable trainable, long first) {
    INDArray all = Nd4j.createUninitialized(DataType.FLOAT, trainable.layout().count());
    try (Buffer target = Nd4jArrays.buffer(trainable.ops().backend(), all)) {
      long done = 0;
      for (Parameter parameter : trainable.layout().parameters().values()) {
        long bytes = parameter.elements() * Float.BYTES;
        trainable.ops().copy(target.at(done), first + parameter.offset() * Float.BYTES, bytes);
        done += bytes;
      }
    }
    return all;
  }

  private static Map<String, INDArray> table(Layout layout, INDArray flat) {
    Map<String, INDArray> table = new LinkedHashMap<>();
    long done = 0;
    for (Parameter parameter : layout.parameters().values()) {
      long end = done + parameter.elements();
      INDArray values = flat.get(NDArrayIndex.interval(done, end));
      table.put(parameter.name(), values.reshape('c', parameter.shape()));
      done = end;
    }
    return Collections.unmodifiableMap(table);
  }
}
