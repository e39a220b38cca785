/**
 * Lethe beside a libtorch model in one JVM, by the JavaCPP presets for PyTorch, on the CPU.
 *
 * <ul>
 *   <li>{@link org.lethe.torch.TorchTensors}: tensors as buffers and host memory as tensors,
 *       without a copy
 *   <li>{@link org.lethe.torch.TorchHead}: the fused head under a model written in libtorch
 *   <li>{@link org.lethe.torch.GlooCollective}: sums between processes by c10d's Gloo
 *   <li>{@link org.lethe.torch.TorchLlama}, {@link org.lethe.torch.TorchStep}: a Llama in libtorch
 *       alone, the oracle of tests and the yardstick of benchmarks
 * </ul>
 *
 * <p>Pointers that outlive a call are kept apart from JavaCPP's scopes: everything here may be used
 * inside a {@code PointerScope} of the caller's, and tensors that are returned belong to that
 * scope.
 */
package org.lethe.torch;
