package org.lethe.data;

import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.lethe.UserException;

/**
 * Wraps a question as a model expects it. Any thread may call.
 *
 * <p>Two forms: the model's own chat template, rendered with one user message and the header of the
 * assistant's turn; or a plain text with {@code {question}} in it, such as {@code [INST] {question}
 * [/INST]}.
 *
 * <p>A chat template also says what comes between its prompt and an answer (Llama 2: a space) and
 * which token closes the answer: the control token that it writes behind one, which need not be
 * {@code eos_token} (Gemma ends a turn with {@code <end_of_turn>}, its eos is {@code <eos>}). Where
 * it writes none, and with a plain template, that is eos.
 */
public final class PromptTemplate {
  private static final String SLOT = "{question}";
  private static final String PROBE = "QuestionProbe";
  private static final String ANSWER_PROBE = "AnswerProbe";

  /**
   * Markers that are one token in every published tokenizer whose templates write them. Spelt out
   * by a tokenizer that lacks them they would be read as text, and the model would not see a turn.
   */
  private static final List<String> ALWAYS_CONTROL =
      List.of(
          "<|begin_of_text|>",
          "<|start_header_id|>",
          "<|end_header_id|>",
          "<|eot_id|>",
          "<|im_start|>",
          "<|im_end|>",
          "<|endoftext|>",
          "<start_of_turn>",
          "<end_of_turn>");

  private final Renderer renderer;
  private final boolean chat;
  private final String sample;
  private final String lead;
  private final Optional<String> end;

  private interface Renderer {
    String render(String question);
  }

  private PromptTemplate(
      Renderer renderer, boolean chat, String sample, String lead, Optional<String> end) {
    this.renderer = renderer;
    this.chat = chat;
    this.sample = sample;
    this.lead = lead;
    this.end = end;
  }

  /** The chat template that came with the tokenizer, without a system message. */
  public static PromptTemplate chat(Tokenizer tokenizer) {
    return chat(tokenizer, Optional.empty(), Optional.empty());
  }

  /**
   * The chat template that came with the tokenizer. It is tried at once, on a probe, because a
   * template engine's gaps would otherwise show as prompts without a question.
   *
   * @param system message that comes before the question
   * @param date that the template shows, {@code date_string}; empty: the template's own
   * @throws UserException when there is none, it cannot be rendered faithfully, or it swallows the
   *     question or the answer
   */
  public static PromptTemplate chat(
      Tokenizer tokenizer, Optional<String> system, Optional<String> date) {
    String source = tokenizer.chatTemplate().orElseThrow(() -> missing(tokenizer));
    ChatTemplate template = new ChatTemplate(source, tokenizer.specialTokens());
    Renderer renderer = question -> template.render(messages(system, question), true, date);
    String prompt = renderer.render(PROBE);
    requireHeld(prompt, PROBE, tokenizer, "prompt without the question");
    List<ChatTemplate.Message> answered = messages(system, PROBE);
    answered.add(new ChatTemplate.Message("assistant", ANSWER_PROBE));
    String whole = template.render(answered, false, date);
    requireHeld(whole, ANSWER_PROBE, tokenizer, "conversation without the answer");
    system.ifPresent(
        text -> requireHeld(prompt, text.strip(), tokenizer, "prompt without the system message"));
    int answer = whole.lastIndexOf(ANSWER_PROBE);
    String between =
        whole.startsWith(prompt) && prompt.length() <= answer
            ? whole.substring(prompt.length(), answer)
            : "";
    String tail = whole.substring(answer + ANSWER_PROBE.length()).stripLeading();
    return new PromptTemplate(
        renderer,
        true,
        whole,
        between.isBlank() ? between : "",
        tokenizer.controlTokenAtStart(tail));
  }

  /**
   * A plain template.
   *
   * @param template holds {@code {question}} exactly once; everything else is taken as it stands
   */
  public static PromptTemplate plain(String template) {
    int slot = template.indexOf(SLOT);
    if (slot < 0 || template.indexOf(SLOT, slot + 1) >= 0) {
      throw new UserException(
          "The prompt template \"" + template + "\" must hold " + SLOT + " exactly once.");
    }
    String prefix = template.substring(0, slot);
    String suffix = template.substring(slot + SLOT.length());
    return new PromptTemplate(
        question -> prefix + question + suffix, false, template, "", Optional.empty());
  }

  /** The prompt for a question, special tokens of a chat template spelt out. */
  public String prompt(String question) {
    return renderer.render(question);
  }

  /** Whether the template itself decides about bos, as a chat template does. */
  boolean writesSpecialTokens() {
    return chat;
  }

  /** Blanks that the template writes between its prompt and an answer; usually none. */
  String lead() {
    return lead;
  }

  /** The control token that the template writes behind an answer, where it does. */
  Optional<String> end() {
    return end;
  }

  /**
   * Refuses a tokenizer that would spell a control token of this template out.
   *
   * @throws UserException naming the token
   */
  void requireTokens(Tokenizer tokenizer) {
    for (String marker : ALWAYS_CONTROL) {
      if (sample.contains(marker) && tokenizer.tokenId(marker).isEmpty()) {
        throw new UserException(
            "The prompt template writes "
                + marker
                + ", which is no token of "
                + tokenizer.file()
                + "; use the template that belongs to the model, or set a plain one with "
                + SLOT
                + " in it (data.prompt).");
      }
    }
  }

  private static List<ChatTemplate.Message> messages(Optional<String> system, String question) {
    List<ChatTemplate.Message> messages = new ArrayList<>();
    system.ifPresent(text -> messages.add(new ChatTemplate.Message("system", text)));
    messages.add(new ChatTemplate.Message("user", question));
    return messages;
  }

  private static void requireHeld(String text, String probe, Tokenizer tokenizer, String what) {
    if (!text.contains(probe)) {
      throw new UserException(
          "The chat template of "
              + tokenizer.file().getParent()
              + " renders a "
              + what
              + " in it; set a plain prompt template with "
              + SLOT
              + " in it instead (data.prompt).");
    }
  }

  private static UserException missing(Tokenizer tokenizer) {
    return new UserException(
        "The model has no chat template ("
            + tokenizer.file().resolveSibling("tokenizer_config.json")
            + " has no \"chat_template\", and there is no chat_template.jinja beside it); set a"
            + " plain prompt template with "
            + SLOT
            + " in it (data.prompt), for example \"Question: "
            + SLOT
            + "\\nAnswer:\".");
  }
}
