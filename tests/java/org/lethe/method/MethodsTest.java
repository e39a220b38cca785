package org.lethe.method;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.lethe.UserException;

class MethodsTest {
  private static final List<Positions> LABELLED =
      List.of(Positions.ANSWER, Positions.ALL, Positions.SPANS);

  private static Use use(Role role, Positions positions, RowKind kind, ReferenceUse reference) {
    return new Use(role, positions, kind, reference);
  }

  private static List<Use> uses(String name) {
    return Methods.create(MethodConfig.of(name)).uses();
  }

  @Test
  void eachLossLooksAtItsOwnRowsByDefault() {
    Use forgetNll = use(Role.FORGET, Positions.ANSWER, RowKind.NLL, ReferenceUse.SEQUENCE_NLL);
    Use refusalNll = use(Role.FORGET_IDK, Positions.ANSWER, RowKind.NLL, ReferenceUse.SEQUENCE_NLL);
    Use retain = use(Role.RETAIN, Positions.ANSWER, RowKind.NLL, ReferenceUse.NONE);
    assertEquals(
        List.of(use(Role.FORGET, Positions.ANSWER, RowKind.NLL, ReferenceUse.NONE)), uses("GA"));
    assertEquals(List.of(forgetNll), uses("NPO"));
    assertEquals(List.of(forgetNll, refusalNll), uses("DPO"));
    assertEquals(
        List.of(use(Role.FORGET_IDK, Positions.ANSWER, RowKind.NLL, ReferenceUse.NONE)),
        uses("IDK"));
    assertEquals(
        List.of(use(Role.FORGET, Positions.ALL, RowKind.UNIFORM_KL, ReferenceUse.NONE)),
        uses("ME"));
    assertEquals(List.of(retain), uses("none+GD"));
    assertEquals(
        List.of(use(Role.RETAIN, Positions.ALL, RowKind.REFERENCE_KL, ReferenceUse.HIDDEN)),
        uses("none+KL"));
    assertEquals(
        List.of(retain, use(Role.RETAIN_IDK, Positions.ANSWER, RowKind.NLL, ReferenceUse.NONE)),
        uses("none+AP"));
    assertEquals(List.of(forgetNll, retain), uses("NPO+GD"));
  }

  @Test
  void optionsAreTaken() {
    MethodConfig config =
        MethodConfig.of("me+kl")
            .withPositions(Positions.ANSWER, Positions.ANSWER)
            .withDirection(EntropyDirection.MODEL_TO_UNIFORM);
    assertEquals(
        List.of(
            use(Role.FORGET, Positions.ANSWER, RowKind.KL_UNIFORM, ReferenceUse.NONE),
            use(Role.RETAIN, Positions.ANSWER, RowKind.REFERENCE_KL, ReferenceUse.HIDDEN)),
        Methods.create(config).uses());
  }

  @Test
  void positionsGoToTheirOwnLoss() {
    for (String forget : List.of("GA", "NPO", "DPO", "IDK", "ME", "SimNPO", "KTO")) {
      for (String retain : List.of("GD", "KL", "AP")) {
        for (Positions ofForget : LABELLED) {
          for (Positions ofRetain : LABELLED) {
            MethodConfig config =
                MethodConfig.of(forget + "+" + retain).withPositions(ofForget, ofRetain);
            for (Use use : Methods.create(config).uses()) {
              assertEquals(
                  use.role().forgets() ? ofForget : ofRetain, use.positions(), config + " " + use);
            }
          }
        }
      }
    }
  }

  @Test
  void maximumEntropyAloneWeighsATenth() {
    for (String forget : List.of("GA", "NPO", "DPO", "IDK", "ME")) {
      Method method = Methods.create(MethodConfig.of(forget + "+GD"));
      assertEquals(forget.equals("ME") ? 0.1 : 1, method.losses().get(0).weight(), forget);
      assertEquals(1, method.losses().get(1).weight());
    }
  }

  @Test
  void namesAreReadInAnyCase() {
    assertEquals("ME+GD", Methods.create(MethodConfig.of("me + gd")).name());
    assertEquals("IDK+AP", Methods.create(MethodConfig.of("Idk+ap")).name());
    assertEquals("NPO", Methods.create(MethodConfig.of("npo")).name());
    assertEquals("NPO", Methods.create(MethodConfig.of("npo+None")).name());
    assertEquals("none+GD", Methods.fineTuning().name());
    List<String> names = Methods.all().stream().map(LossSpec::name).toList();
    assertTrue(names.containsAll(List.of("GA", "NPO", "DPO", "IDK", "ME", "GD", "KL", "AP")));
    assertEquals(
        names.size(), names.stream().map(n -> n.toLowerCase(Locale.ROOT)).distinct().count());
    assertTrue(!names.contains(Methods.NONE));
  }

  @Test
  void wrongConfigurationsNameKeyAndRemedy() {
    refused(MethodConfig.of("NPP+GD"), "method.forget", "\"NPP\"", "did you mean NPO?");
    refused(MethodConfig.of("NPO+DG"), "method.retain", "\"DG\"", "GD, KL, AP, none");
    refused(MethodConfig.of("GD"), "method.forget", "GA, NPO, DPO, IDK, ME, ");
    refused(MethodConfig.of(""), "method.forget");
    refused(MethodConfig.of("none"), "method.forget and method.retain");
    refused(MethodConfig.of("NPO").withBeta(0), "method.forget_options.beta", "0.0", "above 0");
    refused(MethodConfig.of("NPO").withBeta(Double.NaN), "method.forget_options.beta");
    refused(
        MethodConfig.of("NPO").withBeta(Double.POSITIVE_INFINITY), "method.forget_options.beta");
    refused(MethodConfig.of("NPO").withCoefficients(-1, 1), "method.forget_coefficient", "-1");
    refused(MethodConfig.of("NPO+GD").withCoefficients(1, Double.NaN), "method.retain_coefficient");
  }

  @Test
  void wrongOptionsNamePlaceKeyAndRemedy() {
    refused(
        MethodConfig.of("NPO").with(Side.FORGET, "gama", new Setting("1", "run.yaml:7")),
        "run.yaml:7: method.forget_options.gama",
        "NPO has no such option",
        "It has beta, positions");
    refused(
        MethodConfig.of("none+GD").with(Side.RETAIN, "reduction", new Setting("mean", "f:2")),
        "f:2: method.retain_options.reduction is mean",
        "one of token_mean, sequence_mean, sequence_sum",
        "leave it out for token_mean");
    refused(MethodConfig.of("NPO").withForget("beta", "much"), "beta is much", "a number above 0");
    refused(MethodConfig.of("NPO").withForget("beta", "1e999"), "beta is 1e999");
    refused(
        MethodConfig.of("none+GD").withForget("beta", 1), "method.forget_options.beta", "is none");
    refused(MethodConfig.of("ME").withForget("positions", "every"), "answer, all, spans");
    refused(
        MethodConfig.of("GA_LS").withForget("keep", 1.5), "keep is 1.5", "above 0 and at most 1");
    refused(MethodConfig.of("LLMU+KL"), "LLMU is a complete objective", "method.retain=none");
  }

  @Test
  void everyLossSaysWhatItIs() {
    for (LossSpec spec : Methods.all()) {
      for (String text : List.of(spec.title(), spec.formula(), spec.reduction(), spec.source())) {
        assertTrue(!text.isBlank(), spec.name());
      }
      for (Option option : spec.options()) {
        assertTrue(!option.meaning().isBlank() && !option.source().isBlank(), spec + "");
      }
      assertEquals(spec.side() == Side.FORGET, spec.losses(Map.of()).get(0).forgets());
    }
  }

  private static void refused(MethodConfig config, String... parts) {
    String message = assertThrows(UserException.class, () -> Methods.create(config)).getMessage();
    for (String part : parts) {
      assertTrue(message.contains(part), message);
    }
  }
}
