package org.lethe.run;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Consumer;
import org.lethe.UserException;
import org.lethe.config.Chunk;
import org.lethe.config.DataConfig;
import org.lethe.config.RunConfig;
import org.lethe.data.Example;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.Jsonl;
import org.lethe.data.TokenSequence;
import org.lethe.data.Tokenizer;

/** A configuration's rows: whether they can be read, and how long they are. */
final class DataCheck {
  /** Bad rows of a file that are listed; the others are counted. */
  private static final int SHOWN = 20;

  private final RunConfig config;
  private final Task task;
  private final Consumer<Finding> findings;
  private final Map<String, List<Example>> parts = new LinkedHashMap<>();

  DataCheck(RunConfig config, Task task, Consumer<Finding> findings) {
    this.config = config;
    this.task = task;
    this.findings = findings;
  }

  /** Reads every file that is named, also those that the task does not use. */
  void read() {
    DataConfig data = config.data();
    Map<String, List<Path>> files = new LinkedHashMap<>();
    files.put("train", data.train());
    files.put("forget", data.forget());
    files.put("retain", data.retain());
    files.put("general", data.general());
    files.put("holdout", data.holdout());
    files.put("mismatch", data.mismatch());
    files.put("unseen", data.unseen());
    files.forEach(
        (part, paths) -> {
          List<Example> rows = new ArrayList<>();
          paths.forEach(path -> rows.addAll(read(part, path)));
          parts.put(part, part.equals("forget") ? chunk(rows) : rows);
        });
    requireRows();
    overlap();
  }

  private List<Example> chunk(List<Example> rows) {
    if (config.data().forgetChunk().isEmpty()) {
      return rows;
    }
    Chunk chunk = Chunk.parse(config.data().forgetChunk().get());
    if (rows.size() < chunk.count()) {
      add(
          Finding.Level.ERROR,
          "forget_chunk",
          "is "
              + chunk
              + ", but there are only "
              + rows.size()
              + " forget rows; make fewer chunks");
    }
    return chunk.of(rows);
  }

  /** Whether a part names no file; one whose rows are all bad was reported already. */
  boolean isEmpty(String part) {
    return parts.get(part).isEmpty() && files(part).isEmpty();
  }

  /** Rows of a part that could be read. */
  int rows(String part) {
    return parts.get(part).size();
  }

  /** Where the first forget row without an alternate answer stands. */
  Optional<String> firstWithoutAlternate() {
    return parts.get("forget").stream()
        .filter(row -> row.alternateAnswers().isEmpty())
        .map(Example::source)
        .findFirst();
  }

  private List<Path> files(String part) {
    DataConfig data = config.data();
    return switch (part) {
      case "train" -> data.train();
      case "forget" -> data.forget();
      case "retain" -> data.retain();
      case "general" -> data.general();
      case "mismatch" -> data.mismatch();
      case "unseen" -> data.unseen();
      default -> data.holdout();
    };
  }

  private List<Example> read(String part, Path path) {
    List<UserException> problems = new ArrayList<>();
    List<Example> rows = Jsonl.read(path, problems::add);
    problems.stream().limit(SHOWN).forEach(p -> add(Finding.Level.ERROR, part, p.getMessage()));
    if (problems.size() > SHOWN) {
      add(
          Finding.Level.ERROR,
          part,
          path + ": " + (problems.size() - SHOWN) + " more rows are refused");
    }
    return rows;
  }

  private void requireRows() {
    switch (task) {
      case FINETUNE -> {
        if (isEmpty("train")) {
          add(Finding.Level.ERROR, "train", "there are no rows to learn; give data.train=[FILE]");
        }
      }
      case UNLEARN -> {
        if (isEmpty("forget")) {
          add(
              Finding.Level.ERROR,
              "forget",
              "the forget set is empty: there is nothing to unlearn; give data.forget=[FILE]");
        }
      }
      case EVALUATE -> {
        if (List.of("forget", "retain", "general", "holdout").stream().allMatch(this::isEmpty)) {
          add(
              Finding.Level.ERROR,
              "forget",
              "there is nothing to evaluate; give data.forget, data.retain, data.general or"
                  + " data.holdout");
        }
      }
    }
  }

  /** A row that is both forgotten and kept teaches nothing, and its scores say nothing. */
  private void overlap() {
    Set<String> forget = new HashSet<>();
    parts.get("forget").forEach(e -> forget.add(e.question() + '\0' + e.answer()));
    for (String part : List.of("retain", "general", "holdout")) {
      List<Example> both =
          parts.get(part).stream()
              .filter(e -> forget.contains(e.question() + '\0' + e.answer()))
              .toList();
      if (!both.isEmpty()) {
        add(
            Finding.Level.WARNING,
            part,
            both.size()
                + " rows are in data.forget, too, the first at "
                + both.get(0).source()
                + "; remove them from one of the two");
      }
    }
  }

  /** Tokenises every row and tells which do not fit. */
  void lengths(Tokenizer tokenizer, int context) {
    boolean refuse = config.data().onTooLong() == DataConfig.Truncation.REFUSE;
    ExampleEncoder encoder =
        Prompts.encoder(
            config.data(), tokenizer, Integer.MAX_VALUE, ExampleEncoder.LongSequence.TRUNCATE);
    parts.forEach((part, rows) -> lengths(part, rows, encoder, context, refuse));
  }

  private void lengths(
      String part, List<Example> rows, ExampleEncoder encoder, int context, boolean refuse) {
    int cut = 0;
    int longest = 0;
    int listed = 0;
    Example first = null;
    for (Example row : rows) {
      TokenSequence tokens;
      try {
        tokens = longest(row, encoder);
      } catch (UserException e) {
        add(Finding.Level.ERROR, part, e.getMessage());
        continue;
      }
      int length = tokens.ids().length;
      if (tokens.answerStart() >= context && listed++ < SHOWN) {
        add(
            Finding.Level.ERROR,
            part,
            row.source()
                + ": the prompt has "
                + tokens.answerStart()
                + " tokens and leaves no room for an answer in a context of "
                + context
                + "; raise data.context_length or shorten the question");
      } else if (length > context) {
        first = cut++ == 0 ? row : first;
        longest = Math.max(longest, length);
      }
    }
    if (cut > 0) {
      add(
          refuse ? Finding.Level.ERROR : Finding.Level.WARNING,
          part,
          cut
              + " of "
              + rows.size()
              + " rows are longer than the context of "
              + context
              + " tokens (up to "
              + longest
              + ", the first at "
              + first.source()
              + ") and would be "
              + (refuse ? "refused" : "cut, losing the end of the answer")
              + "; raise data.context_length or shorten them");
    }
  }

  /** The row with the longest of its answers, which an evaluation looks at, too. */
  private static TokenSequence longest(Example row, ExampleEncoder encoder) {
    List<String> answers = new ArrayList<>(List.of(row.answer()));
    answers.addAll(row.paraphrasedAnswers());
    answers.addAll(row.perturbedAnswers());
    TokenSequence longest = null;
    for (String answer : answers) {
      TokenSequence tokens = encoder.encode(row.question(), answer, row.source());
      if (longest == null || tokens.ids().length > longest.ids().length) {
        longest = tokens;
      }
    }
    return longest;
  }

  private void add(Finding.Level level, String part, String message) {
    findings.accept(new Finding(level, "data." + part, message));
  }
}
