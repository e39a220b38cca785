package org.lethe.run;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.checkpoint.CheckpointState;
import org.lethe.checkpoint.CheckpointStore;

/** A checkpoint of a run: which step, what trains, what it holds. */
final class CheckpointFacts {
  private CheckpointFacts() {}

  static Map<String, Object> of(Path path, boolean tensors) {
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("path", path.toString());
    facts.put("bytes", Inspection.treeSize(path));
    try {
      CheckpointStore.verify(path);
      facts.put("verified", true);
    } catch (UserException e) {
      facts.put("verified", false);
      facts.put("damage", e.getMessage());
    } catch (IOException e) {
      throw new EnvironmentException(path + ": cannot be read (" + e + "); check the disk", e);
    }
    try (CheckpointState state = CheckpointState.open(path)) {
      facts.put("step", state.step());
      facts.put("trains", state.kind());
      facts.put("base_model", state.baseModel());
      state.lora().ifPresent(lora -> LoraFacts.put(facts, lora));
      Map<String, Object> meta = new LinkedHashMap<>();
      for (Map.Entry<String, JsonNode> entry : state.meta().properties()) {
        if (entry.getValue().isValueNode()) {
          meta.put(entry.getKey(), entry.getValue().asText());
        }
      }
      facts.put("manifest", meta);
      TensorFacts.put(facts, state.tensors(), tensors);
    }
    return facts;
  }
}
