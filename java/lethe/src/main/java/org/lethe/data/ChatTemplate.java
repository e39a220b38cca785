package org.lethe.data;

import com.hubspot.jinjava.Jinjava;
import com.hubspot.jinjava.JinjavaConfig;
import com.hubspot.jinjava.LegacyOverrides;
import com.hubspot.jinjava.interpret.RenderResult;
import com.hubspot.jinjava.lib.fn.ELFunctionDefinition;
import com.hubspot.jinjava.loader.ResourceNotFoundException;
import java.time.LocalDate;
import java.time.format.DateTimeFormatter;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Pattern;
import org.lethe.UserException;

/**
 * A Hugging Face chat template rendered by Jinjava, set up to agree with {@code
 * apply_chat_template}.
 *
 * <p>Known gaps of the engine are closed or refused: {@code not x is defined} is rewritten (it is
 * parsed the wrong way round), a loop with an {@code if} clause is refused (it would yield nothing
 * and say nothing), and every error the engine collects is raised.
 */
final class ChatTemplate {
  /**
   * What a template that asks for today's date gets: prompts must not change from day to day. The
   * date is the one Llama 3.2's template itself falls back to.
   */
  private static final LocalDate TODAY = LocalDate.of(2024, 7, 26);

  private static final Pattern NOT_IS_DEFINED =
      Pattern.compile("\\bnot\\s+(\\w+)\\s+is\\s+defined\\b");
  private static final Pattern LOOP_WITH_CONDITION =
      Pattern.compile("\\{%[-+]?\\s*for\\s[^%]*?\\sif\\s");

  private static final Pattern DATE_FIELD = Pattern.compile("%(.)");

  /** The last code points of all, kept for private use. */
  private static final int DISGUISE = 0x10FF00;

  private static final long LARGEST_OUTPUT = 1L << 20;
  private static final int LARGEST_COLLECTION = 10_000;

  private final Jinjava engine;
  private final String source;
  private final Map<String, String> specialTokens;

  /**
   * @param source Jinja source
   * @param specialTokens {@code bos_token} and its kin, by name
   */
  ChatTemplate(String source, Map<String, String> specialTokens) {
    if (LOOP_WITH_CONDITION.matcher(source).find()) {
      throw unsupported("a loop with an \"if\" clause is not supported");
    }
    this.source = NOT_IS_DEFINED.matcher(source).replaceAll("$1 is not defined");
    this.specialTokens = Map.copyOf(specialTokens);
    this.engine = engine();
  }

  /** The prompt: one user message, then the header of the assistant's turn. */
  String render(String question) {
    Map<String, Object> bindings = new HashMap<>(specialTokens);
    String shielded =
        question
            .codePoints()
            .map(ChatTemplate::shield)
            .collect(StringBuilder::new, StringBuilder::appendCodePoint, StringBuilder::append)
            .toString();
    bindings.put("messages", List.of(Map.of("role", "user", "content", shielded)));
    bindings.put("add_generation_prompt", true);
    bindings.put("tools", null);
    bindings.put("documents", null);
    RenderResult result = engine.renderForResult(source, bindings);
    if (result.hasErrors()) {
      var error = result.getErrors().get(0);
      throw unsupported(
          "line " + error.getLineno() + ": " + error.getMessage() + cause(error.getException()));
    }
    return result
        .getOutput()
        .codePoints()
        .map(ChatTemplate::unshield)
        .collect(StringBuilder::new, StringBuilder::appendCodePoint, StringBuilder::append)
        .toString();
  }

  /** The engine spells control characters out as escapes, so they pass it in disguise. */
  private static int shield(int c) {
    return c < ' ' && c != '\t' && c != '\n' && c != '\r' ? DISGUISE + c : c;
  }

  private static int unshield(int c) {
    return c >= DISGUISE && c < DISGUISE + ' ' ? c - DISGUISE : c;
  }

  /** What a template calls to refuse its input; static because the engine wants it so. */
  public static String raiseException(String message) {
    throw new IllegalArgumentException(message);
  }

  /** {@code strftime_now} of Hugging Face, for a fixed day. */
  public static String strftimeNow(String format) {
    return DATE_FIELD
        .matcher(format)
        .replaceAll(
            field ->
                TODAY.format(DateTimeFormatter.ofPattern(pattern(field.group(1)), Locale.ENGLISH)));
  }

  private static String pattern(String field) {
    return switch (field) {
      case "d" -> "dd";
      case "b" -> "MMM";
      case "B" -> "MMMM";
      case "m" -> "MM";
      case "Y" -> "yyyy";
      case "y" -> "yy";
      case "A" -> "EEEE";
      case "a" -> "EEE";
      default ->
          throw new IllegalArgumentException("strftime_now cannot format \"%" + field + "\"");
    };
  }

  private static Jinjava engine() {
    LegacyOverrides overrides =
        LegacyOverrides.newBuilder()
            .withUsePyishObjectMapper(true)
            .withEvaluateMapKeys(true)
            .withIterateOverMapKeys(true)
            .withKeepNullableLoopValues(true)
            .withUseNaturalOperatorPrecedence(true)
            .withParseWhitespaceControlStrictly(true)
            .withAllowAdjacentTextNodes(true)
            .withUseTrimmingForNotesAndExpressions(true)
            .build();
    JinjavaConfig config =
        JinjavaConfig.newBuilder()
            .withLocale(Locale.ENGLISH)
            .withTrimBlocks(true)
            .withLstripBlocks(true)
            .withLegacyOverrides(overrides)
            // Otherwise a question that holds "{{" would be run as a template.
            .withNestedInterpretationEnabled(false)
            .withMaxOutputSize(LARGEST_OUTPUT)
            .withMaxStringLength(LARGEST_OUTPUT)
            .withMaxListSize(LARGEST_COLLECTION)
            .withMaxMapSize(LARGEST_COLLECTION)
            .withRangeLimit(LARGEST_COLLECTION)
            .withMaxRenderDepth(16)
            .withMaxMacroRecursionDepth(16)
            .build();
    Jinjava jinjava = new Jinjava(config);
    jinjava.setResourceLocator(
        (name, encoding, interpreter) -> {
          throw new ResourceNotFoundException("a chat template may not include \"" + name + "\"");
        });
    register(jinjava, "raise_exception", "raiseException");
    register(jinjava, "strftime_now", "strftimeNow");
    return jinjava;
  }

  private static void register(Jinjava jinjava, String name, String method) {
    jinjava
        .getGlobalContext()
        .registerFunction(
            new ELFunctionDefinition("", name, ChatTemplate.class, method, String.class));
  }

  /** What a function threw, which the engine wraps and does not repeat. */
  private static String cause(Throwable thrown) {
    Throwable root = thrown;
    while (root != null && root.getCause() != null) {
      root = root.getCause();
    }
    return root == thrown || root.getMessage() == null ? "" : ": " + root.getMessage();
  }

  private static UserException unsupported(String reason) {
    return new UserException(
        "The chat template cannot be rendered: "
            + reason
            + "; set a plain prompt template with {question} in it instead.");
  }
}
