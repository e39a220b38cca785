/* The table a backend fills.
 *
 * A backend is a shared library liblethe_<name>.so that exports lethe_backend_init. liblethe checks every argument
 * (null, sizes, bounds, overlap) and resolves refs to addresses, so a backend trusts what it is given; it must not
 * throw across the table. Contents it alone can see (indices in device memory) it checks itself. A backend is driven by
 * one thread at a time. Ops appear in the order of lethe.h and carry its names.
 */
#ifndef LETHE_BACKEND_H
#define LETHE_BACKEND_H

#include "lethe.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the host lends a backend. */
typedef struct lethe_host {
  /* Records why an op fails; returns `status`, so that a backend can `return host->fail(...)`. */
  int (*fail)(int status, const char *file, int line, const char *message);
} lethe_host;

typedef struct lethe_device lethe_device; /* the backend's own state; one per engine */

typedef struct lethe_rmsnorm_args {
  int32_t dtype;
  int64_t T, d;
  float eps;         /* forward only */
  const void *x, *w; /* x[T,d], w[d] */
  void *y;           /* forward: y[T,d] */
  float *rstd;       /* forward: out or null; backward: in */
  const void *dy;    /* backward: dy[T,d] */
  void *dx;          /* backward: dx[T,d] += */
  float *dw;         /* backward: dw[d] += or null */
} lethe_rmsnorm_args;

typedef struct lethe_backend {
  int32_t abi; /* LETHE_ABI this backend was built for; checked before anything else is read */
  const char *name;
  int (*open)(const lethe_host *host, int32_t threads, lethe_device **device);
  void (*close)(lethe_device *device);
  int (*describe)(lethe_device *device, char *out, int64_t capacity);

  int (*alloc)(lethe_device *device, int64_t bytes, void **address);
  void (*free)(lethe_device *device, void *address);
  int (*write)(lethe_device *device, void *dst, const void *src, int64_t bytes);
  int (*read)(lethe_device *device, const void *src, void *dst, int64_t bytes);
  int (*copy)(lethe_device *device, void *dst, const void *src, int64_t bytes);
  int (*zero)(lethe_device *device, void *dst, int64_t bytes);
  int (*convert)(lethe_device *device, int64_t n, int32_t src_dtype, const void *src, int32_t dst_dtype, void *dst);

  int (*rmsnorm_forward)(lethe_device *device, const lethe_rmsnorm_args *args);
  int (*rmsnorm_backward)(lethe_device *device, const lethe_rmsnorm_args *args);
} lethe_backend;

/* The one symbol a plug-in exports. */
typedef const lethe_backend *(*lethe_backend_init_fn)(void);
#define LETHE_BACKEND_INIT "lethe_backend_init"

#ifdef __cplusplus
}
#endif
#endif
