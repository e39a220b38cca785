package org.lethe.run;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lethe.checkpoint.AdapterFiles;
import org.lethe.checkpoint.LoraFactors;
import org.lethe.checkpoint.PeftAdapter;
import org.lethe.checkpoint.PeftConfig;
import org.lethe.checkpoint.SafetensorsFile;

/** An adapter's settings, and how large what it adds is. */
final class AdapterFacts {
  private AdapterFacts() {}

  static Map<String, Object> of(Path path, boolean tensors) {
    Map<String, Object> facts = new LinkedHashMap<>();
    try (PeftAdapter adapter = PeftAdapter.open(path);
        SafetensorsFile file = SafetensorsFile.open(path.resolve(PeftAdapter.WEIGHTS_FILE))) {
      PeftConfig config = adapter.config();
      facts.put("path", path.toString());
      facts.put("base_model", config.baseModel());
      LoraFacts.put(facts, config.lora(), adapter.adapters());
      facts.put("modules", adapter.adapters().size());
      TensorFacts.put(facts, file, tensors);
      facts.put(
          "norms", norms(LoraFactors.read(path, adapter, AdapterFiles.linears(path)), tensors));
    }
    return facts;
  }

  /** Norms by projection, over all layers together, or by module. */
  private static List<Map<String, Object>> norms(Map<String, LoraFactors> modules, boolean each) {
    Map<String, double[]> squares = new LinkedHashMap<>();
    modules.forEach(
        (module, pair) -> {
          String name = each ? module : module.substring(module.lastIndexOf('.') + 1);
          double[] sums = squares.computeIfAbsent(name, k -> new double[4]);
          sums[0] += Math.pow(pair.normA(), 2);
          sums[1] += Math.pow(pair.normB(), 2);
          sums[2] += Math.pow(pair.scale() * pair.normProduct(), 2);
          sums[3]++;
        });
    List<Map<String, Object>> rows = new ArrayList<>();
    squares.forEach(
        (name, sums) -> {
          Map<String, Object> row = new LinkedHashMap<>();
          row.put("module", name);
          row.put("modules", (long) sums[3]);
          row.put("norm_a", Math.sqrt(sums[0]));
          row.put("norm_b", Math.sqrt(sums[1]));
          row.put("norm_delta", Math.sqrt(sums[2]));
          rows.add(row);
        });
    return rows;
  }
}
