package org.lethe.method;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lethe.InternalFaultException;

/**
 * One step of a {@link Method}, fed micro-batch by micro-batch. Neither the loss nor a coefficient
 * depends, to the bit, on how the step is cut, as long as sequences of one pair come together. One
 * thread at a time.
 */
public final class MethodStep {
  /**
   * @param count terms of the whole step
   * @param share terms that will be given here
   */
  private record Part(Loss loss, double weight, long count, long share, ExactSum terms) {
    double value() {
      return loss.scale() * terms.mean(count);
    }
  }

  private final List<Part> parts = new ArrayList<>();

  MethodStep(Method method, Totals totals, Totals share) {
    method.forget().ifPresent(loss -> add(loss, method.forgetCoefficient(), totals, share));
    method.retain().ifPresent(loss -> add(loss, method.retainCoefficient(), totals, share));
  }

  private void add(Loss loss, double weight, Totals totals, Totals share) {
    parts.add(new Part(loss, weight, loss.count(totals), loss.count(share), new ExactSum()));
  }

  /**
   * Takes a micro-batch.
   *
   * @param rows the statistics of its rows
   * @param sequences its sequences, of every role
   * @return the coefficient of each row, the objective's derivative with respect to the row's
   *     scalar (see {@link RowKind}); 0 for a row that no loss looks at
   * @throws InternalFaultException when a sequence lies outside the rows, or lacks its twin
   */
  public double[] add(RowStatistics rows, List<Sequence> sequences) {
    for (Sequence sequence : sequences) {
      if ((long) sequence.firstRow() + sequence.rows() > rows.rows()) {
        throw new InternalFaultException(sequence + " lies outside the " + rows.rows() + " rows");
      }
    }
    double[] coefficients = new double[rows.rows()];
    for (Part part : parts) {
      double factor = part.weight() * part.loss().scale() / part.count();
      part.loss().evaluate(rows, sequences, new Accumulator(part.terms(), factor, coefficients));
    }
    return coefficients;
  }

  /**
   * The objective, once all micro-batches were taken; not finite as soon as one statistic that it
   * looks at is not.
   *
   * @throws InternalFaultException when micro-batches are missing, or too many
   */
  public double loss() {
    double loss = 0;
    for (Part part : parts) {
      loss += part.weight() * checked(part).value();
    }
    return loss;
  }

  /**
   * Each loss's own value by name, before its coefficient, forget first.
   *
   * @throws InternalFaultException when micro-batches are missing, or too many
   */
  public Map<String, Double> parts() {
    Map<String, Double> values = new LinkedHashMap<>();
    for (Part part : parts) {
      values.put(part.loss().name(), checked(part).value());
    }
    return values;
  }

  private static Part checked(Part part) {
    if (part.terms().count() != part.share()) {
      throw new InternalFaultException(
          "A step of "
              + part.share()
              + " terms of "
              + part.loss().name()
              + " was given "
              + part.terms().count());
    }
    return part;
  }
}
