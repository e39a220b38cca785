package org.lethe.metric;

import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import java.util.zip.GZIPInputStream;
import org.lethe.model.Goldens;

/**
 * The numbers of a published evaluation log; {@code tests/oracle/extract_logs.py} took them out.
 */
record PublishedLog(JsonNode root) {
  static PublishedLog read(String name) {
    try (InputStream file = Files.newInputStream(Goldens.path("logs/" + name + ".json.gz"));
        GZIPInputStream text = new GZIPInputStream(file)) {
      return new PublishedLog(new ObjectMapper().readTree(text));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** What is printed for all rows of a metric together. */
  double printed(String metric) {
    JsonNode value = root.path(metric).path("agg_value");
    assertTrue(value.isNumber(), metric);
    return value.doubleValue();
  }

  double[] column(String metric, String number) {
    return array(root.path(metric).path(number), metric);
  }

  /** The same where each row has several. */
  List<List<Double>> lists(String metric, String number) {
    List<List<Double>> rows = new ArrayList<>();
    root.path(metric).path(number).forEach(row -> rows.add(list(row)));
    assertTrue(rows.size() >= 100, metric + " has " + rows.size() + " rows");
    return rows;
  }

  /** Scores of an attack on a part: {@code forget} or {@code holdout}. */
  double[] attack(String metric, String part) {
    return array(root.path(metric).path(part).path("score"), metric);
  }

  boolean has(String metric) {
    return root.has(metric);
  }

  private static double[] array(JsonNode numbers, String metric) {
    double[] values = list(numbers).stream().mapToDouble(Double::doubleValue).toArray();
    assertTrue(values.length >= 100, metric + " has " + values.length + " rows");
    return values;
  }

  private static List<Double> list(JsonNode numbers) {
    List<Double> values = new ArrayList<>();
    numbers.forEach(number -> values.add(number.doubleValue()));
    return values;
  }
}
