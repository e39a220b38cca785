package org.lethe.data.corpus;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.List;
import org.lethe.InternalFaultException;

/**
 * A trained byte-level BPE, as {@code tokenizer.json} and {@code tokenizer_config.json} that
 * Hugging Face's library and {@link org.lethe.data.Tokenizer} load.
 *
 * @param vocabulary tokens by id: the special ones, the 256 bytes, then one per merge
 * @param merges in the order they are applied
 */
public record BpeTokenizer(List<String> vocabulary, List<Merge> merges) {
  static final String PAD = "<|pad|>";
  static final String BOS = "<|bos|>";
  static final String EOS = "<|eos|>";
  static final String USER = "<|user|>";
  static final String ASSISTANT = "<|assistant|>";

  /** The special tokens, by id from 0. */
  public static final List<String> SPECIAL_TOKENS = List.of(PAD, BOS, EOS, USER, ASSISTANT);

  private static final String CHAT_TEMPLATE =
      "{{ bos_token }}"
          + "{% for message in messages %}"
          + "{% if message['role'] == 'user' %}"
          + "{{ '<|user|>' + message['content'] }}"
          + "{% elif message['role'] == 'assistant' %}"
          + "{{ '<|assistant|>' + message['content'] + eos_token }}"
          + "{% else %}"
          + "{{ raise_exception('only user and assistant messages are known') }}"
          + "{% endif %}"
          + "{% endfor %}"
          + "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

  private static final JsonMapper MAPPER = JsonMapper.builder().build();

  /**
   * Two neighbouring tokens that become one.
   *
   * @param left as spelt in the vocabulary
   * @param right as spelt in the vocabulary
   */
  public record Merge(String left, String right) {}

  public BpeTokenizer {
    vocabulary = List.copyOf(vocabulary);
    merges = List.copyOf(merges);
  }

  /** Writes both files into a directory, which is created; existing files are replaced. */
  public void write(Path directory) {
    Corpus.writeText(directory.resolve("tokenizer.json"), json(tokenizer()));
    Corpus.writeText(directory.resolve("tokenizer_config.json"), json(config()));
  }

  private ObjectNode tokenizer() {
    ObjectNode root = MAPPER.createObjectNode();
    root.put("version", "1.0");
    root.putNull("truncation");
    root.putNull("padding");
    ArrayNode added = root.putArray("added_tokens");
    for (int id = 0; id < SPECIAL_TOKENS.size(); id++) {
      added
          .addObject()
          .put("id", id)
          .put("content", SPECIAL_TOKENS.get(id))
          .put("single_word", false)
          .put("lstrip", false)
          .put("rstrip", false)
          .put("normalized", false)
          .put("special", true);
    }
    root.putNull("normalizer");
    root.putObject("pre_tokenizer")
        .put("type", "ByteLevel")
        .put("add_prefix_space", false)
        .put("trim_offsets", true)
        .put("use_regex", true);
    root.set("post_processor", postProcessor());
    root.putObject("decoder")
        .put("type", "ByteLevel")
        .put("add_prefix_space", false)
        .put("trim_offsets", true)
        .put("use_regex", true);
    ObjectNode model = root.putObject("model");
    model.put("type", "BPE");
    for (String absent :
        List.of("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")) {
      model.putNull(absent);
    }
    model.put("fuse_unk", false).put("byte_fallback", false).put("ignore_merges", false);
    ObjectNode vocab = model.putObject("vocab");
    for (int id = 0; id < vocabulary.size(); id++) {
      vocab.put(vocabulary.get(id), id);
    }
    ArrayNode pairs = model.putArray("merges");
    merges.forEach(merge -> pairs.addArray().add(merge.left()).add(merge.right()));
    return root;
  }

  /** Puts bos before every text, for those who encode with special tokens. */
  private static ObjectNode postProcessor() {
    ObjectNode processor = MAPPER.createObjectNode();
    processor.put("type", "TemplateProcessing");
    ArrayNode single = processor.putArray("single");
    piece(single, "SpecialToken", BOS, 0);
    piece(single, "Sequence", "A", 0);
    ArrayNode pair = processor.putArray("pair");
    piece(pair, "SpecialToken", BOS, 0);
    piece(pair, "Sequence", "A", 0);
    piece(pair, "Sequence", "B", 1);
    ObjectNode bos = processor.putObject("special_tokens").putObject(BOS);
    bos.put("id", BOS);
    bos.putArray("ids").add(SPECIAL_TOKENS.indexOf(BOS));
    bos.putArray("tokens").add(BOS);
    return processor;
  }

  private static void piece(ArrayNode template, String kind, String id, int typeId) {
    template.addObject().putObject(kind).put("id", id).put("type_id", typeId);
  }

  private static ObjectNode config() {
    ObjectNode root = MAPPER.createObjectNode();
    root.put("tokenizer_class", "PreTrainedTokenizerFast");
    root.put("bos_token", BOS);
    root.put("eos_token", EOS);
    root.put("pad_token", PAD);
    root.put("clean_up_tokenization_spaces", false);
    root.put("chat_template", CHAT_TEMPLATE);
    return root;
  }

  private static String json(ObjectNode root) {
    try {
      return MAPPER.writerWithDefaultPrettyPrinter().writeValueAsString(root).replace("\r\n", "\n")
          + "\n";
    } catch (JsonProcessingException e) {
      throw new InternalFaultException("a tokenizer cannot be written as JSON", e);
    }
  }
}
