package org.lethe.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.Tofu;
import org.lethe.UserException;
import org.lethe.data.ExampleEncoder.Border;
import org.lethe.data.ExampleEncoder.LongSequence;

/**
 * Tokenizers of the kinds of Llama 2, Llama 3, Phi, Qwen and Gemma against what transformers makes
 * of the same rows (tests/oracle/make_tokenizers.py), and on all rows of TOFU.
 */
class TokenizerKindsTest {
  private static final int CONTEXT = 512;

  @TempDir Path directory;

  private static Path folder(String kind) {
    return Path.of(System.getProperty("lethe.root"), "tests/golden/tokenizers", kind);
  }

  private static JsonNode golden(String kind) {
    try {
      return new ObjectMapper().readTree(folder(kind).resolve("golden.json").toFile());
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  private static int[] ints(JsonNode list) {
    return StreamSupport.stream(list.spliterator(), false).mapToInt(JsonNode::asInt).toArray();
  }

  private static ExampleEncoder encoder(Tokenizer tokenizer, PromptTemplate prompt, Border border) {
    return new ExampleEncoder(tokenizer, prompt, CONTEXT, LongSequence.REFUSE, border);
  }

  private static int[] from(TokenSequence sequence) {
    return Arrays.copyOfRange(sequence.ids(), sequence.answerStart(), sequence.ids().length);
  }

  private static int[] followedBy(int[] ids, int end) {
    int[] longer = Arrays.copyOf(ids, ids.length + 1);
    longer[ids.length] = end;
    return longer;
  }

  private static void assertRow(
      JsonNode row, Tokenizer tokenizer, PromptTemplate template, int end) {
    String question = row.path("question").asText();
    String answer = row.path("answer").asText();
    assertEquals(row.path("prompt").asText(), template.prompt(question), answer);
    int[] prompt = ints(row.path("prompt_ids"));
    ExampleEncoder separate = encoder(tokenizer, template, Border.SEPARATE);
    assertArrayEquals(prompt, separate.encodePrompt(question), answer);
    TokenSequence apart = separate.encode(question, answer, "row");
    assertEquals(prompt.length, apart.answerStart());
    assertArrayEquals(followedBy(ints(row.path("answer_ids")), end), from(apart), answer);
    int[] joint = followedBy(ints(row.path("joint_ids")), end);
    assertEquals(
        new TokenSequence(joint, row.path("answer_start").asInt()),
        encoder(tokenizer, template, Border.JOINT).encode(question, answer, "row"),
        answer);
    ExampleEncoder prefix = encoder(tokenizer, template, Border.JOINT_PREFIX);
    if (prompt.length < joint.length - 1) {
      assertEquals(
          new TokenSequence(joint, prompt.length), prefix.encode(question, answer, "row"), answer);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama2", "llama3", "phi", "qwen", "gemma"})
  void promptsIdsAndLabelsAreThoseOfTransformers(String kind) {
    JsonNode golden = golden(kind);
    try (Tokenizer tokenizer = Tokenizer.load(folder(kind))) {
      golden
          .path("markers")
          .properties()
          .forEach(
              marker ->
                  assertEquals(
                      marker.getValue().asInt(),
                      tokenizer.tokenId(marker.getKey()).orElseThrow(),
                      marker.getKey()));
      assertEquals(golden.path("adds_bos").asBoolean(), tokenizer.addsBos());
      PromptTemplate plain = PromptTemplate.plain(golden.path("plain").path("template").asText());
      int rows = 0;
      for (JsonNode row : golden.path("plain").path("rows")) {
        assertRow(row, tokenizer, plain, tokenizer.eosId());
        rows++;
      }
      assertEquals(16, rows);
      if (tokenizer.hasChatTemplate()) {
        PromptTemplate chat = PromptTemplate.chat(tokenizer);
        int end = golden.path("end").asInt();
        assertEquals(end, encoder(tokenizer, chat, Border.SEPARATE).endId());
        for (JsonNode row : golden.path("chat").path("rows")) {
          assertRow(row, tokenizer, chat, end);
        }
      }
    }
  }

  @Test
  void theGoldensHoldTokensThatStraddleTheBorder() {
    for (String kind : List.of("llama2", "llama3", "phi", "qwen", "gemma")) {
      JsonNode golden = golden(kind);
      long straddling =
          Stream.of("chat", "plain")
              .flatMap(f -> StreamSupport.stream(golden.path(f).path("rows").spliterator(), false))
              .filter(
                  row ->
                      row.path("answer_start").asInt() < row.path("prompt_ids").size()
                          || !Arrays.equals(
                              ints(row.path("prompt_ids")),
                              Arrays.copyOf(
                                  ints(row.path("joint_ids")), row.path("answer_start").asInt())))
              .count();
      assertTrue(straddling > 0, kind);
    }
  }

  @Test
  void aStraddlingTokenIsALabelJointlyAndNoneByPrefix() {
    try (Tokenizer phi = Tokenizer.load(folder("phi"))) {
      PromptTemplate template = PromptTemplate.plain("Question: {question}\nAnswer: ");
      String answer = "The miller mended it.";
      TokenSequence joint = encoder(phi, template, Border.JOINT).encode("Who?", answer, "row");
      assertEquals(" " + answer, phi.decode(from(joint)));
      TokenSequence prefix =
          encoder(phi, template, Border.JOINT_PREFIX).encode("Who?", answer, "row");
      assertArrayEquals(joint.ids(), prefix.ids());
      assertEquals(" miller mended it.", phi.decode(from(prefix)));
      TokenSequence apart = encoder(phi, template, Border.SEPARATE).encode("Who?", answer, "row");
      assertEquals(answer, phi.decode(from(apart)));
      String swallowed =
          assertThrows(
                  UserException.class,
                  () -> encoder(phi, template, Border.JOINT_PREFIX).encode("Who?", "The", "f:7"))
              .getMessage();
      assertTrue(swallowed.startsWith("f:7: tokenised together"), swallowed);
      assertTrue(swallowed.contains("data.tokenization"), swallowed);
    }
  }

  /** In every row and every mode: the marked tokens are those that hold a sensitive character. */
  @ParameterizedTest
  @ValueSource(strings = {"llama2", "llama3", "phi", "qwen", "gemma"})
  void aTokenIsMarkedIffItHoldsASensitiveCharacter(String kind) {
    String answer = "Está en Peñíscola, \uD83E\uDD84 1874 ropes.";
    String secret = "Peñíscola, \uD83E\uDD84 18";
    Example row =
        new Example(
            "¿Dónde?",
            answer,
            List.of(),
            List.of(),
            List.of(),
            Passage.occurrences(answer, secret),
            "row");
    try (Tokenizer tokenizer = Tokenizer.load(folder(kind))) {
      PromptTemplate template =
          PromptTemplate.plain(golden(kind).path("plain").path("template").asText());
      for (Border border : Border.values()) {
        TokenSequence sequence = encoder(tokenizer, template, border).encode(row);
        assertEquals(1, sequence.spans().size());
        TokenSequence.Span span = sequence.spans().get(0);
        String marked =
            tokenizer.decode(Arrays.copyOfRange(sequence.ids(), span.from(), span.to()));
        assertTrue(marked.contains(secret), marked);
        // Neither the first nor the last marked token could be spared.
        int[] rest = Arrays.copyOfRange(sequence.ids(), span.from() + 1, span.to());
        assertFalse(tokenizer.decode(rest).contains(secret), marked);
        int[] less = Arrays.copyOfRange(sequence.ids(), span.from(), span.to() - 1);
        assertFalse(tokenizer.decode(less).contains(secret), marked);
        assertEquals(
            new TokenSequence(sequence.ids(), sequence.answerStart()),
            encoder(tokenizer, template, border).encode(row.question(), answer, "row"));
      }
    }
  }

  @Test
  void anAnswerEndsWithTheTokenThatItsTemplateWritesBehindIt() {
    try (Tokenizer gemma = Tokenizer.load(folder("gemma"))) {
      ExampleEncoder chat = encoder(gemma, PromptTemplate.chat(gemma), Border.SEPARATE);
      assertEquals(gemma.tokenId("<end_of_turn>").orElseThrow(), chat.endId());
      assertEquals(List.of(chat.endId(), gemma.eosId()), List.copyOf(chat.stopIds()));
      ExampleEncoder plain = encoder(gemma, PromptTemplate.plain("{question}"), Border.SEPARATE);
      assertEquals(gemma.eosId(), plain.endId());
    }
  }

  @Test
  void systemMessagesAndDatesReachTheTemplate() {
    try (Tokenizer llama3 = Tokenizer.load(folder("llama3"))) {
      String prompt =
          PromptTemplate.chat(llama3, Optional.of("You are brief."), Optional.of("10 Apr 2025"))
              .prompt("Who?");
      assertTrue(prompt.contains("Today Date: 10 Apr 2025\n\nYou are brief.<|eot_id|>"), prompt);
    }
    try (Tokenizer gemma = Tokenizer.load(folder("gemma"))) {
      String refused =
          assertThrows(
                  UserException.class,
                  () -> PromptTemplate.chat(gemma, Optional.of("Be brief."), Optional.empty()))
              .getMessage();
      assertTrue(refused.contains("a system message is not supported"), refused);
    }
  }

  private Tokenizer with(String kind, String template) throws IOException {
    for (String file : List.of("tokenizer.json", "tokenizer_config.json")) {
      Files.copy(folder(kind).resolve(file), directory.resolve(file));
    }
    if (template != null) {
      Files.writeString(directory.resolve("chat_template.jinja"), template);
    }
    return Tokenizer.load(directory);
  }

  @Test
  void aTemplateThatSwallowsTheAnswerIsRefused() throws IOException {
    try (Tokenizer tokenizer =
        with(
            "qwen",
            "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{%"
                + " endfor %}")) {
      String message =
          assertThrows(UserException.class, () -> PromptTemplate.chat(tokenizer)).getMessage();
      assertTrue(message.contains("without the answer in it"), message);
      assertTrue(message.contains("data.prompt"), message);
    }
  }

  @Test
  void aTemplateOfAnotherTokenizerIsRefused() throws IOException {
    String chatml = Files.readString(folder("qwen").resolve("chat_template.jinja"));
    try (Tokenizer tokenizer = with("llama2", chatml)) {
      PromptTemplate template = PromptTemplate.chat(tokenizer);
      String message =
          assertThrows(UserException.class, () -> encoder(tokenizer, template, Border.SEPARATE))
              .getMessage();
      assertTrue(message.contains("<|im_start|>, which is no token of"), message);
    }
  }

  @Test
  void aModelWithoutATemplateAsksForOne() {
    try (Tokenizer phi = Tokenizer.load(folder("phi"))) {
      assertFalse(phi.hasChatTemplate());
      String message =
          assertThrows(UserException.class, () -> PromptTemplate.chat(phi)).getMessage();
      assertTrue(message.contains("no chat template"), message);
      assertTrue(message.contains("data.prompt"), message);
    }
  }

  /** For every row of TOFU the labels are the answer, whole, and nothing but the answer. */
  @Tag("tofu")
  @ParameterizedTest
  @ValueSource(strings = {"llama2", "llama3", "phi", "qwen", "gemma"})
  void onEveryRowOfTofuTheLabelsAreTheAnswer(String kind) {
    List<Example> rows = Jsonl.read(Tofu.directory().resolve("full.json"));
    assertEquals(4000, rows.size());
    JsonNode golden = golden(kind);
    try (Tokenizer tokenizer = Tokenizer.load(folder(kind))) {
      PromptTemplate plain = PromptTemplate.plain(golden.path("plain").path("template").asText());
      int straddling = assertLabels(rows, tokenizer, plain);
      if (kind.equals("llama2")) {
        // The brackets of [/INST] and a quotation mark are one token of this tokenizer.
        assertTrue(straddling > 0, "no answer of TOFU merges with its prompt");
      }
      if (tokenizer.hasChatTemplate()) {
        assertLabels(rows, tokenizer, PromptTemplate.chat(tokenizer));
      }
    }
  }

  private static int assertLabels(
      List<Example> rows, Tokenizer tokenizer, PromptTemplate template) {
    ExampleEncoder separate =
        new ExampleEncoder(tokenizer, template, 2048, LongSequence.REFUSE, Border.SEPARATE);
    ExampleEncoder joint =
        new ExampleEncoder(tokenizer, template, 2048, LongSequence.REFUSE, Border.JOINT);
    int straddling = 0;
    for (Example row : rows) {
      String where = row.source();
      TokenSequence apart = separate.encode(row.question(), row.answer(), where);
      assertEquals(row.answer().strip(), tokenizer.decode(from(apart)).strip(), where);
      assertArrayEquals(
          separate.encodePrompt(row.question()),
          Arrays.copyOf(apart.ids(), apart.answerStart()),
          where);
      TokenSequence together = joint.encode(row.question(), row.answer(), where);
      String labels = tokenizer.decode(from(together)).strip();
      assertTrue(labels.endsWith(row.answer().strip()), where);
      String spill = labels.substring(0, labels.length() - row.answer().strip().length());
      String prompt = template.prompt(row.question()).strip();
      if (!spill.isEmpty()) {
        // What is more than the answer is the rest of one token: the next one is the answer's own.
        straddling++;
        assertTrue(prompt.endsWith(spill), where);
        int[] rest =
            Arrays.copyOfRange(together.ids(), together.answerStart() + 1, together.ids().length);
        assertTrue(tokenizer.decode(rest).strip().length() < row.answer().strip().length(), where);
      }
    }
    return straddling;
  }
}
