/* Lethe's C boundary: everything Java, C and C++ callers see.
 *
 * Every call returns a lethe_status. When it is not LETHE_OK, lethe_error_trace() holds, for the calling thread, what
 * went wrong, where, and what to do. Nothing throws, prints, exits or aborts across this boundary.
 *
 * An engine belongs to the thread that opened it; a call from another thread is LETHE_WRONG_THREAD and does nothing.
 * Two engines share nothing. The trace and version functions may be called from any thread.
 *
 * Memory is addressed by lethe_ref: a buffer id with a generation in the upper 24 bits, a byte offset in the lower 40.
 * Adding n to a ref moves it n bytes into its buffer; 0 is "none". A ref whose buffer was freed is LETHE_CLOSED, never
 * a crash; an operand that leaves its buffer is LETHE_OUT_OF_BOUNDS; one that does not start at a multiple of its
 * elements' size, LETHE_INVALID_ARGUMENT; operands that must not overlap and do, LETHE_OVERLAP.
 *
 * A backend may be asynchronous ("cuda" is): a call then returns when its work is in order, and host memory given to
 * it may be reused. What only the content of device memory can tell (an index outside its table, an overlap of
 * segments) is answered by the next lethe_read or lethe_synchronize, which name the call; the call itself changes
 * nothing then, and what followed it is not to be used. "Answers" below means that moment.
 *
 * Shapes are row-major. "storage" is the dtype argument (fp32 or bf16); statistics, gradients of parameters and
 * optimizer state are always fp32. T counts packed tokens (no padding), d is the hidden size, V the vocabulary. Same
 * inputs, same bits: per backend, instruction set, thread count and library version (lethe_engine_describe).
 */
#ifndef LETHE_H
#define LETHE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define LETHE_API __declspec(dllexport)
#else
#define LETHE_API __attribute__((visibility("default")))
#endif

/* Raised whenever a signature or the meaning of a value below changes. */
#define LETHE_ABI 7

enum lethe_status {
  LETHE_OK = 0,
  LETHE_INVALID_ARGUMENT = 1, /* null, negative or overflowing size, unknown enum value */
  LETHE_OUT_OF_BOUNDS = 2,    /* an operand leaves its buffer, or an index its table */
  LETHE_OVERLAP = 3,          /* operands that must be disjoint are not */
  LETHE_CLOSED = 4,           /* the engine, buffer or linear was closed, or never opened */
  LETHE_OUT_OF_MEMORY = 5,    /* the trace says how many bytes were asked for */
  LETHE_UNSUPPORTED = 6,      /* valid, but this backend does not do it */
  LETHE_NO_DEVICE = 7,        /* the backend cannot run on this machine; the trace says why */
  LETHE_ABI_MISMATCH = 8,     /* a plug-in was built for another LETHE_ABI */
  LETHE_WRONG_THREAD = 9,     /* called from a thread that does not own the engine */
  LETHE_INTERNAL = 10,        /* a fault in Lethe */
  LETHE_DEVICE_LOST = 11      /* the device's context is beyond use; nothing it gave since its last success is right */
};

enum lethe_dtype { LETHE_F32 = 0, LETHE_BF16 = 1, LETHE_I32 = 2 };

typedef uint64_t lethe_ref;
typedef struct lethe_engine lethe_engine;

/* ---- library ---- */

LETHE_API int lethe_abi(void);
LETHE_API const char *lethe_version(void);
/* The calling thread's trace of its last call: what failed, then the calls it passed through; "" when none failed.
 * Valid until its next call. */
LETHE_API const char *lethe_error_trace(void);

/* ---- engine ---- */

/* Opens `backend` ("cpu": the widest instruction set at hand; "cpu_avx2" or "cpu_avx512": just that one; "cuda" or
 * "cuda:0": the first CUDA device, "cuda:1" the second) from the plug-in library in `plugin_dir`. `threads`, 1 to
 * 4096, is fixed for the engine's life: it is part of what makes results repeat. LETHE_NO_DEVICE says why this machine
 * cannot run the backend. */
LETHE_API int lethe_engine_open(const char *backend, const char *plugin_dir, int32_t threads, lethe_engine **engine);
/* Frees everything the engine owns; its refs become LETHE_CLOSED. */
LETHE_API int lethe_engine_close(lethe_engine *engine);
/* One line of JSON into out[capacity]: backend, instruction set, threads, library versions. */
LETHE_API int lethe_engine_describe(lethe_engine *engine, char *out, int64_t capacity);
/* Waits until everything asked of the engine is done, and answers what went wrong since the last wait. */
LETHE_API int lethe_synchronize(lethe_engine *engine);
/* Bytes of the device's memory that nobody uses, and all it has (cpu: the host's). */
LETHE_API int lethe_memory(lethe_engine *engine, int64_t *free_bytes, int64_t *total_bytes);
/* Takes scratch memory for ops of up to so many bytes, where the engine has less: a graph captured after it holds none
 * that such an op would outgrow. cpu: LETHE_UNSUPPORTED, its ops take none. */
LETHE_API int lethe_reserve_scratch(lethe_engine *engine, int64_t bytes);

/* The engine's stream (cuda: a CUstream_st*; cpu: LETHE_UNSUPPORTED). Work that a caller puts on it is ordered with the
 * engine's. */
LETHE_API int lethe_stream(lethe_engine *engine, void **stream);
/* From now on the engine works on `stream`, which the caller keeps alive until it gives another one (null: the engine's
 * own) or closes the engine. What was asked before is done before what comes after. */
LETHE_API int lethe_use_stream(lethe_engine *engine, void *stream);

/* on != 0: from now on every launch, copy and wait of the engine is written down (what stood there is dropped); 0: no
 * more. For tests and measurements; cpu: LETHE_UNSUPPORTED. */
LETHE_API int lethe_record_launches(lethe_engine *engine, int32_t on);
/* One line of JSON for each thing written down, into out[capacity] as far as it goes; needed: bytes of all, with the
 * closing 0. {"kernel":name,"grid":[x,y,z],"threads":n,"shared":bytes,"bytes":read and written at least} |
 * {"gemm":[M,N,K],"batch":products of one launch, where there are several,"bytes":...} |
 * {"copy":"to_device"|"to_host"|"on_device","bytes":n} | {"wait":reason} | {"alloc":bytes} |
 * {"graph":launches and copies}. What is captured in a graph is written down when it is, with "captured":true behind
 * the rest of its fields. */
LETHE_API int lethe_launches(lethe_engine *engine, char *out, int64_t capacity, int64_t *needed);

/* ---- graphs: calls written down once, and asked for again as one ---- */

typedef uint64_t lethe_graph; /* belongs to its engine */

/* From now on the engine's calls are written down instead of done, until lethe_graph_end: "captured". What they were
 * given is kept as it was, sizes, refs and scalars alike; what a ref points at is read when the graph runs. Captured
 * calls check their arguments as ever. lethe_read, lethe_write, lethe_synchronize, lethe_use_stream and the allocation
 * and freeing of buffers are LETHE_INVALID_ARGUMENT until then, and so is a call that needs more scratch memory than
 * the engine has: ask for the same calls once before. cpu: LETHE_UNSUPPORTED. */
LETHE_API int lethe_graph_begin(lethe_engine *engine);
/* What was captured, to be launched any number of times. Where a captured call failed there is no graph: the first such
 * call has said why, and this is LETHE_INVALID_ARGUMENT. Either way the engine works as before. */
LETHE_API int lethe_graph_end(lethe_engine *engine, lethe_graph *graph);
/* All captured calls once more, in their order, behind what was asked before; with the bits that the calls themselves
 * would give. What one of them finds wrong in memory is answered as its own, and those behind it change nothing then.
 * LETHE_CLOSED where a buffer that the graph works on was freed. */
LETHE_API int lethe_graph_launch(lethe_engine *engine, lethe_graph graph);
LETHE_API int lethe_graph_close(lethe_engine *engine, lethe_graph graph);

/* ---- buffers ---- */

/* 64-byte aligned, zeroed. */
LETHE_API int lethe_buffer_alloc(lethe_engine *engine, int64_t bytes, lethe_ref *buffer);
/* Memory that the caller owns and keeps valid until lethe_buffer_free (which forgets it, frees nothing and does not
 * wait: what was asked of an asynchronous backend may still reach it, until a wait) or lethe_engine_close: nothing is
 * copied, either side sees what the other writes. `address` is one that the backend can use (cpu: host memory), even;
 * `bytes` as for lethe_buffer_alloc. Aligned to 64 bytes it is fastest. */
LETHE_API int lethe_buffer_wrap(lethe_engine *engine, void *address, int64_t bytes, lethe_ref *buffer);
LETHE_API int lethe_buffer_free(lethe_engine *engine, lethe_ref buffer);
/* The address of `bytes` bytes from ref on, for other libraries of the same device; valid until the buffer is freed. */
LETHE_API int lethe_address(lethe_engine *engine, lethe_ref ref, int64_t bytes, void **address);
/* Host memory to a buffer and back. write: src may be reused when it returns; read: returns when the bytes are there.
 */
LETHE_API int lethe_write(lethe_engine *engine, lethe_ref dst, const void *src, int64_t bytes);
LETHE_API int lethe_read(lethe_engine *engine, lethe_ref src, void *dst, int64_t bytes);
LETHE_API int lethe_copy(lethe_engine *engine, lethe_ref dst, lethe_ref src, int64_t bytes);
LETHE_API int lethe_zero(lethe_engine *engine, lethe_ref dst, int64_t bytes);

/* ---- what a device does not hold all the time ---- */

/* As lethe_buffer_alloc, but memory of the host that the device reaches (cuda: pinned): every op takes it, at the speed
 * of the bus. */
LETHE_API int lethe_buffer_alloc_host(lethe_engine *engine, int64_t bytes, lethe_ref *buffer);
/* As lethe_copy, but beside what is asked afterwards: it begins when all that was asked before is done, and what comes
 * after does not wait for it until lethe_wait_aside is given its ticket. Until then nothing may write src or dst, and
 * nothing may read dst. Tickets count from 1. Not to be captured. */
LETHE_API int lethe_copy_aside(lethe_engine *engine, lethe_ref dst, lethe_ref src, int64_t bytes, int64_t *ticket);
/* What is asked from now on comes after the copy of that ticket, and after those before it. The host does not wait. */
LETHE_API int lethe_wait_aside(lethe_engine *engine, int64_t ticket);
/* n elements from one floating dtype to the other, round to nearest even. */
LETHE_API int lethe_convert(lethe_engine *engine, int64_t n, int32_t src_dtype, lethe_ref src, int32_t dst_dtype,
                            lethe_ref dst);

/* dst[i] = std * the (first + i)th of a sequence of normal numbers that `seed` names, rounded to storage: numbers 4j to
 * 4j + 3 are the Box-Muller pairs (Box & Muller 1958) of the words of Philox4x32-10 with key seed and counter {j, 0}
 * (64 bits each, low word first): u = (word + 1/2) 2^-32; sqrt(-2 ln u0) cos 2 pi u1, sqrt(-2 ln u0) sin 2 pi u1, then
 * the same of u2 and u3. The same numbers on every backend but for the last bits of ln, cos and sin. first >= 0. */
LETHE_API int lethe_random_normal(lethe_engine *engine, int32_t dtype, int64_t n, uint64_t seed, int64_t first,
                                  float std, lethe_ref dst);

/* ---- 4-bit NormalFloat weights in bitsandbytes' layout (Dettmers et al. 2023) ---- */

/* src[n] (storage) in blocks of `block` (32, 64 ... 4096) consecutive numbers: absmax[ceil(n / block)] fp32 = the
 * block's largest magnitude; packed[ceil(n / 2)] holds the codes of src / absmax, 2j in the high four bits of byte j,
 * 2j + 1 in the low ones; a block of zeros has absmax 0 and code 0, as bitsandbytes gives it. A NaN or infinity in src
 * is LETHE_INVALID_ARGUMENT. */
LETHE_API int lethe_nf4_quantize(lethe_engine *engine, int32_t dtype, int64_t n, int64_t block, lethe_ref src,
                                 lethe_ref packed, lethe_ref absmax);
/* dst[n] (storage) = code value * absmax of its block, one fp32 product, rounded once. absmax[ceil(n / block)] fp32;
 * or, with double quantisation, absmax 0 and the block's absmax is nested_map[nested[i]] * nested_absmax[i / 256] +
 * nested_offset in fp32: nested[ceil(n / block)] uint8, nested_map[256], nested_absmax fp32 for each 256 of them. */
LETHE_API int lethe_nf4_dequantize(lethe_engine *engine, int32_t dtype, int64_t n, int64_t block, lethe_ref packed,
                                   lethe_ref absmax, lethe_ref nested, lethe_ref nested_map, lethe_ref nested_absmax,
                                   float nested_offset, lethe_ref dst);

/* ---- norms: y = (x - mean) rstd (w + weight_shift) + b (+ residual) ---- */

/* RMSNorm: mean 0, rstd = 1 / sqrt(mean(x^2) + eps) (Zhang & Sennrich 2019). LayerNorm: x's mean, rstd =
 * 1 / sqrt(var(x) + eps) (Ba, Kiros & Hinton 2016). */
enum lethe_norm_kind { LETHE_NORM_RMS = 0, LETHE_NORM_LAYER = 1 };

/* Each of T rows holds `groups` vectors of d elements side by side, one w[d] for all: one group is a hidden state, one
 * per head the norm of queries or keys. Rows of x and y stand x_stride and y_stride elements apart. weight_shift 1 is
 * Gemma's 1 + w. b[d] (0: none) is for LETHE_NORM_LAYER. residual (0: none) lies at y's stride and may be y itself; y
 * may be x, at x's stride. All sums and products are fp32, y is rounded once. mean and rstd [T*groups] fp32 are kept
 * for the backward pass (0: not kept); LETHE_NORM_RMS has no mean. */
LETHE_API int lethe_norm_forward(lethe_engine *engine, int32_t dtype, int32_t kind, int64_t T, int64_t groups,
                                 int64_t d, float eps, float weight_shift, lethe_ref x, int64_t x_stride, lethe_ref w,
                                 lethe_ref b, lethe_ref residual, lethe_ref y, int64_t y_stride, lethe_ref mean,
                                 lethe_ref rstd);
/* dx = the gradient through the norm (not through the residual), or, with accumulate != 0, dx += it; without, dx may be
 * dy itself, at its stride. dw, db [d] fp32 += the gradients of w and b (0: frozen). x is what the forward call read.
 */
LETHE_API int lethe_norm_backward(lethe_engine *engine, int32_t dtype, int32_t kind, int64_t T, int64_t groups,
                                  int64_t d, float weight_shift, lethe_ref dy, int64_t dy_stride, lethe_ref x,
                                  int64_t x_stride, lethe_ref w, lethe_ref mean, lethe_ref rstd, lethe_ref dx,
                                  int64_t dx_stride, int32_t accumulate, lethe_ref dw, lethe_ref db);

/* ---- rows ---- */

/* out[T,d] = scale * table[ids[T], d], rounded once; an id outside [0,V) is LETHE_OUT_OF_BOUNDS. */
LETHE_API int lethe_embedding_forward(lethe_engine *engine, int32_t dtype, int64_t T, int64_t d, int64_t V, float scale,
                                      lethe_ref table, lethe_ref ids, lethe_ref out);
/* dtable[V,d] fp32 += scale times the rows of dout[T,d] (storage), in the order of T. */
LETHE_API int lethe_embedding_backward(lethe_engine *engine, int32_t dtype, int64_t T, int64_t d, int64_t V,
                                       float scale, lethe_ref dout, lethe_ref ids, lethe_ref dtable);
/* dst[i] = src[index[i]] for n rows of `width` elements; strides in elements. index[n] is int32 in [0, src_rows). */
LETHE_API int lethe_gather_rows(lethe_engine *engine, int32_t dtype, int64_t n, int64_t width, int64_t src_rows,
                                lethe_ref src, int64_t src_stride, lethe_ref index, lethe_ref dst, int64_t dst_stride);
/* dst[index[i]] = src[i]; index[n] in [0, dst_rows) holds no row twice. */
LETHE_API int lethe_scatter_rows(lethe_engine *engine, int32_t dtype, int64_t n, int64_t width, int64_t dst_rows,
                                 lethe_ref src, int64_t src_stride, lethe_ref index, lethe_ref dst, int64_t dst_stride);

/* ---- linear with LoRA adapters: y = x W^T + b (+ residual) + sum over adapters of scale (x A^T) B^T  (Hu et al. 2021)
 * ---- */

typedef uint64_t lethe_linear; /* belongs to its engine; no memory of its own on the CPU */

/* A weight w[out,in] and a bias b[out] (0: none) in storage. dw[out,in] and db[out] fp32 receive += their gradients in
 * the backward pass (0: frozen). */
LETHE_API int lethe_linear_create(lethe_engine *engine, int32_t dtype, int64_t out, int64_t in, lethe_ref w,
                                  lethe_ref dw, lethe_ref b, lethe_ref db, lethe_linear *linear);
/* A frozen linear whose weight stays in 4-bit codes, which lethe_linear_nf4_part gives. lethe_linear_forward and
 * lethe_linear_backward dequantise it into scratch[out,in] (storage) before they read it, and give the bits of a linear
 * whose w is what lethe_nf4_dequantize gives. Linears may share their scratch: a call leaves nothing in it that another
 * needs. block as for lethe_nf4_quantize; b[out] (0: none) in storage. */
LETHE_API int lethe_linear_create_nf4(lethe_engine *engine, int32_t dtype, int64_t out, int64_t in, int64_t block,
                                      lethe_ref scratch, lethe_ref b, lethe_linear *linear);
/* The weight's rows [first_out, first_out + part_out), quantised by themselves: operands as for lethe_nf4_dequantize
 * with n = part_out * in. Parts must not overlap, and all rows must have one before the linear is used. */
LETHE_API int lethe_linear_nf4_part(lethe_engine *engine, lethe_linear linear, int64_t first_out, int64_t part_out,
                                    lethe_ref packed, lethe_ref absmax, lethe_ref nested, lethe_ref nested_map,
                                    lethe_ref nested_absmax, float nested_offset);
/* Adds an adapter to the outputs [first_out, first_out + part_out): a[rank,in] and b[part_out,rank] in storage, their
 * gradients da, db fp32 of the same shapes (both 0: frozen). A linear may carry several (q, k and v of one weight);
 * their columns of u stand in the order they were added, total rank = R. dropout p in [0,1) acts on the adapter's input
 * where a call gives row keys: with m the mask and "o" element by element, x A^T becomes (m o x) A^T / (1 - p). Column
 * j of a row is kept when word j % 4 of Philox4x32-10 (Salmon et al. 2011) with key `key` and counter {row key, j / 4}
 * (both 64 bits, low word first) is at least p 2^32: a mask depends on neither the packing nor the thread count. `key`
 * names the adapter's stream. */
LETHE_API int lethe_linear_adapter(lethe_engine *engine, lethe_linear linear, int64_t first_out, int64_t part_out,
                                   int64_t rank, float scale, float dropout, uint64_t key, lethe_ref a, lethe_ref b,
                                   lethe_ref da, lethe_ref db);
/* How a frozen weight w[out,in] may lie so that its adapters, of `rank` ranks in all, take part in its own products:
 * rows w_stride >= in elements apart, and spare_rows rows of that stride behind the last one. in and 0: the backend has
 * no use for more (the CPU has none; CUDA where it was opened with LETHE_LORA_FORM=augmented in the environment, and
 * then for as many directions as that saves bytes in). */
LETHE_API int lethe_linear_spare(lethe_engine *engine, int32_t dtype, int64_t out, int64_t in, int64_t rank,
                                 int64_t *w_stride, int64_t *spare_rows);
/* lethe_linear_create for a frozen weight of such a layout, whatever lethe_linear_spare says. Where w_stride > in the
 * forward call is one product of [x | u] with [W | B], and where spare_rows > 0 dx is one of [dy | du] with W over A:
 * the spare columns and rows are written by these calls, whatever they held, so that linears may share them. y and dx
 * are then rounded once. All adapters' ranks must fit. LETHE_UNSUPPORTED by backends that have no use for them. */
LETHE_API int lethe_linear_create_strided(lethe_engine *engine, int32_t dtype, int64_t out, int64_t in,
                                          int64_t w_stride, int64_t spare_rows, lethe_ref w, lethe_ref b,
                                          lethe_linear *linear);
/* lethe_linear_create_nf4 whose scratch has such a layout: the weight is dequantised into rows w_stride apart, so that
 * its adapters take part in its products at no copy of it. The bits of lethe_linear_create_strided. */
LETHE_API int lethe_linear_create_nf4_strided(lethe_engine *engine, int32_t dtype, int64_t out, int64_t in,
                                              int64_t w_stride, int64_t spare_rows, int64_t block, lethe_ref scratch,
                                              lethe_ref b, lethe_linear *linear);
LETHE_API int lethe_linear_close(lethe_engine *engine, lethe_linear linear);
/* x[T,in], y[T,out] in storage; residual[T,out] is added when not 0, and may be y itself. The adapters act on the first
 * `adapted` rows only (the rest see the base weight: reference rows stand at the end of a batch). row_keys[adapted]
 * uint64 (0: no dropout). u[adapted,R] in storage is scale * x A^T after dropout, kept for the backward pass; required
 * when adapted > 0 and there are adapters. */
LETHE_API int lethe_linear_forward(lethe_engine *engine, lethe_linear linear, int64_t T, int64_t adapted, lethe_ref x,
                                   lethe_ref residual, lethe_ref y, lethe_ref row_keys, lethe_ref u);
/* For the first T rows, all adapted where there are adapters, with the forward call's row_keys[T]: dx[T,in] = dy W +
 * sum of scale (dy B) A, masked as x was (0: not wanted); da += scale (dy B)^T x, masked, db += dy^T u, dw += dy^T x
 * where they are wanted. du[T,R] in storage is scratch. */
LETHE_API int lethe_linear_backward(lethe_engine *engine, lethe_linear linear, int64_t T, lethe_ref x, lethe_ref u,
                                    lethe_ref dy, lethe_ref row_keys, lethe_ref du, lethe_ref dx);

/* ---- rotary position embedding (Su et al. 2021), Hugging Face's half-split layout ---- */

/* In place on x[T, heads, head_dim], stride elements from token to token: for j < rotary_dim/2 the pair
 * (x[j], x[j + rotary_dim/2]) turns by the angle whose cosine and sine stand at [position, j] of cos/sin[P,
 * rotary_dim/2] fp32. positions[T] int32 in [0,P). inverse != 0 turns back: the backward pass. */
LETHE_API int lethe_rotary(lethe_engine *engine, int32_t dtype, int64_t T, int64_t heads, int64_t head_dim,
                           int64_t rotary_dim, lethe_ref x, int64_t stride, lethe_ref positions, int64_t P,
                           lethe_ref cos, lethe_ref sin, int32_t inverse);

/* ---- causal attention over segments, grouped queries ---- */

/* A segment is LETHE_SEGMENT_FIELDS int32: {first query row, queries, first own key row, own keys, first parent key
 * row, parent keys}. Query i of a segment sees all parent keys and the own keys 0 .. own_keys - queries + i. q[q_rows,
 * heads, head_dim], k and v [k_rows, kv_heads, head_dim] with strides in elements; heads % kv_heads == 0. out[q_rows,
 * heads, head_dim] packed; lse[q_rows, heads] fp32 is kept for the backward pass (0: not kept). Query rows of no
 * segment are left as they are. No [T,T] matrix is ever kept. window > 0: of the list of parent's then own keys, in
 * which the query's own key is number i, it sees number j only where i - window < j (0: all). soft_cap > 0: a scaled
 * score s becomes soft_cap * tanh(s / soft_cap) before the mask (0: none). */
enum { LETHE_SEGMENT_FIELDS = 6 };
LETHE_API int lethe_attention_forward(lethe_engine *engine, int32_t dtype, int64_t heads, int64_t kv_heads,
                                      int64_t head_dim, float scale, int64_t window, float soft_cap, int64_t segments,
                                      lethe_ref segment_table, int64_t q_rows, lethe_ref q, int64_t q_stride,
                                      int64_t k_rows, lethe_ref k, int64_t k_stride, lethe_ref v, int64_t v_stride,
                                      lethe_ref out, lethe_ref lse);
/* dq, dk, dv have the shapes and strides of q, k, v and are written, not added to; rows of no segment become 0. */
LETHE_API int lethe_attention_backward(lethe_engine *engine, int32_t dtype, int64_t heads, int64_t kv_heads,
                                       int64_t head_dim, float scale, int64_t window, float soft_cap, int64_t segments,
                                       lethe_ref segment_table, int64_t q_rows, lethe_ref q, int64_t q_stride,
                                       int64_t k_rows, lethe_ref k, int64_t k_stride, lethe_ref v, int64_t v_stride,
                                       lethe_ref out, lethe_ref lse, lethe_ref dout, lethe_ref dq, lethe_ref dk,
                                       lethe_ref dv);

/* ---- activations: silu (x sigmoid x), gelu (x Phi(x), Hendrycks & Gimpel 2016) and its tanh form, relu ---- */

/* GELU_TANH: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), Hugging Face's gelu_new and gelu_pytorch_tanh. */
enum lethe_activation {
  LETHE_ACTIVATION_SILU = 0,
  LETHE_ACTIVATION_GELU_TANH = 1,
  LETHE_ACTIVATION_GELU_ERF = 2,
  LETHE_ACTIVATION_RELU = 3
};

/* Gated (Shazeer 2020): out[T,f] = activation(gate) * up; gate_up[T,2f] holds gate then up in each row. */
LETHE_API int lethe_gated_forward(lethe_engine *engine, int32_t dtype, int32_t activation, int64_t T, int64_t f,
                                  lethe_ref gate_up, lethe_ref out);
/* dgate_up[T,2f] from dout[T,f]; may be gate_up itself. */
LETHE_API int lethe_gated_backward(lethe_engine *engine, int32_t dtype, int32_t activation, int64_t T, int64_t f,
                                   lethe_ref gate_up, lethe_ref dout, lethe_ref dgate_up);
/* out[T,f] = activation(x[T,f]); may be x itself. */
LETHE_API int lethe_activation_forward(lethe_engine *engine, int32_t dtype, int32_t activation, int64_t T, int64_t f,
                                       lethe_ref x, lethe_ref out);
/* dx[T,f] from dout[T,f] and the forward call's x; may be either of them. */
LETHE_API int lethe_activation_backward(lethe_engine *engine, int32_t dtype, int32_t activation, int64_t T, int64_t f,
                                        lethe_ref x, lethe_ref dout, lethe_ref dx);

/* ---- the head: logits, statistics and the loss's gradient, without the logits ever existing whole ---- */

/* With u = h W^T + b (0: no bias) the logits are z = u, or with soft_cap > 0 z = soft_cap * tanh(u / soft_cap); over a
 * row's temperature they give p = softmax(z / temperature).
 *
 * What a head row's gradient with respect to z / temperature is (U uniform, r the reference's softmax). */
enum lethe_row_kind {
  LETHE_ROW_STATISTICS = 0,    /* none: zero */
  LETHE_ROW_NLL = 1,           /* -log p[y]:  p - e_y */
  LETHE_ROW_UNIFORM_KL = 2,    /* KL(U||p), maximum entropy:  p - 1/V */
  LETHE_ROW_KL_UNIFORM = 3,    /* KL(p||U) = log V - H(p):  p (z - E_p[z]) */
  LETHE_ROW_REFERENCE_KL = 4,  /* KL(r||p):  p - r */
  LETHE_ROW_KL_REFERENCE = 5,  /* KL(p||r):  p (log p/r - KL) */
  LETHE_ROW_LOGIT_MARGIN = 6,  /* MAX - MEAN:  e_argmax - 1/V */
  LETHE_ROW_UNIFORM_KL_EPS = 7 /* -mean log(p + epsilon) - log V:  p mean(q) - q / V with q = p / (p + epsilon) */
};

/* A row is LETHE_ROW_FIELDS int32: {source, label or -1, kind, reference source or -1, second reference source or -1}.
 * Sources index the rows of h; a source may occur several times. The reference source is needed by the two KL kinds
 * with a reference; others do not look at it. */
enum { LETHE_ROW_FIELDS = 5 };
/* A row's LETHE_ROW_PARAMS fp32: {temperature > 0, label_shift, mix >= 0, epsilon}. label_shift and mix act on a
 * reference: with z1 and z2 the logits at the reference sources, r = softmax(w / temperature) of w = z1 - mix *
 * relu(z2 - z1) (mix 0: w = z1, and no second source is looked at), w[y] reduced by label_shift, which needs a label.
 * epsilon > 0 belongs to LETHE_ROW_UNIFORM_KL_EPS. A parameter that the row's kind does not know must be 0. */
enum { LETHE_ROW_PARAMS = 4 };

/* Statistics, fp32 per row. With z the row's logits divided by its temperature. A row with a NaN, a +inf or nothing but
 * -inf has NaN in all but LABEL, RANK and both ARGMAX, and in its gradient; single logits of -inf are probabilities of
 * 0. "Reference" is that of the two kinds that need one. */
enum lethe_statistic {
  LETHE_STAT_LSE = 0,        /* logsumexp z */
  LETHE_STAT_LABEL = 1,      /* z[y]; 0 without a label */
  LETHE_STAT_LSE_OTHERS = 2, /* logsumexp over v != y: nll = softplus(LSE_OTHERS - LABEL), exact where p[y] is near 1 */
  LETHE_STAT_MEAN = 3,       /* mean z: KL(U||p) = LSE - MEAN - log V */
  LETHE_STAT_EZ = 4,         /* E_p[z] - MAX: H(p) = LSE - MAX - EZ */
  LETHE_STAT_MAX = 5,
  LETHE_STAT_ARGMAX = 6, /* the first index of MAX */
  LETHE_STAT_RANK = 7,   /* how many v have z[v] > z[y]; 0 without a label */
  LETHE_STAT_KL = 8,     /* the value of the two reference kinds, never negative, and of UNIFORM_KL_EPS; else 0 */
  LETHE_STAT_ELOG2 = 9,  /* E_p[(log p)^2] */
  LETHE_STAT_ENTROPY_OTHERS = 10,    /* the entropy of the softmax over v != y; 0 without a label */
  LETHE_STAT_REFERENCE_ENTROPY = 11, /* H(r); 0 without a reference */
  LETHE_STAT_REFERENCE_ARGMAX = 12,  /* the first index of w's largest; 0 without a reference */
  LETHE_STATISTICS = 13
};

/* mean[d] fp32 = the mean row of w[V,d]: what makes MEAN a dot product. */
LETHE_API int lethe_head_mean(lethe_engine *engine, int32_t dtype, int64_t d, int64_t V, lethe_ref w, lethe_ref mean);
/* The least workspace, in bytes, with which the head can run, and the most it has use for with n rows. */
LETHE_API int lethe_head_workspace(lethe_engine *engine, int32_t dtype, int64_t n, int64_t d, int64_t V, int64_t *least,
                                   int64_t *most);
/* One pass for a frozen head, two GEMMs (three for rows with a reference): h[sources,d], w[V,d], bias[V] (0: none) in
 * storage, soft_cap 0 for none, rows[n,LETHE_ROW_FIELDS] int32, row_params[n,LETHE_ROW_PARAMS] fp32 (0: {1, 0, 0, 0}
 * each), mean[d] of lethe_head_mean (0: MEAN is summed from the logits, as it is with a soft cap).
 * stats[n,LETHE_STATISTICS] fp32 is written, and dh_rows[n,d] (storage, 0: statistics only) the *unscaled* gradient of
 * each row with respect to its source of h (not through the reference sources): the loss's coefficient comes
 * afterwards. references: how many rows are of the two kinds with a reference; seconds: how many of those have a mix
 * above 0 (other numbers than the rows say are LETHE_INVALID_ARGUMENT). workspace: at least `least` bytes of
 * lethe_head_workspace; it bounds the chunk of logits that exists at a time. CUDA, where it was opened with
 * LETHE_HEAD_FORM=fused or fused_mma in the environment, takes another form where bf16 rows of d start on 16 bytes,
 * there is no soft_cap and `mean` is given; in that form gradients of LETHE_ROW_KL_UNIFORM and all of
 * LETHE_ROW_UNIFORM_KL_EPS are LETHE_UNSUPPORTED. fused takes the products of a warpgroup where the device is of
 * compute capability 9.0, of a warp elsewhere; fused_mma those of a warp everywhere. The two differ in bits.
 * lethe_engine_describe says which it is. */
LETHE_API int lethe_head_forward(lethe_engine *engine, int32_t dtype, int64_t n, int64_t sources, int64_t d, int64_t V,
                                 int64_t references, int64_t seconds, lethe_ref h, lethe_ref w, lethe_ref bias,
                                 float soft_cap, lethe_ref mean, lethe_ref rows, lethe_ref row_params, lethe_ref stats,
                                 lethe_ref dh_rows, lethe_ref workspace, int64_t workspace_bytes);
/* The most rows that a chunk of the head's passes over weights [V,d] has, of those that the workspace has room for; 0,
 * as it is at first: as many as there is room for, in whole tiles that fill the device. A row's bits depend on it where
 * a device's matrix kernels do, so results repeat with the same number. Graphs keep what was set when they were
 * captured. cpu: LETHE_UNSUPPORTED. */
LETHE_API int lethe_head_set_chunk(lethe_engine *engine, int32_t dtype, int64_t d, int64_t V, int64_t rows);
LETHE_API int lethe_head_chunk(lethe_engine *engine, int32_t dtype, int64_t d, int64_t V, int64_t *rows);
/* Which of the matrix library's algorithms, whose tiles differ, the passes over weights [V,d] take for the logits and
 * for dh_rows, by their place in its list for such a product; 0, as it is at first, is the one that it recommends, as
 * is any place that a product's list does not have. As with the chunk, results repeat with the same places (and
 * library), and graphs keep theirs. The fused forms have tiles of their own. cpu: LETHE_UNSUPPORTED. */
LETHE_API int lethe_head_set_tiles(lethe_engine *engine, int32_t dtype, int64_t d, int64_t V, int64_t logits,
                                   int64_t gradient);
LETHE_API int lethe_head_tiles(lethe_engine *engine, int32_t dtype, int64_t d, int64_t V, int64_t *logits,
                               int64_t *gradient);
/* lethe_head_forward, several times over with chunks of several sizes, then with up to 8 algorithms for each product,
 * all timed; the fastest are set. `chunk`: that of lethe_head_chunk, 0 where none was faster than what 0 stands for;
 * lethe_head_tiles gives the rest. It waits for the device, so it cannot be captured. */
LETHE_API int lethe_head_tune(lethe_engine *engine, int32_t dtype, int64_t n, int64_t sources, int64_t d, int64_t V,
                              int64_t references, int64_t seconds, lethe_ref h, lethe_ref w, lethe_ref bias,
                              float soft_cap, lethe_ref mean, lethe_ref rows, lethe_ref row_params, lethe_ref stats,
                              lethe_ref dh_rows, lethe_ref workspace, int64_t workspace_bytes, int64_t *chunk);
/* dh[sources,d] = sum over the rows of each source, in row order, of coefficient[row] * dh_rows[row] (fp32 sum). */
LETHE_API int lethe_head_combine(lethe_engine *engine, int32_t dtype, int64_t n, int64_t sources, int64_t d,
                                 lethe_ref rows, lethe_ref coefficient, lethe_ref dh_rows, lethe_ref dh);
/* lethe_head_combine and lethe_norm_backward in one: dx[sources,d] = the gradient through the norm (as there, with one
 * group, packed rows) of dy = sum of coefficient * dh_rows, which is not rounded in between. x[sources,d] is what the
 * norm read. */
LETHE_API int lethe_head_norm_backward(lethe_engine *engine, int32_t dtype, int32_t kind, int64_t n, int64_t sources,
                                       int64_t d, float weight_shift, lethe_ref rows, lethe_ref coefficient,
                                       lethe_ref dh_rows, lethe_ref x, lethe_ref w, lethe_ref mean, lethe_ref rstd,
                                       lethe_ref dx, lethe_ref dw, lethe_ref db);
/* The second pass of a head that trains: coefficient[n] fp32 is applied to the logits' gradient, which goes to
 * dh_rows[n,d] (storage; combine with coefficients of 1) and, += , to dw[V,d] and db[V] fp32 (db 0: the bias is
 * frozen). The reference kinds are LETHE_UNSUPPORTED: a trained head has no adapter to switch off. */
LETHE_API int lethe_head_backward(lethe_engine *engine, int32_t dtype, int64_t n, int64_t sources, int64_t d, int64_t V,
                                  lethe_ref h, lethe_ref w, lethe_ref bias, float soft_cap, lethe_ref rows,
                                  lethe_ref row_params, lethe_ref coefficient, lethe_ref dh_rows, lethe_ref dw,
                                  lethe_ref db, lethe_ref workspace, int64_t workspace_bytes);
/* One token per row of h[n,d], drawn from softmax(z / temperature) cut to the top_k largest (0: all) and then to the
 * smallest set whose share of what is left reaches top_p (1: all). Draw i uses Philox4x32-10 with key seed and counter
 * draws[i], so a result depends on neither batch nor order. ids[n] int32. workspace as for lethe_head_forward. */
LETHE_API int lethe_head_sample(lethe_engine *engine, int32_t dtype, int64_t n, int64_t d, int64_t V, lethe_ref h,
                                lethe_ref w, lethe_ref bias, float soft_cap, float temperature, int32_t top_k,
                                float top_p, int64_t seed, lethe_ref draws, lethe_ref ids, lethe_ref workspace,
                                int64_t workspace_bytes);

/* ---- the update: global-norm clip and AdamW (Loshchilov & Hutter 2019) over one arena ---- */

/* state[LETHE_UPDATE_STATE] fp32, on the device: {norm, clip coefficient, finite (1 or 0), steps applied, -, -, -, -}.
 */
enum { LETHE_UPDATE_STATE = 8 };
/* norm = ||g[n]||, fp64 sum in fixed order; clip = min(1, max_norm / (norm + 1e-6)) (max_norm <= 0: 1); finite = 0 when
 * any gradient is not finite. */
LETHE_API int lethe_gradient_norm(lethe_engine *engine, int64_t n, lethe_ref g, float max_norm, lethe_ref state);
/* Does nothing when state says not finite. Otherwise steps applied += 1 = t and, with ghat = clip * g:
 * m = b1 m + (1-b1) ghat; v = b2 v + (1-b2) ghat^2; p -= lr (m / (1-b1^t) / (sqrt(v / (1-b2^t)) + eps) + decay p),
 * with decay = weight_decay for the first n_decay of the n parameters and 0 for the rest.
 * p, m, v, g fp32 [n]; copy[n] receives p in storage (0: none; required for LETHE_BF16). */
LETHE_API int lethe_adamw(lethe_engine *engine, int32_t dtype, int64_t n, int64_t n_decay, lethe_ref p, lethe_ref m,
                          lethe_ref v, lethe_ref g, lethe_ref copy, float lr, float beta1, float beta2, float eps,
                          float weight_decay, lethe_ref state);

/* The same over gradients that exist one part after the other: `begin` != 0 starts a sum, which state[4] and state[5]
 * hold, and each call adds g[n] to it: norm, clip and finite are then those of all parts so far. A part that is not
 * finite leaves finite at 0 until the next begin. */
LETHE_API int lethe_gradient_norm_part(lethe_engine *engine, int64_t n, lethe_ref g, int32_t begin, float max_norm,
                                       lethe_ref state);

/* Consecutive parameters that share one scale of 8-bit moments. */
enum { LETHE_MOMENT_BLOCK = 256 };
/* lethe_adamw over a part of the parameters, all with the same weight_decay, in as little memory as is asked for. All
 * parts of a step see t = steps applied + 1; the one with last != 0 counts it.
 *
 * p 0 (LETHE_BF16 alone): there is no master. copy[n] is read, updated in fp32, and rounded stochastically (Croci et
 * al. 2022): the fp32 bits plus 16 random ones, cut off after 16; so the mean of what is stored is the fp32 number.
 * Parameter `first` + i takes number (first + i) % 8 of the eight that Philox4x32-10 with key seed and counter {(first
 * + i) / 8, t} gives, the low half of a word before its high one: no way of cutting the parameters into parts changes a
 * bit. first is a multiple of 8.
 *
 * m_scale and v_scale [ceil(n / LETHE_MOMENT_BLOCK)] fp32, both or none (0): m and v are uint8 codes in blocks that
 * start with the part; a moment is map value * scale, one product (Dettmers et al. 2022). maps[2,256] fp32 ascending,
 * m's and v's; v's begins with 0. Moments are updated in fp32; then a block's scale is its largest magnitude, and a
 * code that of the value nearest to moment / scale, where a v above 0 never takes v's code 0: a step divides by its
 * root. Without scales m and v are fp32, and maps is 0. */
LETHE_API int lethe_adamw_part(lethe_engine *engine, int32_t dtype, int64_t n, int64_t first, lethe_ref p, lethe_ref m,
                               lethe_ref v, lethe_ref m_scale, lethe_ref v_scale, lethe_ref maps, lethe_ref g,
                               lethe_ref copy, float lr, float beta1, float beta2, float eps, float weight_decay,
                               uint64_t seed, int32_t last, lethe_ref state);

#ifdef __cplusplus
}
#endif
#endif
