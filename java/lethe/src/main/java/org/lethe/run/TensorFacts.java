package org.lethe.run;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Pattern;
import org.lethe.checkpoint.TensorInfo;
import org.lethe.checkpoint.TensorSource;

/** Tensors of files, counted: all together, by kind of tensor, and one by one. */
final class TensorFacts {
  /** A layer's number within a name. */
  private static final Pattern LAYER = Pattern.compile("\\.\\d+(?=\\.|$)");

  private TensorFacts() {}

  /** Sums over all tensors that belong together but for their layer. */
  private static final class Group {
    private long tensors;
    private long parameters;
    private long bytes;
    private final Map<String, Long> dtypes = new TreeMap<>();
    private final Map<String, Long> shapes = new LinkedHashMap<>();

    void add(TensorInfo info) {
      tensors++;
      parameters += info.elements();
      bytes += info.bytes();
      dtypes.merge(info.dtype().name(), 1L, Long::sum);
      shapes.merge(info.shape().toString(), 1L, Long::sum);
    }
  }

  /**
   * Puts the counts of {@code source} into {@code facts}.
   *
   * @param each whether every tensor is listed in place of the groups
   */
  static void put(Map<String, Object> facts, TensorSource source, boolean each) {
    Group all = new Group();
    Map<String, Group> groups = new LinkedHashMap<>();
    List<Map<String, Object>> rows = new ArrayList<>();
    for (String name : source.names()) {
      TensorInfo info = source.info(name);
      all.add(info);
      groups.computeIfAbsent(LAYER.matcher(name).replaceAll(".*"), k -> new Group()).add(info);
      if (each) {
        Map<String, Object> row = new LinkedHashMap<>();
        row.put("name", name);
        row.put("dtype", info.dtype().name());
        row.put("shape", info.shape().toString());
        row.put("parameters", info.elements());
        row.put("bytes", info.bytes());
        rows.add(row);
      }
    }
    facts.put("tensor_count", all.tensors);
    facts.put("parameters", all.parameters);
    facts.put("tensor_bytes", all.bytes);
    facts.put("dtypes", new LinkedHashMap<>(all.dtypes));
    if (!each) {
      groups.forEach((name, group) -> rows.add(row(name, group)));
    }
    facts.put(each ? "tensors" : "groups", rows);
  }

  private static Map<String, Object> row(String name, Group group) {
    Map<String, Object> row = new LinkedHashMap<>();
    row.put("name", name);
    row.put("tensors", group.tensors);
    row.put("dtype", String.join(", ", group.dtypes.keySet()));
    row.put("shape", String.join(" ", group.shapes.keySet()));
    row.put("parameters", group.parameters);
    row.put("bytes", group.bytes);
    return row;
  }
}
