package org.lethe;

import static org.junit.platform.engine.discovery.DiscoverySelectors.selectClass;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.engine.support.descriptor.ClassSource;
import org.junit.platform.engine.support.descriptor.MethodSource;
import org.junit.platform.launcher.Launcher;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;

/**
 * The tests of numbers, run without Maven on the device of {@link TestDevice}: {@code DeviceSuite
 * FILE [CLASS ...]}. FILE takes one line of JSON for each class. Exits with 1 when one failed, with
 * 2 when a class has no test.
 */
public final class DeviceSuite {
  /** What a device must pass: models, adapters, losses, dropout and generation against goldens. */
  static final List<String> CLASSES =
      List.of(
          "org.lethe.model.LlamaGoldenTest",
          "org.lethe.model.FamilyGoldenTest",
          "org.lethe.model.GeneratorTest",
          "org.lethe.model.ViewTest",
          "org.lethe.model.SourceRowsTest",
          "org.lethe.train.LoraStepGoldenTest",
          "org.lethe.train.LoraFormTest",
          "org.lethe.train.ViewMethodsGoldenTest",
          "org.lethe.train.PublishedMethodsTest",
          "org.lethe.train.DropoutTest",
          "org.lethe.train.StepGraphsTest",
          "org.lethe.run.HeadTuningTest",
          "org.lethe.train.Bf16Test",
          "org.lethe.train.NonFiniteTest",
          "org.lethe.train.QuantizedBaseStepTest",
          "org.lethe.train.OptimizerConfigTest",
          "org.lethe.train.ActivationPolicyTest",
          "org.lethe.train.EmbeddingPlacementTest",
          "org.lethe.train.ResumeBitsTest",
          "org.lethe.checkpoint.PeftGoldenTest",
          "org.lethe.checkpoint.QuantizedBaseTest",
          "org.lethe.checkpoint.QuantizedModelTest");

  private static final class Count {
    private int passed;
    private int failed;
    private int skipped;
    private long begin = System.nanoTime();
    private long end = begin;
  }

  private static final class Counter implements TestExecutionListener {
    private final Map<String, Count> counts = new LinkedHashMap<>();
    private final PrintStream log;

    Counter(PrintStream log) {
      this.log = log;
    }

    private Count of(TestIdentifier test) {
      String name =
          test.getSource()
              .map(
                  s ->
                      s instanceof MethodSource m
                          ? m.getClassName()
                          : s instanceof ClassSource c ? c.getClassName() : "")
              .orElse("");
      return counts.computeIfAbsent(name.replaceFirst("\\$.*", ""), n -> new Count());
    }

    @Override
    public void executionStarted(TestIdentifier test) {
      if (test.getSource().isPresent()) {
        of(test);
      }
    }

    @Override
    public void executionSkipped(TestIdentifier test, String reason) {
      of(test).skipped++;
      log.println("skipped " + test.getDisplayName() + ": " + reason);
    }

    @Override
    public void executionFinished(TestIdentifier test, TestExecutionResult result) {
      if (test.getSource().isEmpty()) {
        return;
      }
      Count count = of(test);
      count.end = System.nanoTime();
      if (result.getStatus() != TestExecutionResult.Status.SUCCESSFUL) {
        count.failed++;
        log.println("FAILED " + test.getUniqueId());
        result.getThrowable().ifPresent(t -> t.printStackTrace(log));
      } else if (test.isTest()) {
        count.passed++;
      }
    }
  }

  private DeviceSuite() {}

  /** Runs the suite. */
  public static void main(String[] args) throws IOException {
    List<String> names = args.length > 1 ? List.of(args).subList(1, args.length) : CLASSES;
    Counter counter = new Counter(System.out);
    Launcher launcher = LauncherFactory.create();
    StringBuilder lines = new StringBuilder();
    boolean failed = false;
    boolean empty = false;
    for (String name : names) {
      launcher.execute(
          LauncherDiscoveryRequestBuilder.request().selectors(selectClass(name)).build(), counter);
      Count c = counter.counts.getOrDefault(name, new Count());
      failed |= c.failed > 0;
      empty |= c.passed + c.failed == 0;
      String line =
          String.format(
              Locale.ROOT,
              "{\"name\":\"%s\",\"kind\":\"java\",\"tool\":\"none\",\"status\":\"%s\","
                  + "\"passed\":%d,\"failed\":%d,\"skipped\":%d,\"seconds\":%.1f}%n",
              name,
              c.failed > 0 ? "failed" : c.passed > 0 ? "passed" : "empty",
              c.passed,
              c.failed,
              c.skipped,
              (c.end - c.begin) / 1e9);
      System.out.print(line);
      lines.append(line);
      // What was run so far is kept when a later class ends the process.
      Files.writeString(Path.of(args[0]), lines, StandardCharsets.UTF_8);
    }
    System.exit(failed ? 1 : empty ? 2 : 0);
  }
}
