package org.lethe.data;

import ai.djl.engine.EngineException;
import ai.djl.huggingface.tokenizers.Encoding;
import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import ai.djl.huggingface.tokenizers.jni.CharSpan;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Set;
import org.lethe.EnvironmentException;
import org.lethe.UserException;

/**
 * A Hugging Face tokenizer: {@code tokenizer.json} run by the reference implementation, with the
 * special tokens and the chat template of {@code tokenizer_config.json} beside it. Reads local
 * files only. Any thread may encode and decode; {@link #close} must come last.
 *
 * <p>As in Hugging Face's own library, a special token spelt out in a text becomes that token.
 */
public final class Tokenizer implements AutoCloseable {
  /**
   * What the tokenizer library is told, for the length of the call that loads it: unless it is
   * offline it reports its use and looks for a CUDA build of itself over the network; and it logs
   * its search for a GPU, which concerns nobody here. The second key is read by slf4j-simple alone;
   * any other log binding is configured by whoever brings it.
   */
  private static final Map<String, String> QUIET_AND_OFFLINE =
      Map.of("ai.djl.offline", "true", "org.slf4j.simpleLogger.log.ai.djl", "error");

  private final Path file;
  private final HuggingFaceTokenizer delegate;
  private final TokenizerFiles.Config config;
  private final Map<String, Integer> ids;
  private final Set<String> controlTokens;
  private final int vocabularySize;

  /**
   * A text's tokens and where each begins and ends in it.
   *
   * @param ids token ids [tokens]
   * @param starts index of the first character of the text that a token has part in, in code points
   *     [tokens]
   * @param ends index behind the last character of the text that a token has part in, in code
   *     points [tokens]
   */
  // Made, read once and dropped; copies would guard nothing.
  @SuppressWarnings("ArrayRecordComponent")
  record Located(int[] ids, int[] starts, int[] ends) {}

  private Tokenizer(
      Path file,
      HuggingFaceTokenizer delegate,
      TokenizerFiles.Config config,
      Map<String, Integer> ids,
      Set<String> controlTokens) {
    this.file = file;
    this.delegate = delegate;
    this.config = config;
    this.ids = ids;
    this.controlTokens = controlTokens;
    this.vocabularySize = ids.values().stream().mapToInt(Integer::intValue).max().orElse(-1) + 1;
  }

  /**
   * Loads a tokenizer.
   *
   * @param directoryOrFile a directory with {@code tokenizer.json}, or that file; {@code
   *     tokenizer_config.json} and {@code chat_template.jinja} are read from beside it where they
   *     exist
   * @throws UserException when a file is missing, broken, or names a special token that the
   *     vocabulary lacks
   * @throws EnvironmentException when the native tokenizer library cannot be loaded
   */
  public static Tokenizer load(Path directoryOrFile) {
    Path file =
        Files.isDirectory(directoryOrFile)
            ? directoryOrFile.resolve("tokenizer.json")
            : directoryOrFile;
    ObjectNode root = TokenizerFiles.object(file);
    Map<String, Integer> ids = TokenizerFiles.vocabulary(root, file);
    TokenizerFiles.Config config = TokenizerFiles.config(file.toAbsolutePath().getParent());
    for (Optional<String> token : List.of(config.bos(), config.eos(), config.pad())) {
      if (token.isPresent() && !ids.containsKey(token.get())) {
        throw new UserException(
            file.resolveSibling("tokenizer_config.json")
                + ": special token \""
                + token.get()
                + "\" is not in the vocabulary of "
                + file
                + "; the two files do not belong together.");
      }
    }
    // Length is the encoder's affair; left in, the library would silently cut or pad.
    root.putNull("truncation");
    root.putNull("padding");
    return new Tokenizer(file, open(file, root), config, ids, TokenizerFiles.controlTokens(root));
  }

  private static synchronized HuggingFaceTokenizer open(Path file, JsonNode root) {
    Map<String, Optional<String>> before = new HashMap<>();
    QUIET_AND_OFFLINE.forEach(
        (key, value) -> before.put(key, Optional.ofNullable(System.setProperty(key, value))));
    try {
      Map<String, String> options = new HashMap<>();
      options.put("addSpecialTokens", "false");
      options.put("truncation", "DO_NOT_TRUNCATE");
      options.put("padding", "DO_NOT_PAD");
      return HuggingFaceTokenizer.newInstance(
          new ByteArrayInputStream(TokenizerFiles.bytes(root)), options);
    } catch (LinkageError | EngineException e) {
      throw unloadable(e);
    } catch (IOException | RuntimeException e) {
      throw new UserException(
          file + " is not a tokenizer that can be read: " + e.getMessage() + ".", e);
    } finally {
      before.forEach(
          (key, value) ->
              value.ifPresentOrElse(
                  old -> System.setProperty(key, old), () -> System.clearProperty(key)));
    }
  }

  private static EnvironmentException unloadable(Throwable cause) {
    return new EnvironmentException(
        "The native tokenizer library cannot be loaded: "
            + cause.getMessage()
            + ". It is unpacked into ~/.djl.ai (DJL_CACHE_DIR moves it), which must be writable and"
            + " allow execution.",
        cause);
  }

  /** The ids of a text, without added special tokens; empty for the empty text. */
  public int[] encode(String text) {
    return encode(text, false);
  }

  /** As {@link #encode(String)}, with the place of each token in the text. */
  Located encodeLocated(String text) {
    Encoding encoding = encoding(text, false);
    CharSpan[] spans = encoding.getCharTokenSpans();
    int[] starts = new int[spans.length];
    int[] ends = new int[spans.length];
    for (int i = 0; i < spans.length; i++) {
      // A token that stands for no character has part in none.
      starts[i] = spans[i] == null ? 0 : spans[i].getStart();
      ends[i] = spans[i] == null ? 0 : spans[i].getEnd();
    }
    return new Located(ids(encoding), starts, ends);
  }

  /** The text of some ids; special tokens are left out. */
  public String decode(int[] tokens) {
    return decode(tokens, true);
  }

  /**
   * The texts that tokens add one after the other, special tokens spelt out; together they are the
   * decoded whole. Where a character is spread over several tokens, the last of them has it and the
   * others are empty.
   */
  public List<String> pieces(int[] tokens) {
    List<String> pieces = new ArrayList<>();
    String before = "";
    for (int i = 1; i <= tokens.length; i++) {
      // A token's text depends on what stands before it: some tokenizers drop a leading space.
      String text = decode(Arrays.copyOf(tokens, i), false);
      boolean whole = !text.endsWith("\uFFFD") || i == tokens.length;
      if (whole && text.startsWith(before)) {
        pieces.add(text.substring(before.length()));
        before = text;
      } else if (whole) {
        pieces.add(decode(new int[] {tokens[i - 1]}, false));
        before = text;
      } else {
        pieces.add("");
      }
    }
    return pieces;
  }

  private String decode(int[] tokens, boolean skipSpecial) {
    long[] wide = new long[tokens.length];
    for (int i = 0; i < tokens.length; i++) {
      if (tokens[i] < 0) {
        throw new IllegalArgumentException("negative token id " + tokens[i]);
      }
      wide[i] = tokens[i];
    }
    return delegate.decode(wide, skipSpecial);
  }

  /** One more than the largest id. */
  public int vocabularySize() {
    return vocabularySize;
  }

  /**
   * Checks that every id the tokenizer can produce has a row in a model's embedding.
   *
   * @param modelVocabulary the model's vocabulary size; larger than the tokenizer's is usual
   *     (padded embeddings)
   * @throws UserException when an id could reach beyond it
   */
  public void requireVocabulary(int modelVocabulary) {
    if (vocabularySize > modelVocabulary) {
      throw new UserException(
          file
              + " has token ids up to "
              + (vocabularySize - 1)
              + ", but the model's vocabulary is "
              + modelVocabulary
              + "; use the tokenizer that belongs to the model.");
    }
  }

  /**
   * The id of the token that ends an answer.
   *
   * @throws UserException when {@code tokenizer_config.json} names none
   */
  public int eosId() {
    return ids.get(
        config
            .eos()
            .orElseThrow(
                () ->
                    new UserException(
                        file.resolveSibling("tokenizer_config.json")
                            + " names no \"eos_token\"; add the token that ends an answer.")));
  }

  /** The id of the token that begins a text, where there is one. */
  public OptionalInt bosId() {
    return config.bos().map(token -> OptionalInt.of(ids.get(token))).orElse(OptionalInt.empty());
  }

  /** The id of the padding token, where there is one. */
  public OptionalInt padId() {
    return config.pad().map(token -> OptionalInt.of(ids.get(token))).orElse(OptionalInt.empty());
  }

  /** The id of a token of the vocabulary, spelt as in {@code tokenizer.json}. */
  public OptionalInt tokenId(String token) {
    Integer id = ids.get(token);
    return id == null ? OptionalInt.empty() : OptionalInt.of(id);
  }

  /** The longest control token (a special added token) that a text begins with. */
  Optional<String> controlTokenAtStart(String text) {
    return controlTokens.stream()
        .filter(text::startsWith)
        .max(Comparator.comparingInt(String::length));
  }

  /** Whether the tokenizer's own post-processing puts the bos token before a text. */
  public boolean addsBos() {
    int[] marked = encode("a", true);
    return bosId().isPresent() && marked.length > 0 && marked[0] == bosId().getAsInt();
  }

  /** Whether there is a token that ends an answer. */
  public boolean hasEos() {
    return config.eos().isPresent();
  }

  /** Whether the model came with a chat template. */
  public boolean hasChatTemplate() {
    return config.chatTemplate().isPresent();
  }

  /** The chat template, where the model has one. */
  Optional<String> chatTemplate() {
    return config.chatTemplate();
  }

  /** The special tokens that a chat template may print, by their Hugging Face names. */
  Map<String, String> specialTokens() {
    Map<String, String> tokens = new HashMap<>();
    config.bos().ifPresent(token -> tokens.put("bos_token", token));
    config.eos().ifPresent(token -> tokens.put("eos_token", token));
    config.pad().ifPresent(token -> tokens.put("pad_token", token));
    return tokens;
  }

  /** Where the tokenizer was read, for messages. */
  Path file() {
    return file;
  }

  @Override
  public void close() {
    delegate.close();
  }

  /** Whether a text can be written in UTF-8: no half of a surrogate pair stands alone. */
  static boolean isWellFormed(String text) {
    // Pairs come as one code point, so what is left in the surrogate range stands alone.
    return text.codePoints()
        .noneMatch(c -> c >= Character.MIN_SURROGATE && c <= Character.MAX_SURROGATE);
  }

  private int[] encode(String text, boolean addSpecialTokens) {
    return ids(encoding(text, addSpecialTokens));
  }

  private Encoding encoding(String text, boolean addSpecialTokens) {
    if (!isWellFormed(text)) {
      throw new UserException(
          "A text to be tokenised holds half of a surrogate pair; repair it where it comes from.");
    }
    return delegate.encode(text, addSpecialTokens, false);
  }

  private static int[] ids(Encoding encoding) {
    long[] wide = encoding.getIds();
    int[] tokens = new int[wide.length];
    for (int i = 0; i < wide.length; i++) {
      tokens[i] = Math.toIntExact(wide[i]);
    }
    return tokens;
  }
}
