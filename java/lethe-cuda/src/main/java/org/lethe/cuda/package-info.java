/**
 * Lethe beside other CUDA code in one JVM, by the JavaCPP presets for CUDA. What goes in and out,
 * nothing of it copied:
 *
 * <table>
 *   <caption>What is handed over, and whose it stays</caption>
 *   <tr><th>What</th><th>In</th><th>Out</th><th>Whose it stays</th></tr>
 *   <tr>
 *     <td>a stream, {@code CUstream_st}</td>
 *     <td>{@link org.lethe.cuda.CudaStreams#use}</td>
 *     <td>{@link org.lethe.cuda.CudaStreams#of}</td>
 *     <td>its maker's; not to be destroyed while the other side works on it</td>
 *   </tr>
 *   <tr>
 *     <td>device memory, {@code Pointer}</td>
 *     <td>{@link org.lethe.cuda.CudaMemory#share}</td>
 *     <td>{@link org.lethe.cuda.CudaMemory#bytes}, {@link org.lethe.cuda.CudaMemory#floats}</td>
 *     <td>in: the caller's, valid until the shared memory is closed; out: the buffer's, valid until
 *         it or its backend is closed</td>
 *   </tr>
 *   <tr>
 *     <td>a communicator, {@code ncclComm}</td>
 *     <td>{@link org.lethe.cuda.NcclCollective#over}</td>
 *     <td>{@link org.lethe.cuda.NcclCollective#communicator}</td>
 *     <td>the caller's, unless a sum fails: then it has been aborted</td>
 *   </tr>
 * </table>
 *
 * <p>Two sides that share memory agree on the order of their work by sharing a stream; otherwise
 * whoever hands over waits first ({@code cudaStreamSynchronize}, {@link
 * org.lethe.kernels.Backend#synchronize}).
 *
 * <p>Streams and memory need none of the presets' natives. Sums do, and with them the NVIDIA
 * driver, CUDA's runtime and NCCL: {@link org.lethe.cuda.CudaPresets} says which of them a machine
 * lacks, where the presets themselves end in an {@code UnsatisfiedLinkError}.
 *
 * <p>Everything here may be used inside a {@code PointerScope} of the caller's.
 */
package org.lethe.cuda;
