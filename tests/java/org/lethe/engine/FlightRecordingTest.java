package org.lethe.engine;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.train.Every;
import org.lethe.train.Schedule;
import org.lethe.train.StepReport;
import org.lethe.train.TrainSettings;

/** What a flight recording holds of a training. */
class FlightRecordingTest {
  @Test
  void itHoldsEveryStepAndEveryCheckpoint(@TempDir Path dir) throws IOException {
    TinyModel tiny = TinyModel.make(dir, 1);
    List<StepReport> steps = new ArrayList<>();
    Path file = dir.resolve("recording.jfr");
    try (Recording recording = new Recording();
        Engine engine = Engine.cpu(1);
        LanguageModel model = engine.load(tiny.directory())) {
      recording.enable("org.lethe.Step").withoutThreshold();
      recording.enable("org.lethe.Checkpoint").withoutThreshold();
      recording.start();
      try (Training training =
          model
              .unlearn(Methods.create(MethodConfig.of("GA+GD")), tiny.forget(), tiny.retain())
              .settings(TrainSettings.of(4, 1e-3, Schedule.CONSTANT, 0))
              .checkpoints(dir.resolve("checkpoints"), new Every(2, Every.Unit.STEP), 1)
              .onStep(steps::add)
              .build()) {
        training.run();
      }
      recording.stop();
      recording.dump(file);
    }
    List<RecordedEvent> events = RecordingFile.readAllEvents(file);
    List<RecordedEvent> ofSteps = named(events, "org.lethe.Step");
    assertEquals(4, ofSteps.size());
    for (int i = 0; i < 4; i++) {
      assertEquals(i, ofSteps.get(i).getInt("step"));
      assertEquals(steps.get(i).loss(), ofSteps.get(i).getDouble("loss"));
      assertEquals(steps.get(i).tokens(), ofSteps.get(i).getInt("tokens"));
      assertEquals("lethe-cpu", ofSteps.get(i).getThread().getJavaName());
      assertTrue(ofSteps.get(i).getDuration().toNanos() > 0);
    }
    List<RecordedEvent> ofCheckpoints = named(events, "org.lethe.Checkpoint");
    assertEquals(List.of(2, 4), ofCheckpoints.stream().map(e -> e.getInt("step")).toList());
    assertTrue(ofCheckpoints.get(0).getLong("bytes") > 1000);
  }

  private static List<RecordedEvent> named(List<RecordedEvent> events, String name) {
    return events.stream()
        .filter(e -> e.getEventType().getName().equals(name))
        .sorted(java.util.Comparator.comparing(RecordedEvent::getStartTime))
        .toList();
  }
}
