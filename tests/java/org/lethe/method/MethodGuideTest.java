package org.lethe.method;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

class MethodGuideTest {
  private static final Path GUIDE = Path.of("..", "docs", "methods.md");

  /** {@code -Dlethe.methods.guide=true} writes it. */
  @Test
  void theGuideIsWhatTheLossesSay() throws IOException {
    if (Boolean.getBoolean("lethe.methods.guide")) {
      Files.writeString(GUIDE, MethodGuide.markdown());
    }
    assertEquals(
        MethodGuide.markdown(),
        Files.readString(GUIDE),
        "docs/methods.md is stale; run this test with -Dlethe.methods.guide=true");
  }

  @Test
  void everyLossHasARowAndASection() {
    String guide = MethodGuide.markdown();
    for (LossSpec spec : Methods.all()) {
      assertTrue(guide.contains("| [" + spec.name() + "](#"), spec.name());
      assertTrue(guide.contains("### " + spec.name() + "\n"), spec.name());
      for (Option option : spec.options()) {
        assertTrue(guide.contains("| `" + option.name() + "` | "), spec.name());
      }
    }
  }
}
