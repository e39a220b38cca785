package org.lethe.train;

/** Whether the device work of a step is captured in graphs, which take one launch each. */
public enum Graphs {
  /** Every op is launched by itself. */
  NEVER,
  /** Where the backend and the batch allow it, and a shape comes again. */
  AUTO,
  /** The same, and a backend, method or setting that rules graphs out is an error. */
  ALWAYS
}
