/**
 * ND4J's arrays in and out of Lethe without a copy, for DL4J stacks: {@link
 * org.lethe.nd4j.Nd4jArrays} shares memory, {@link org.lethe.nd4j.Nd4jHead} puts Lethe's fused head
 * under a model whose hidden states are INDArrays, {@link org.lethe.nd4j.TrainingListener} follows
 * a run as DL4J's listeners do.
 *
 * <p>For ND4J 1.0.0-M2.1 with its CPU backend.
 */
package org.lethe.nd4j;
