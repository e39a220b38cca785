package org.lethe.run;

import jdk.jfr.Category;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/** A checkpoint in a flight recording. */
@Name("org.lethe.Checkpoint")
@Label("Checkpoint")
@Category("Lethe")
@StackTrace(false)
final class CheckpointEvent extends Event {
  @Label("Steps Done")
  int step;

  void end(int done) {
    end();
    if (shouldCommit()) {
      step = done;
      commit();
    }
  }
}
