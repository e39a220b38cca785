package org.lethe.report;

import java.util.List;

/**
 * What a report shows.
 *
 * @param title heading
 * @param facts settings and environment
 * @param curves one chart each
 * @param tables such as scores before and after
 * @param notes remarks to the reader
 */
public record ReportData(
    String title,
    List<KeyValue> facts,
    List<Series> curves,
    List<Table> tables,
    List<String> notes) {
  public ReportData {
    facts = List.copyOf(facts);
    curves = List.copyOf(curves);
    tables = List.copyOf(tables);
    notes = List.copyOf(notes);
  }
}
