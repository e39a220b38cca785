package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;
import org.lethe.data.corpus.BpeTrainer;

/** Rows as tokens, with the label mask, on a tokenizer that learned three words. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class InspectDataVerbTest {
  private Path root;
  private Path tokenizer;
  private Path rows;

  @BeforeAll
  void write(@TempDir Path directory) throws IOException {
    root = directory;
    tokenizer = directory.resolve("tokenizer");
    BpeTrainer.train(List.of("who is ana", "ana is a vet", "who is a vet"), 300).write(tokenizer);
    rows =
        Files.writeString(
            directory.resolve("rows.jsonl"),
            "{\"question\":\"who is ana\",\"answer\":\"ana is\\na \\u200bvet\"}\n"
                + "{\"question\":\"who is ana\",\"answer\":\"ana is\\na \\u200bvet\"}\n"
                + "{\"question\":\"who\",\"answer\":\" \"}\n"
                + "{\"question\":\"who\",\"answer\":\"\\u20ac\",\"paraphrased_answer\":\"vet\","
                + "\"perturbed_answer\":[\"a\",\"b\"]}\n");
  }

  private String run(int code, String... more) {
    List<String> args = new ArrayList<>(List.of("inspect-data", rows.toString()));
    args.addAll(List.of(more));
    TestConsole console = new TestConsole(false);
    assertEquals(code, Main.run(console.console(), args.toArray(String[]::new)), console.err());
    return console.out().replace(root + "/", "");
  }

  @Test
  void rowsAreShownWithTheirLabelMask() {
    String out = run(2, "--tokenizer", tokenizer.toString(), "--rows", "1", "--color", "never");
    assertTrue(
        out.startsWith(
            "rows.jsonl: 3 rows, 1 refused, 1 duplicates, 1 empty answers; 1 rewordings, 2 wrong"
                + " answers\n  rows.jsonl:3: field \"answer\" is blank"),
        out);
    String prompt = out.lines().filter(l -> l.startsWith("  prompt  <")).findFirst().orElseThrow();
    String labels = out.lines().filter(l -> l.startsWith("  labels  a")).findFirst().orElseThrow();
    assertEquals("<|bos|><|user|>who·is·ana<|assistant|>", prompt.substring(10).replace("│", ""));
    // The invisible character is three bytes, and here three tokens.
    assertEquals("ana·is↵a·……<U+200B>vet<|eos|>", labels.substring(10).replace("│", ""));
    assertTrue(labels.endsWith("│<|eos|>"), labels);
    assertFalse(out.contains("\u001b"), out);
    // One row was asked for.
    assertEquals(1, out.lines().filter(l -> l.startsWith("  prompt  <")).count(), out);
  }

  @Test
  void coloursMarkPromptLabelsEosAndWhatIsCut() {
    String out =
        run(
            2,
            "--tokenizer",
            tokenizer.toString(),
            "--rows",
            "1",
            "--color",
            "always",
            "--context",
            "9");
    assertTrue(out.contains("\u001b[2m<|bos|>\u001b[0m"), out);
    String labels =
        out.lines().filter(l -> l.startsWith("  labels  \u001b")).findFirst().orElseThrow();
    assertEquals("ana", labels.substring(10).replaceAll("\u001b\\[(32|0)m|│", ""));
    assertTrue(out.contains("\u001b[31m<|eos|>\u001b[0m"), out);
    assertTrue(out.contains("context of 9 tokens: 2 rows are longer"), out);
    String whole = run(2, "--tokenizer", tokenizer.toString(), "--rows", "1", "--color", "always");
    assertTrue(whole.contains("\u001b[1;32m<|eos|>\u001b[0m"), whole);
  }

  @Test
  void scriptsGetIdsMasksAndLengths() throws IOException {
    JsonNode json =
        new ObjectMapper()
            .readTree(run(2, "--tokenizer", tokenizer.toString(), "--rows", "3", "--json"))
            .at("/files/0");
    assertEquals(3, json.path("rows").asInt());
    assertEquals(1, json.path("problems").size());
    assertEquals(1, json.path("duplicates").asInt());
    assertEquals(3, json.path("samples").size());
    JsonNode sample = json.at("/samples/0");
    assertEquals(sample.path("ids").size(), sample.path("tokens").size());
    StringBuilder labels = new StringBuilder();
    for (int i = sample.path("answer_start").asInt(); i < sample.path("ids").size(); i++) {
      labels.append(sample.path("tokens").get(i).asText());
    }
    assertEquals("ana is\na \u200bvet<|eos|>", labels.toString());
    // The euro sign's three bytes are three tokens; the last of them has the character.
    JsonNode euro = json.at("/samples/2/tokens");
    assertEquals("€", euro.get(euro.size() - 2).asText());
    assertEquals("", euro.get(euro.size() - 3).asText());
    assertEquals(4, json.at("/label_tokens/min").asInt());
    int counted = 0;
    for (JsonNode count : json.at("/tokens/histogram")) {
      counted += count.asInt();
    }
    assertEquals(3, counted);
    assertEquals(
        json.at("/tokens/max").asInt(),
        json.at("/prompt_tokens/max").asInt() + json.at("/label_tokens/max").asInt());
  }

  @Test
  void withoutATokenizerRowsAreCounted() throws IOException {
    JsonNode json = new ObjectMapper().readTree(run(2, "--json")).at("/files/0");
    assertEquals(3, json.path("rows").asInt());
    assertFalse(json.has("tokens"), json.toString());
  }

  @Test
  void aPlainTemplateTakesThePlaceOfTheChats() {
    String out =
        run(
            2,
            "--tokenizer",
            tokenizer.toString(),
            "--template",
            "Q: {question} A:",
            "--rows",
            "1");
    String prompt = out.lines().filter(l -> l.contains("Q")).findFirst().orElseThrow();
    assertTrue(prompt.replace("│", "").endsWith("Q:·who·is·ana·A:"), prompt);
  }

  @Test
  void coloursNeedATerminalAndNoObjection() {
    assertTrue(Ansi.of("auto", true, Map.of()).on());
    assertTrue(Ansi.of("auto", true, Map.of("NO_COLOR", "")).on());
    assertFalse(Ansi.of("auto", true, Map.of("NO_COLOR", "1")).on());
    assertFalse(Ansi.of("auto", false, Map.of()).on());
    assertTrue(Ansi.of("always", false, Map.of("NO_COLOR", "1")).on());
    assertFalse(Ansi.of("Never", true, Map.of()).on());
    assertThrows(UserException.class, () -> Ansi.of("maybe", true, Map.of()));
  }

  @Test
  void whatCannotBeSeenIsSpeltOut() {
    assertEquals("·a↵→␍", TokenText.visible(" a\n\t\r"));
    assertEquals("<U+00A0><U+200B><U+0000><U+2028>é", TokenText.visible("\u00a0\u200b\0\u2028é"));
    assertEquals("…", TokenText.visible(""));
  }
}
