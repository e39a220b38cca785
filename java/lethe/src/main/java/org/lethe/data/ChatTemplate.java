package org.lethe.data;

import com.hubspot.jinjava.Jinjava;
import com.hubspot.jinjava.JinjavaConfig;
import com.hubspot.jinjava.LegacyOverrides;
import com.hubspot.jinjava.interpret.RenderResult;
import com.hubspot.jinjava.lib.fn.ELFunctionDefinition;
import com.hubspot.jinjava.loader.ResourceNotFoundException;
import java.time.LocalDate;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.function.IntUnaryOperator;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
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

  /**
   * What Jinja's lstrip_blocks drops: blanks before a block that begins its line. The engine's own
   * form of it drops them behind text, too ({@code "Q: {% if ... %}"}).
   */
  private static final Pattern INDENT = Pattern.compile("(?m)^[ \\t]+(?=\\{[%#](?!\\+))");

  private static final Pattern DATE_FIELD = Pattern.compile("%(.)");

  private static final long LARGEST_OUTPUT = 1L << 20;
  private static final int LARGEST_COLLECTION = 10_000;

  /**
   * One turn of a conversation: {@code system}, {@code user} or {@code assistant} says something.
   */
  record Message(String role, String content) {}

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
    // Jinja drops one newline at the very end of a template; this engine keeps it.
    String trimmed = source.endsWith("\n") ? source.substring(0, source.length() - 1) : source;
    String unindented = INDENT.matcher(trimmed).replaceAll("");
    this.source = NOT_IS_DEFINED.matcher(unindented).replaceAll("$1 is not defined");
    this.specialTokens = Map.copyOf(specialTokens);
    this.engine = engine();
  }

  /** The prompt: one user message, then the header of the assistant's turn. */
  String render(String question) {
    return render(List.of(new Message("user", question)), true, Optional.empty());
  }

  /**
   * A conversation.
   *
   * @param prompt whether the header of the assistant's turn follows
   * @param date bound to {@code date_string} where given; else the template's own
   */
  String render(List<Message> messages, boolean prompt, Optional<String> date) {
    Map<String, Object> bindings = new HashMap<>(specialTokens);
    int disguise = disguise(messages.stream().map(Message::content).collect(Collectors.joining()));
    List<Map<String, String>> shielded = new ArrayList<>();
    for (Message message : messages) {
      String content =
          mapped(
              message.content(),
              c -> c < ' ' && c != '\t' && c != '\n' && c != '\r' ? disguise + c : c);
      shielded.add(Map.of("role", message.role(), "content", content));
    }
    bindings.put("messages", shielded);
    bindings.put("add_generation_prompt", prompt);
    bindings.put("tools", null);
    bindings.put("documents", null);
    date.ifPresent(text -> bindings.put("date_string", text));
    RenderResult result = engine.renderForResult(source, bindings);
    if (result.hasErrors()) {
      var error = result.getErrors().get(0);
      throw unsupported(
          "line " + error.getLineno() + ": " + error.getMessage() + cause(error.getException()));
    }
    return mapped(result.getOutput(), c -> c >= disguise && c < disguise + ' ' ? c - disguise : c);
  }

  /**
   * The engine spells control characters out as escapes, so they pass it in disguise: as the last
   * 32 private code points that the texts themselves do not use.
   */
  private static int disguise(String texts) {
    int first = Character.MAX_CODE_POINT + 1;
    boolean used;
    do {
      first -= ' ';
      int begin = first;
      used = texts.codePoints().anyMatch(c -> c >= begin && c < begin + ' ');
    } while (used);
    return first;
  }

  private static String mapped(String text, IntUnaryOperator map) {
    int[] points = text.codePoints().map(map).toArray();
    return new String(points, 0, points.length);
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
            + "; set a plain prompt template with {question} in it instead (data.prompt).");
  }
}
