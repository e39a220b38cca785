package org.lethe.bench.scaling;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.Consumer;
import org.lethe.EnvironmentException;
import org.lethe.NativeException;
import org.lethe.kernels.Ops;

/**
 * Measures curves until their time is over. A point that memory or time do not allow is told with
 * its reason and is never left out in silence.
 */
final class Measurement {
  private static final int MOST_SAMPLES = 100;
  private static final double SAMPLING_SECONDS = 0.5;

  /** A later curve may use what an earlier one left; none takes more than twice its share. */
  private static final double SHARE = 2;

  private final Ops ops;
  private final long memory;
  private final long deadline;
  private final Consumer<String> progress;

  /**
   * @param memory bytes that a point may take
   * @param seconds for all curves
   */
  Measurement(Ops ops, long memory, double seconds, Consumer<String> progress) {
    this.ops = ops;
    this.memory = memory;
    this.deadline = System.nanoTime() + (long) (seconds * 1e9);
    this.progress = progress;
  }

  /**
   * A curve and its points.
   *
   * @param curve what was measured
   * @param points one for each of its sizes
   */
  record Measured(Curve curve, List<Point> points) {
    Measured {
      points = List.copyOf(points);
    }
  }

  /**
   * Measures them in their order.
   *
   * @param done is given what there is after each: a curve that fails, or a device that hangs,
   *     takes none of those before it along
   */
  List<Measured> run(List<Curve> curves, Consumer<List<Measured>> done) {
    List<Measured> all = new ArrayList<>();
    for (int i = 0; i < curves.size(); i++) {
      double left = secondsLeft(deadline);
      int waiting = curves.size() - i;
      double share = waiting == 1 ? left : Math.min(left, SHARE * left / waiting);
      all.add(new Measured(curves.get(i), points(curves.get(i), share)));
      done.accept(List.copyOf(all));
    }
    return all;
  }

  private static double secondsLeft(long until) {
    return (until - System.nanoTime()) / 1e9;
  }

  private List<Point> points(Curve curve, double seconds) {
    long end = System.nanoTime() + (long) (seconds * 1e9);
    List<Point> points = new ArrayList<>();
    double wallPerFlop = 0;
    for (Sizes sizes : curve.sizes()) {
      double x = curve.x(sizes);
      double flops = curve.subject().flops(sizes);
      double expected = wallPerFlop * flops;
      Point point;
      long began = System.nanoTime();
      long bytes = curve.subject().bytes(ops, sizes);
      if (bytes > memory) {
        point =
            notRun(
                x, flops, bytes, "takes %.1f GB, %.1f GB may be used", bytes / 1e9, memory / 1e9);
      } else if (expected > 0 && expected > secondsLeft(end)) {
        point =
            notRun(
                x,
                flops,
                bytes,
                "would take some %.0f s, %.0f s are left for this curve",
                expected,
                Math.max(0, secondsLeft(end)));
      } else {
        point = measured(curve, sizes, x, flops, bytes);
        // Growth of the whole point, its making and its check included.
        wallPerFlop = point.ran() ? -secondsLeft(began) / flops : wallPerFlop;
      }
      points.add(point);
      progress.accept(line(curve, point));
    }
    return points;
  }

  private static Point notRun(double x, double flops, long bytes, String why, Object... values) {
    return Point.notRun(x, flops, bytes, String.format(Locale.ROOT, why, values));
  }

  private Point measured(Curve curve, Sizes sizes, double x, double flops, long bytes) {
    try (Subject.Prepared work = curve.subject().prepare(ops, sizes)) {
      work.call();
      ops.backend().synchronize();
      List<Double> ms = new ArrayList<>();
      double spent = 0;
      while (ms.isEmpty() || (ms.size() < MOST_SAMPLES && spent < SAMPLING_SECONDS)) {
        long start = System.nanoTime();
        work.call();
        ops.backend().synchronize();
        double taken = -secondsLeft(start);
        ms.add(taken * 1e3);
        spent += taken;
      }
      work.check();
      double[] all = ms.stream().mapToDouble(Double::doubleValue).toArray();
      return Point.of(x, all, flops, bytes);
    } catch (NativeException e) {
      if (!e.isOutOfMemory()) {
        throw e;
      }
      return Point.notRun(x, flops, bytes, "the device's memory ran out");
    } catch (EnvironmentException e) {
      return Point.notRun(x, flops, bytes, e.getMessage());
    }
  }

  private static String line(Curve curve, Point p) {
    String place = String.format(Locale.ROOT, "%-18s %10s ", curve.name(), Fit.whole(p.x()));
    return place
        + (p.ran()
            ? String.format(
                Locale.ROOT, "%12.3f ms %10.1f GFLOP/s", p.median(), p.gflop() / p.median() * 1e3)
            : "NOT RUN: " + p.why());
  }
}
