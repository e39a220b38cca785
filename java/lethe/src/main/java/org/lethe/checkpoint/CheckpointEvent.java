package org.lethe.checkpoint;

import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/** A checkpoint in a flight recording; costs nothing while none is made. */
@Name("org.lethe.Checkpoint")
@Label("Checkpoint")
@Category("Lethe")
@StackTrace(false)
final class CheckpointEvent extends Event {
  @Label("Steps Done")
  int step;

  @Label("Bytes")
  @DataAmount
  long bytes;

  void end(int done, long size) {
    end();
    if (shouldCommit()) {
      step = done;
      bytes = size;
      commit();
    }
  }
}
