package org.lethe.data.corpus;

import java.util.List;

/**
 * A fictitious person.
 *
 * @param name first and last name; every question of the rows holds it
 * @param rows a row per topic
 */
public record Person(String name, List<Row> rows) {
  public Person {
    rows = List.copyOf(rows);
  }
}
