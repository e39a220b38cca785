package org.lethe.internal.cli;

import java.util.Arrays;
import java.util.Iterator;
import org.lethe.run.Task;

/** The tasks as they are typed, for completion. */
final class TaskNames implements Iterable<String> {
  @Override
  public Iterator<String> iterator() {
    return Arrays.stream(Task.values()).map(Task::verb).iterator();
  }
}
