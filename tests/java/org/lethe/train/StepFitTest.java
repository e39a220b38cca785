package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.function.IntFunction;
import org.junit.jupiter.api.Test;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.ActivationPolicy;
import org.lethe.model.AdapterWidths;
import org.lethe.model.Goldens;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;

/** Steps that keep to a budget of memory. */
class StepFitTest {
  private static final ModelConfig MODEL =
      ModelConfig.llama(new ModelConfig.Sizes(500, 64, 8, 4, 4, 16, 176, 512), 1e-5f, 1e4, true);
  private static final StepMemory MEMORY =
      new StepMemory(
          MODEL,
          Dtype.F32,
          AdapterWidths.NONE,
          tokens -> tokens,
          (rows, d, v) -> 1000L * rows,
          false);

  private static final StepCuts CUTS =
      new StepCuts() {
        @Override
        public int largest(int limit) {
          return Math.max(100, Math.min(limit, 1500));
        }

        @Override
        public int tightest(int limit) {
          return limit;
        }
      };

  private static Optional<StepFit> fit(MemorySettings.Activations activations, long room) {
    return StepFit.cheapest(MEMORY, activations, room, 4096, CUTS, piece -> 0, 64);
  }

  private static long bytes(int tokens, int recomputed) {
    return MEMORY.bytes(tokens, ActivationPolicy.recompute(recomputed));
  }

  @Test
  void withRoomForEverythingNothingIsGivenUp() {
    StepFit fit = fit(MemorySettings.Activations.AUTO, bytes(1500, 0)).orElseThrow();
    assertEquals(new StepFit(4096, 1500, ActivationPolicy.KEEP, bytes(1500, 0)), fit);
  }

  @Test
  void aLittleLessMakesPiecesSmallerBeforeLayersAreComputedAgain() {
    StepFit fit = fit(MemorySettings.Activations.AUTO, bytes(1500, 0) - 1).orElseThrow();
    // 1.28 · 64 / 1500 more for smaller pieces, or 0.78 / 8 for each layer but the first.
    assertEquals(ActivationPolicy.KEEP, fit.policy());
    assertTrue(fit.piece() >= 1000 && fit.piece() < 1500, fit.toString());
    assertEquals(fit.bytes(), bytes(fit.piece(), 0));
  }

  @Test
  void littleRoomComputesLayersAgainAndStaysInside() {
    // Less than the smallest pieces take with all activations.
    long little = bytes(100, 0) - 1;
    StepFit fit = fit(MemorySettings.Activations.AUTO, little).orElseThrow();
    assertTrue(fit.policy().recomputed() > 1 && fit.piece() > 110, fit.toString());
    assertTrue(
        fit.bytes() <= little && fit.bytes() == bytes(fit.piece(), fit.policy().recomputed()));
    long room = bytes(110, 0);
    StepFit kept = fit(MemorySettings.Activations.KEEP, room).orElseThrow();
    assertTrue(kept.policy().equals(ActivationPolicy.KEEP) && kept.piece() <= 110);
    StepFit all = fit(MemorySettings.Activations.RECOMPUTE, room).orElseThrow();
    assertEquals(MODEL.layers(), all.policy().recomputed());
  }

  @Test
  void theSmallestPiecesAreTheEnd() {
    assertTrue(fit(MemorySettings.Activations.AUTO, bytes(100, 8)).isPresent());
    assertTrue(fit(MemorySettings.Activations.AUTO, bytes(100, 8) - 1).isEmpty());
    assertTrue(fit(MemorySettings.Activations.KEEP, bytes(100, 0)).isPresent());
    assertTrue(fit(MemorySettings.Activations.KEEP, bytes(100, 0) - 1).isEmpty());
  }

  /** As many layers as it takes, and no more, for every number that a budget may ask for. */
  @Test
  void layersGiveWayOneByOne() {
    for (MemorySettings.Activations activations :
        List.of(MemorySettings.Activations.AUTO, MemorySettings.Activations.OFFLOAD)) {
      boolean offloads = activations == MemorySettings.Activations.OFFLOAD;
      IntFunction<ActivationPolicy> policies =
          offloads ? ActivationPolicy::offload : ActivationPolicy::recompute;
      for (int n = 0; n <= MODEL.layers(); n++) {
        long bytes = MEMORY.bytes(100, policies.apply(n));
        int least = n;
        while (least > 0 && MEMORY.bytes(100, policies.apply(least - 1)) <= bytes) {
          least--;
        }
        // A limit of the smallest pieces, so that those cannot give way.
        StepFit fit =
            StepFit.cheapest(MEMORY, activations, bytes, 1, CUTS, piece -> 0, 64).orElseThrow();
        assertEquals(policies.apply(least), fit.policy());
        assertEquals(bytes, fit.bytes());
      }
    }
  }

  /** A thousand times as many layers would take a million times as long if each were tried. */
  @Test
  void manyLayersAreFittedInASecond() {
    StepMemory deep =
        new StepMemory(
            ModelConfig.llama(
                new ModelConfig.Sizes(500, 64, 16_000, 4, 4, 16, 176, 512), 1e-5f, 1e4, true),
            Dtype.F32,
            AdapterWidths.NONE,
            tokens -> tokens,
            (rows, d, v) -> 1000L * rows,
            false);
    long room = deep.bytes(100, ActivationPolicy.recompute(15_999));
    StepFit fit =
        assertTimeoutPreemptively(
            Duration.ofSeconds(5),
            () ->
                StepFit.cheapest(
                        deep, MemorySettings.Activations.AUTO, room, 4096, CUTS, piece -> 0, 64)
                    .orElseThrow());
    assertEquals(15_999, fit.policy().recomputed());
  }

  private static Trainer trainer(Model model, Method method, MemorySettings bounds) {
    TrainSettings settings =
        GoldenSteps.settings(2, 1e-3, 4096, TrainSettings.OnNonFinite.STOP).with(bounds);
    List<StepSequence> step = GoldenSteps.of(method);
    return new Trainer(model, method, settings, GoldenSteps.repeated(step), null);
  }

  @Test
  void aTrainingStaysInsideItsBudgetAndLearnsTheSame() {
    Method method = Methods.create(MethodConfig.of("NPO+KL"));
    try (Backend backend = TestDevice.open(1);
        Model model = GoldenSteps.model(backend, Dtype.F32)) {
      AdapterDirectory.load(model, Goldens.path("llama-tiny/adapter"), true);
      long overhead = DeviceCosts.of(backend.isHost()).overheadBytes();
      double loss;
      long all;
      try (Trainer free = trainer(model, method, MemorySettings.UNBOUNDED)) {
        all = backend.allocatedBytes();
        loss = free.next().loss();
      }
      model.trainable().resetOptimizer();
      long held = backend.allocatedBytes();
      long budget = overhead + held + (all - held) / 2;
      try (Model other = GoldenSteps.model(backend, Dtype.F32)) {
        AdapterDirectory.load(other, Goldens.path("llama-tiny/adapter"), true);
        long own = backend.allocatedBytes();
        try (Trainer bound =
            trainer(
                other,
                method,
                new MemorySettings(budget + own - held, MemorySettings.Activations.AUTO))) {
          assertTrue(backend.allocatedBytes() + overhead <= budget + own - held);
          assertTrue(bound.fit().piece() < 4096);
          assertEquals(loss, bound.next().loss(), 1e-5 * Math.abs(loss));
        }
      }
      UserException e =
          assertThrows(
              UserException.class,
              () ->
                  trainer(
                      model,
                      method,
                      new MemorySettings(overhead + held + 1000, MemorySettings.Activations.KEEP)));
      for (String part :
          List.of(
              "memory.budget is " + (overhead + held + 1000) + " bytes",
              "too little",
              "planned: model, adapters, optimizer and libraries",
              "activations and head of the smallest pieces",
              "what helps: memory.budget=",
              "memory.activations=auto frees",
              "dtype=bf16 frees",
              "data.context_length",
              "lethe plan")) {
        assertTrue(e.getMessage().contains(part), part + " in: " + e.getMessage());
      }
      assertEquals(held, backend.allocatedBytes());
    }
  }
}
