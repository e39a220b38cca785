/**
 * Lethe inside another program: an {@link org.lethe.engine.Engine} owns a device and its thread, a
 * {@link org.lethe.engine.LanguageModel} scores, generates, is judged and saved, a {@link
 * org.lethe.engine.Training} runs by itself, step by step, or beside other calls. Everything is
 * closed by its owner; nothing is static, prints, or ends the process. Progress is logged by SLF4J;
 * steps and checkpoints are events of a flight recording ({@code org.lethe.Step}, {@code
 * org.lethe.Checkpoint}).
 */
package org.lethe.engine;
