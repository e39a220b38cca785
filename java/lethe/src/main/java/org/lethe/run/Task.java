package org.lethe.run;

import java.util.Locale;
import org.lethe.config.LoraSection;
import org.lethe.config.RunConfig;

/** What a configuration is run as. */
public enum Task {
  FINETUNE,
  UNLEARN,
  EVALUATE;

  /** The verb's name. */
  public String verb() {
    return name().toLowerCase(Locale.ROOT);
  }

  /** What a configuration is most likely meant for, by the rows that it names. */
  public static Task guess(RunConfig config) {
    if (config.adapter().isPresent() && config.lora().start() == LoraSection.Start.FRESH) {
      return EVALUATE;
    }
    if (config.scratch().isPresent()) {
      return FINETUNE;
    }
    if (!config.data().forget().isEmpty()) {
      return UNLEARN;
    }
    return config.data().train().isEmpty() ? EVALUATE : FINETUNE;
  }
}
