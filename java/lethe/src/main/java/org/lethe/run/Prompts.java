package org.lethe.run;

import org.lethe.config.DataConfig;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.PromptTemplate;
import org.lethe.data.Tokenizer;

/** How a configuration's rows become token sequences. */
final class Prompts {
  private Prompts() {}

  /** The configured prompt, or the tokenizer's chat template. */
  static PromptTemplate template(DataConfig data, Tokenizer tokenizer) {
    return data.prompt()
        .map(PromptTemplate::plain)
        .orElseGet(() -> PromptTemplate.chat(tokenizer, data.systemPrompt(), data.dateString()));
  }

  /**
   * The encoder of the configured rows.
   *
   * @param context the most tokens a sequence may have
   * @param tooLong what becomes of a longer one
   */
  static ExampleEncoder encoder(
      DataConfig data, Tokenizer tokenizer, int context, ExampleEncoder.LongSequence tooLong) {
    return new ExampleEncoder(
        tokenizer,
        template(data, tokenizer),
        context,
        tooLong,
        ExampleEncoder.Border.valueOf(data.tokenization().name()));
  }
}
