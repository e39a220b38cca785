package org.lethe.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.UserException;
import org.lethe.data.corpus.BpeTrainer;

class PromptTemplateTest {
  @TempDir Path directory;

  private static String render(String source, String question) {
    return new ChatTemplate(source, Map.of("bos_token", "<s>", "eos_token", "</s>"))
        .render(question);
  }

  private static String refusal(String source) {
    return assertThrows(UserException.class, () -> render(source, "q")).getMessage();
  }

  private Tokenizer tokenizer(String template) throws IOException {
    BpeTrainer.train(List.of(), 261).write(directory);
    if (template != null) {
      Files.writeString(directory.resolve("chat_template.jinja"), template);
    }
    return Tokenizer.load(directory);
  }

  @Test
  void plainTemplatesTakeTheQuestionAsItStands() {
    PromptTemplate template = PromptTemplate.plain("[INST] {question} [/INST]");
    assertEquals("[INST] {question} $1 \\ [/INST]", template.prompt("{question} $1 \\"));
    assertThrows(UserException.class, () -> PromptTemplate.plain("no slot"));
    assertThrows(UserException.class, () -> PromptTemplate.plain("{question} {question}"));
  }

  @Test
  void aUserTurnThenTheAssistantsHeader() {
    // The shape of Llama 3's template: trimmed content, bos before the first message only.
    String source =
        "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content ="
            + " '<h>' + message['role'] + '</h>\n\n' + message['content'] | trim + '<eot>' %}"
            + "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
            + "{{ content }}{% endfor %}"
            + "{% if add_generation_prompt %}{{ '<h>assistant</h>\n\n' }}{% endif %}";
    assertEquals("<s><h>user</h>\n\nWho?<eot><h>assistant</h>\n\n", render(source, " Who? "));
  }

  @Test
  void newlinesBetweenBlocksAreTrimmedAsHuggingFaceDoes() {
    String source =
        """
        {% for message in messages %}
        {% if message['role'] == 'user' %}
        {{ '<|user|>\n' + message['content'] + eos_token }}
        {% endif %}
        {% if loop.last and add_generation_prompt %}
        {{ '<|assistant|>' }}
        {% endif %}
        {% endfor %}\
        """;
    assertEquals("<|user|>\nWho?</s>\n<|assistant|>\n", render(source, "Who?"));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "{{ 7 * 7 }}",
        "{% if x %}",
        "{# note #}",
        "a \\n b \\u0041 \\\\",
        "it's \"quoted\"",
        "<b> & 'c'",
        "tab\tline\nend",
        "bell \u0007 escape \u001b",
        "bell \u0007 and the last code points \udbff\udfe7 \udbff\udfff",
        "caf\u00e9 \ud83d\ude00",
        "{question}"
      })
  void aQuestionIsNeverRunOrEscaped(String question) {
    assertEquals(
        "<s>" + question + "|",
        render("{{ bos_token + messages[0]['content'] }}{{ '|' }}", question));
    assertEquals(
        question + "|", render("{{ messages[0].content }}{% if true %}|{% endif %}", question));
  }

  @Test
  void errorsOfTheEngineAreRaised() {
    assertTrue(
        refusal("{{ raise_exception('only with a system message') }}").contains("only with"));
    assertTrue(refusal("{% if %}").contains("cannot be rendered"));
    assertTrue(refusal("{{ messages[::-1] }}").contains("cannot be rendered"));
    assertTrue(refusal("{% include 'secret' %}").contains("cannot be rendered"));
    assertTrue(
        refusal("{% for i in range(0, 3) if i > 1 %}x{% endfor %}").contains("\"if\" clause"));
    assertTrue(refusal("{{ strftime_now('%Q') }}").contains("%Q"));
  }

  @Test
  void blanksBeforeABlockAreDroppedOnlyWhereTheLineBeginsWithThem() {
    assertEquals("Q: q", render("Q: {% if true %}{{ messages[0].content }}{% endif %}", "q"));
    assertEquals("a\nq", render("a\n  {% if true %}q{% endif %}", "q"));
    assertEquals("a\n  q", render("a\n  {{ messages[0].content }}", "q"));
    assertEquals("aq", render("a  {%- if true %}\n  {%- endif %}q", "q"));
  }

  @Test
  void oneNewlineAtTheEndOfTheSourceIsDropped() {
    assertEquals("q\n", render("{{ messages[0].content }}\n\n", "q"));
    assertEquals("q\n", render("{{ messages[0].content }}\n", "q\n"));
  }

  @Test
  void theDateStandsStill() {
    assertEquals("26 Jul 2024", render("{{ strftime_now('%d %b %Y') }}", "q"));
  }

  @Test
  void notIsDefinedIsReadTheRightWayRound() {
    String source = "{% if not tools_in_user is defined %}unset{% else %}set{% endif %}";
    assertEquals("unset", render(source, "q"));
    assertEquals("set", render("{% set tools_in_user = 1 %}" + source, "q"));
  }

  @Test
  void aTokenizersTemplateIsTriedAtOnce() throws IOException {
    try (Tokenizer tokenizer = tokenizer(null)) {
      assertEquals(
          "<|bos|><|user|>Who?<|assistant|>", PromptTemplate.chat(tokenizer).prompt("Who?"));
    }
    try (Tokenizer tokenizer = tokenizer("{{ bos_token }}")) {
      String message =
          assertThrows(UserException.class, () -> PromptTemplate.chat(tokenizer)).getMessage();
      assertTrue(message.contains("without the question"), message);
    }
    Files.delete(directory.resolve("chat_template.jinja"));
    Files.writeString(directory.resolve("tokenizer_config.json"), "{}");
    try (Tokenizer tokenizer = Tokenizer.load(directory)) {
      String message =
          assertThrows(UserException.class, () -> PromptTemplate.chat(tokenizer)).getMessage();
      assertTrue(message.contains("no chat template"), message);
    }
  }

  @Test
  void ofNamedTemplatesTheDefaultIsTaken() throws IOException {
    tokenizer(null).close();
    Files.writeString(
        directory.resolve("tokenizer_config.json"),
        "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"x\"},{\"name\":\"default\",\"template\":\"Q:"
            + " {% for m in messages %}{{ m['content'] }}{% endfor %}\"}]}");
    try (Tokenizer tokenizer = Tokenizer.load(directory)) {
      assertEquals("Q: Who?", PromptTemplate.chat(tokenizer).prompt("Who?"));
    }
  }
}
