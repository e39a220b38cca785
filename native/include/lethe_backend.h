/* The table a backend fills.
 *
 * A backend is a shared library liblethe_<name>.so that exports lethe_backend_init. liblethe checks every argument
 * (null, sizes, bounds, overlap) and resolves refs to addresses, so a backend trusts what it is given; it must not
 * throw across the table. Contents it alone can see (indices in device memory) it checks itself; an asynchronous one
 * answers for them at its next read or synchronize. A backend is driven by one thread at a time. Ops appear in the
 * order of lethe.h and carry its names.
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

typedef struct lethe_norm_args {
  int32_t dtype, kind;
  int64_t T, groups, d;
  float eps; /* forward only */
  float weight_shift;
  const void *x, *w; /* x[T, groups, d], w[d] */
  int64_t x_stride;
  const void *b;        /* forward: [d] or null */
  const void *residual; /* forward: at y's stride, null, or y */
  void *y;              /* forward: [T, groups, d]; may be x */
  int64_t y_stride;
  float *mean, *rstd; /* [T, groups]; forward: out or null; backward: in (mean null for LETHE_NORM_RMS) */
  const void *dy;     /* backward: [T, groups, d] */
  int64_t dy_stride;
  void *dx; /* backward: [T, groups, d]; may be dy unless it accumulates */
  int64_t dx_stride;
  int32_t accumulate;
  float *dw, *db; /* backward: [d] += or null */
} lethe_norm_args;

typedef struct lethe_head_norm_args {
  int64_t n;                /* head rows; norm.T sources, norm.groups 1 */
  const int32_t *rows;      /* [n, LETHE_ROW_FIELDS] */
  const float *coefficient; /* [n] */
  const void *dh_rows;      /* [n,d] */
  lethe_norm_args norm;     /* as for norm_backward, but dy, which is null */
} lethe_head_norm_args;

typedef struct lethe_nf4_args {
  int32_t dtype;
  int64_t n, block;
  const void *src;            /* quantize: [n] */
  void *dst;                  /* dequantize: [n] */
  uint8_t *packed;            /* [ceil(n/2)] */
  float *absmax;              /* [ceil(n/block)]; dequantize: null with double quantisation */
  const uint8_t *nested;      /* dequantize: [ceil(n/block)] or null, as the rest */
  const float *nested_map;    /* [256] */
  const float *nested_absmax; /* [ceil(blocks/256)] */
  float nested_offset;
  int64_t row, dst_stride; /* dequantize: dst's numbers stand in rows of `row` that lie dst_stride apart; row 0: side by
                              side, as for backends without linear_spare. n is a multiple of row */
} lethe_nf4_args;

/* n rows between a strided table and a strided list. */
typedef struct lethe_rows_args {
  int32_t dtype;
  int64_t n, width;
  int64_t table_rows; /* bound of index */
  const void *src;
  int64_t src_stride;
  void *dst;
  int64_t dst_stride;
  const int32_t *index; /* index[n] */
} lethe_rows_args;

typedef struct lethe_embedding_args {
  int32_t dtype;
  int64_t T, d, V;
  float scale;
  const int32_t *ids;
  const void *table; /* forward */
  void *out;         /* forward: [T,d] */
  const void *dout;  /* backward: [T,d] */
  float *dtable;     /* backward: [V,d] += */
} lethe_embedding_args;

typedef struct lethe_adapter {
  int64_t first_out, part_out, rank;
  float scale, dropout;
  uint64_t key;
  const void *a, *b; /* a[rank,in], b[part_out,rank] */
  float *da, *db;    /* += or null */
} lethe_adapter;

typedef struct lethe_linear_args {
  int32_t dtype;
  int64_t out, in;
  const void *w; /* [out,in] */
  float *dw;     /* [out,in] += or null */
  const void *b; /* [out] or null */
  float *db;     /* [out] += or null */
  const lethe_adapter *adapters;
  int64_t adapter_count, total_rank;
  int64_t T, adapted;       /* backward: adapted == T */
  const void *x;            /* [T,in] */
  const void *residual;     /* forward: [T,out], null, or y */
  void *y;                  /* forward: [T,out] */
  const uint64_t *row_keys; /* [adapted] or null: no dropout */
  void *u;                  /* [adapted,total_rank] */
  const void *dy;           /* backward: [T,out] */
  void *du;                 /* backward: scratch [T,total_rank] */
  void *dx;                 /* backward: [T,in] or null */
  int64_t w_stride;         /* elements from row to row of w; in, where it is packed */
  int64_t spare_rows;       /* rows of that stride behind w's last one */
  void *spare;              /* w, whose spare columns and rows are the backend's to write; null: it has none */
} lethe_linear_args;

typedef struct lethe_rotary_args {
  int32_t dtype;
  int64_t T, heads, head_dim, rotary_dim;
  void *x;
  int64_t stride;
  const int32_t *positions;
  int64_t P;
  const float *cos, *sin; /* [P, rotary_dim/2] */
  int32_t inverse;
} lethe_rotary_args;

typedef struct lethe_attention_args {
  int32_t dtype;
  int64_t heads, kv_heads, head_dim;
  float scale;
  int64_t window; /* 0: all */
  float soft_cap; /* 0: none */
  int64_t segments;
  const int32_t *segment_table; /* [segments, LETHE_SEGMENT_FIELDS]; the backend checks its ranges */
  int64_t q_rows, q_stride, k_rows, k_stride, v_stride;
  const void *q, *k, *v;
  void *out;  /* forward: out; backward: in. [q_rows, heads*head_dim] */
  float *lse; /* forward: out or null; backward: in. [q_rows, heads] */
  const void *dout;
  void *dq, *dk, *dv; /* strides of q, k, v */
} lethe_attention_args;

typedef struct lethe_gated_args {
  int32_t dtype, activation;
  int64_t T, f;
  const void *gate_up; /* [T,2f] */
  void *out;           /* forward: [T,f] */
  const void *dout;    /* backward: [T,f] */
  void *dgate_up;      /* backward: [T,2f]; may be gate_up */
} lethe_gated_args;

typedef struct lethe_activation_args {
  int32_t dtype, activation;
  int64_t T, f;
  const void *x;    /* [T,f] */
  void *out;        /* forward: [T,f]; may be x */
  const void *dout; /* backward: [T,f] */
  void *dx;         /* backward: [T,f]; may be x or dout */
} lethe_activation_args;

typedef struct lethe_head_args {
  int32_t dtype;
  int64_t n, sources, d, V;
  int64_t references, seconds; /* forward: rows with a reference, rows that mix; the backend checks them */
  const void *h, *w;           /* h[sources,d], w[V,d] */
  const void *bias;            /* [V] or null */
  float soft_cap;              /* 0: none */
  const float *mean;           /* [d] or null */
  const int32_t *rows;         /* [n, LETHE_ROW_FIELDS]; the backend checks its ranges */
  const float *row_params;     /* [n, LETHE_ROW_PARAMS] or null; the backend checks its ranges */
  const float *coefficient;    /* [n]; backward and combine */
  float *stats;                /* forward: [n, LETHE_STATISTICS] */
  void *dh_rows;               /* [n,d] or null */
  void *dh;                    /* combine: [sources,d] */
  float *dw;                   /* backward: [V,d] += */
  float *db;                   /* backward: [V] += or null */
  void *workspace;
  int64_t workspace_bytes;
} lethe_head_args;

typedef struct lethe_sample_args {
  int32_t dtype;
  int64_t n, d, V;
  const void *h, *w;
  const void *bias; /* [V] or null */
  float soft_cap;   /* 0: none */
  float temperature;
  int32_t top_k;
  float top_p;
  int64_t seed;
  const int64_t *draws; /* [n] */
  int32_t *ids;         /* [n] */
  void *workspace;
  int64_t workspace_bytes;
} lethe_sample_args;

typedef struct lethe_adamw_args {
  int32_t dtype;
  int64_t n, n_decay;
  float *p, *m, *v;
  const float *g;
  void *copy;
  float lr, beta1, beta2, eps, weight_decay;
  float *state; /* [LETHE_UPDATE_STATE] */
} lethe_adamw_args;

typedef struct lethe_adamw_part_args {
  int32_t dtype;
  int64_t n, first;
  float *p;                 /* [n], or null: copy is rounded stochastically */
  void *m, *v;              /* [n] fp32, or uint8 codes where there are scales */
  float *m_scale, *v_scale; /* [ceil(n / LETHE_MOMENT_BLOCK)], both or none */
  const float *maps;        /* [2,256] with scales */
  const float *g;
  void *copy; /* [n] in storage, or null */
  float lr, beta1, beta2, eps, weight_decay;
  uint64_t seed;
  int32_t last;
  float *state; /* [LETHE_UPDATE_STATE] */
} lethe_adamw_part_args;

/* An op the backend does not have is null: its caller gets LETHE_UNSUPPORTED. */
typedef struct lethe_backend {
  int32_t abi; /* LETHE_ABI this backend was built for; checked before anything else is read */
  const char *name;
  /* plugin_dir is where this library was found; ordinal is n of "name:n", else 0. */
  int (*open)(const lethe_host *host, const char *plugin_dir, int32_t ordinal, int32_t threads, lethe_device **device);
  void (*close)(lethe_device *device);
  int (*describe)(lethe_device *device, char *out, int64_t capacity);
  int (*synchronize)(lethe_device *device);
  int (*memory)(lethe_device *device, int64_t *free_bytes, int64_t *total_bytes);
  int (*reserve_scratch)(lethe_device *device, int64_t bytes);
  int (*stream)(lethe_device *device, void **stream);
  int (*use_stream)(lethe_device *device, void *stream);
  int (*record_launches)(lethe_device *device, int32_t on);
  int (*launches)(lethe_device *device, char *out, int64_t capacity, int64_t *needed);
  int (*graph_begin)(lethe_device *device);
  int (*graph_end)(lethe_device *device, lethe_graph *graph);
  int (*graph_launch)(lethe_device *device, lethe_graph graph);
  int (*graph_close)(lethe_device *device, lethe_graph graph);
  /* Whether `bytes` bytes of `address` can be given to the device; may be null: all host memory can. */
  int (*wrap)(lethe_device *device, void *address, int64_t bytes);

  int (*alloc)(lethe_device *device, int64_t bytes, void **address);
  void (*free)(lethe_device *device, void *address);
  int (*write)(lethe_device *device, void *dst, const void *src, int64_t bytes);
  int (*read)(lethe_device *device, const void *src, void *dst, int64_t bytes);
  int (*copy)(lethe_device *device, void *dst, const void *src, int64_t bytes);
  int (*zero)(lethe_device *device, void *dst, int64_t bytes);
  int (*alloc_host)(lethe_device *device, int64_t bytes, void **address); /* free takes it back */
  int (*copy_aside)(lethe_device *device, void *dst, const void *src, int64_t bytes, int64_t *ticket);
  int (*wait_aside)(lethe_device *device, int64_t ticket); /* a ticket that copy_aside gave */
  int (*convert)(lethe_device *device, int64_t n, int32_t src_dtype, const void *src, int32_t dst_dtype, void *dst);
  int (*random_normal)(lethe_device *device, int32_t dtype, int64_t n, uint64_t seed, int64_t first, float std,
                       void *dst);
  int (*nf4_quantize)(lethe_device *device, const lethe_nf4_args *args);
  int (*nf4_dequantize)(lethe_device *device, const lethe_nf4_args *args);

  int (*norm_forward)(lethe_device *device, const lethe_norm_args *args);
  int (*norm_backward)(lethe_device *device, const lethe_norm_args *args);
  int (*embedding_forward)(lethe_device *device, const lethe_embedding_args *args);
  int (*embedding_backward)(lethe_device *device, const lethe_embedding_args *args);
  int (*gather_rows)(lethe_device *device, const lethe_rows_args *args);
  int (*scatter_rows)(lethe_device *device, const lethe_rows_args *args);
  int (*linear_forward)(lethe_device *device, const lethe_linear_args *args);
  int (*linear_backward)(lethe_device *device, const lethe_linear_args *args);
  /* May be null: the backend has no use for spare columns and rows. */
  int (*linear_spare)(lethe_device *device, int32_t dtype, int64_t out, int64_t in, int64_t rank, int64_t *w_stride,
                      int64_t *spare_rows);
  int (*rotary)(lethe_device *device, const lethe_rotary_args *args);
  int (*attention_forward)(lethe_device *device, const lethe_attention_args *args);
  int (*attention_backward)(lethe_device *device, const lethe_attention_args *args);
  int (*gated_forward)(lethe_device *device, const lethe_gated_args *args);
  int (*gated_backward)(lethe_device *device, const lethe_gated_args *args);
  int (*activation_forward)(lethe_device *device, const lethe_activation_args *args);
  int (*activation_backward)(lethe_device *device, const lethe_activation_args *args);
  int (*head_mean)(lethe_device *device, int32_t dtype, int64_t d, int64_t V, const void *w, float *mean);
  int (*head_workspace)(lethe_device *device, int32_t dtype, int64_t n, int64_t d, int64_t V, int64_t *least,
                        int64_t *most);
  int (*head_forward)(lethe_device *device, const lethe_head_args *args);
  int (*head_set_chunk)(lethe_device *device, int32_t dtype, int64_t d, int64_t V, int64_t rows);
  int (*head_chunk)(lethe_device *device, int32_t dtype, int64_t d, int64_t V, int64_t *rows);
  int (*head_set_tiles)(lethe_device *device, int32_t dtype, int64_t d, int64_t V, int64_t logits, int64_t gradient);
  int (*head_tiles)(lethe_device *device, int32_t dtype, int64_t d, int64_t V, int64_t *logits, int64_t *gradient);
  int (*head_tune)(lethe_device *device, const lethe_head_args *args, int64_t *chunk);
  int (*head_combine)(lethe_device *device, const lethe_head_args *args);
  int (*head_norm_backward)(lethe_device *device, const lethe_head_norm_args *args);
  int (*head_backward)(lethe_device *device, const lethe_head_args *args);
  int (*head_sample)(lethe_device *device, const lethe_sample_args *args);
  int (*gradient_norm)(lethe_device *device, int64_t n, const float *g, float max_norm, float *state);
  int (*adamw)(lethe_device *device, const lethe_adamw_args *args);
  int (*gradient_norm_part)(lethe_device *device, int64_t n, const float *g, int32_t begin, float max_norm,
                            float *state);
  int (*adamw_part)(lethe_device *device, const lethe_adamw_part_args *args);
} lethe_backend;

/* The one symbol a plug-in exports. */
typedef const lethe_backend *(*lethe_backend_init_fn)(void);
#define LETHE_BACKEND_INIT "lethe_backend_init"

#ifdef __cplusplus
}
#endif
#endif
