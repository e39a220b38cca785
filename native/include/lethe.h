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
 * a crash; an operand that leaves its buffer is LETHE_OUT_OF_BOUNDS; operands that must not overlap and do,
 * LETHE_OVERLAP.
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
#define LETHE_ABI 1

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
  LETHE_INTERNAL = 10         /* a fault in Lethe */
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

/* Opens `backend` ("cpu": the widest instruction set at hand; "cpu_avx2" or "cpu_avx512": just that one) from the
 * plug-in library in `plugin_dir`. `threads` >= 1 is fixed for the engine's life: it is part of what makes results
 * repeat. LETHE_NO_DEVICE says why this machine cannot run the backend. */
LETHE_API int lethe_engine_open(const char *backend, const char *plugin_dir, int32_t threads, lethe_engine **engine);
/* Frees everything the engine owns; its refs become LETHE_CLOSED. */
LETHE_API int lethe_engine_close(lethe_engine *engine);
/* One line of JSON into out[capacity]: backend, instruction set, threads, library versions. */
LETHE_API int lethe_engine_describe(lethe_engine *engine, char *out, int64_t capacity);

/* ---- buffers ---- */

/* 64-byte aligned, zeroed. */
LETHE_API int lethe_buffer_alloc(lethe_engine *engine, int64_t bytes, lethe_ref *buffer);
LETHE_API int lethe_buffer_free(lethe_engine *engine, lethe_ref buffer);
/* Host memory to a buffer and back; returns when the bytes are there. */
LETHE_API int lethe_write(lethe_engine *engine, lethe_ref dst, const void *src, int64_t bytes);
LETHE_API int lethe_read(lethe_engine *engine, lethe_ref src, void *dst, int64_t bytes);
LETHE_API int lethe_copy(lethe_engine *engine, lethe_ref dst, lethe_ref src, int64_t bytes);
LETHE_API int lethe_zero(lethe_engine *engine, lethe_ref dst, int64_t bytes);
/* n elements from one floating dtype to the other, round to nearest even. */
LETHE_API int lethe_convert(lethe_engine *engine, int64_t n, int32_t src_dtype, lethe_ref src, int32_t dst_dtype,
                            lethe_ref dst);

/* ---- RMSNorm: y = x / sqrt(mean(x^2) + eps) * w  (Zhang & Sennrich 2019) ---- */

/* x[T,d], w[d], y[T,d] in storage; rstd[T] fp32 is kept for the backward pass (0: not kept). */
LETHE_API int lethe_rmsnorm_forward(lethe_engine *engine, int32_t dtype, int64_t T, int64_t d, float eps, lethe_ref x,
                                    lethe_ref w, lethe_ref y, lethe_ref rstd);
/* dx[T,d] += the gradient through the norm (storage); dw[d] fp32 += its weight's gradient (0: frozen). */
LETHE_API int lethe_rmsnorm_backward(lethe_engine *engine, int32_t dtype, int64_t T, int64_t d, lethe_ref dy,
                                     lethe_ref x, lethe_ref w, lethe_ref rstd, lethe_ref dx, lethe_ref dw);

#ifdef __cplusplus
}
#endif
#endif
