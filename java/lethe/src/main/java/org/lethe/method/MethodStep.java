package org.lethe.method;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lethe.InternalFaultException;
import org.lethe.UserException;

/**
 * One step of a {@link Method}, fed micro-batch by micro-batch. Neither the loss nor a coefficient
 * depends, to the bit, on how the step is cut, as long as sequences of one pair come together. One
 * thread at a time.
 *
 * <p>A method that {@link Method#measures} is fed twice: all micro-batches through {@link
 * #measure}, then, with the sums of all shares in {@link #measured(double[])}, all through {@link
 * #add}.
 */
public final class MethodStep {
  /**
   * @param weight configured, times what the state says
   * @param count terms of the whole step
   * @param share terms that will be given here
   * @param first index of the loss's first sum among those of the method
   */
  private record Part(
      Loss loss,
      double weight,
      Map<String, Double> state,
      long count,
      long share,
      int first,
      Measured sums,
      ExactSum terms) {
    double value() {
      return loss.scale() * terms.mean(count);
    }
  }

  private final Totals totals;
  private final List<Part> parts = new ArrayList<>();
  private double[] measured;

  MethodStep(Method method, Totals totals, Totals share, Map<String, Double> state) {
    this.totals = totals;
    int sums = 0;
    for (Weighted part : method.losses()) {
      Loss loss = part.loss();
      Map<String, Double> own = Method.stateOf(loss, state);
      parts.add(
          new Part(
              loss,
              part.weight() * loss.weight(own),
              own,
              positive(loss, loss.count(totals)),
              loss.count(share),
              sums,
              new Measured(loss.measures()),
              new ExactSum()));
      sums += loss.measures();
    }
    measured = sums == 0 ? new double[0] : null;
  }

  private static long positive(Loss loss, long count) {
    if (count == 0) {
      throw new UserException(
          loss.name()
              + " looks at no row of a step: its options pick none of rows so short; change them"
              + " (method.forget_options), or give longer answers or larger batches");
    }
    return count;
  }

  /** Takes a micro-batch's part of the sums that losses ask for ahead. */
  public void measure(RowStatistics rows, List<Sequence> sequences) {
    requireInside(rows, sequences);
    for (Part part : parts) {
      if (part.loss().measures() > 0) {
        double[] unknown = new double[part.loss().measures()];
        Arrays.fill(unknown, Double.NaN);
        Observed seen = new Observed(rows, sequences, totals, part.state(), unknown);
        part.loss().measure(seen, part.sums());
      }
    }
  }

  /** The sums of the micro-batches that were measured, of all losses. */
  public double[] measured() {
    List<Double> sums = new ArrayList<>();
    for (Part part : parts) {
      for (int i = 0; i < part.sums().size(); i++) {
        sums.add(part.sums().value(i));
      }
    }
    return sums.stream().mapToDouble(Double::doubleValue).toArray();
  }

  /** Gives the sums of the whole step, as {@link #measured()} has them of this share. */
  public void measured(double[] ofStep) {
    measured = ofStep.clone();
  }

  /**
   * Takes a micro-batch.
   *
   * @param rows the statistics of its rows
   * @param sequences its sequences, of every role
   * @return the coefficient of each row, the objective's derivative with respect to the row's
   *     scalar (see {@link RowKind}); 0 for a row that no loss looks at
   * @throws InternalFaultException when a sequence lies outside the rows, or lacks its twin, or
   *     sums that a loss asks for were not given
   */
  public double[] add(RowStatistics rows, List<Sequence> sequences) {
    requireInside(rows, sequences);
    if (measured == null) {
      throw new InternalFaultException("A step was given terms before its sums");
    }
    double[] coefficients = new double[rows.rows()];
    for (Part part : parts) {
      double factor = part.weight() * part.loss().scale() / part.count();
      int first = part.first();
      double[] sums = Arrays.copyOfRange(measured, first, first + part.loss().measures());
      part.loss()
          .evaluate(
              new Observed(rows, sequences, totals, part.state(), sums),
              new Accumulator(part.terms(), factor, coefficients));
    }
    return coefficients;
  }

  private static void requireInside(RowStatistics rows, List<Sequence> sequences) {
    for (Sequence sequence : sequences) {
      if ((long) sequence.firstRow() + sequence.rows() > rows.rows()) {
        throw new InternalFaultException(sequence + " lies outside the " + rows.rows() + " rows");
      }
    }
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
   * Each loss's own value by name, before its weights.
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
