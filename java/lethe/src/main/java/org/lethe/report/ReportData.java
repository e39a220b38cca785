package org.lethe.report;

import java.util.List;

/**
 * What a report shows.
 *
 * @param title heading
 * @param summary the outcome in a few sentences
 * @param tables such as scores before and after
 * @param charts curves over the run
 * @param notes remarks to the reader
 * @param glossary what the numbers mean, a sentence each
 * @param facts settings and environment
 */
public record ReportData(
    String title,
    List<String> summary,
    List<Table> tables,
    List<Chart> charts,
    List<String> notes,
    List<KeyValue> glossary,
    List<KeyValue> facts) {
  public ReportData {
    summary = List.copyOf(summary);
    tables = List.copyOf(tables);
    charts = List.copyOf(charts);
    notes = List.copyOf(notes);
    glossary = List.copyOf(glossary);
    facts = List.copyOf(facts);
  }

  /**
   * A report whose curves stand alone, without summary and glossary.
   *
   * @param curves one chart each
   */
  public ReportData(
      String title,
      List<KeyValue> facts,
      List<Series> curves,
      List<Table> tables,
      List<String> notes) {
    this(
        title, List.of(), tables, curves.stream().map(Chart::of).toList(), notes, List.of(), facts);
  }
}
