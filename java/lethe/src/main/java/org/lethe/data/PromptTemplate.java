package org.lethe.data;

import org.lethe.UserException;

/**
 * Wraps a question as a model expects it. Any thread may call.
 *
 * <p>Two forms: the model's own chat template, rendered with one user message and the header of the
 * assistant's turn; or a plain text with {@code {question}} in it, such as {@code [INST] {question}
 * [/INST]}.
 */
public final class PromptTemplate {
  private static final String SLOT = "{question}";
  private static final String PROBE = "QuestionProbe";

  private final Renderer renderer;
  private final boolean chat;

  private interface Renderer {
    String render(String question);
  }

  private PromptTemplate(Renderer renderer, boolean chat) {
    this.renderer = renderer;
    this.chat = chat;
  }

  /**
   * The chat template that came with the tokenizer. It is tried at once, on a probe, because a
   * template engine's gaps would otherwise show as prompts without a question.
   *
   * @throws UserException when there is none, or it cannot be rendered faithfully
   */
  public static PromptTemplate chat(Tokenizer tokenizer) {
    String source =
        tokenizer
            .chatTemplate()
            .orElseThrow(
                () ->
                    new UserException(
                        "The model has no chat template ("
                            + tokenizer.file().resolveSibling("tokenizer_config.json")
                            + " has no \"chat_template\"); set a plain prompt template with "
                            + SLOT
                            + " in it."));
    ChatTemplate template = new ChatTemplate(source, tokenizer.specialTokens());
    if (!template.render(PROBE).contains(PROBE)) {
      throw new UserException(
          "The chat template of "
              + tokenizer.file().getParent()
              + " renders a prompt without the question in it; set a plain prompt template with "
              + SLOT
              + " in it instead.");
    }
    return new PromptTemplate(template::render, true);
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
    return new PromptTemplate(question -> prefix + question + suffix, false);
  }

  /** The prompt for a question, special tokens of a chat template spelt out. */
  public String prompt(String question) {
    return renderer.render(question);
  }

  /** Whether the template itself decides about bos, as a chat template does. */
  boolean writesSpecialTokens() {
    return chat;
  }
}
