// The ops of the backend's table, one source file each (backend.cu lists them).
#pragma once

#include "lethe_backend.h"

namespace lethe::cuda {

using Device = lethe_device;

int alloc(Device *device, int64_t bytes, void **address);
void free(Device *device, void *address);
int write(Device *device, void *dst, const void *src, int64_t bytes);
int read(Device *device, const void *src, void *dst, int64_t bytes);
int copy(Device *device, void *dst, const void *src, int64_t bytes);
int zero(Device *device, void *dst, int64_t bytes);
int alloc_host(Device *device, int64_t bytes, void **address);
int copy_aside(Device *device, void *dst, const void *src, int64_t bytes, int64_t *ticket);
int wait_aside(Device *device, int64_t ticket);
int synchronize(Device *device);
int reserve_scratch(Device *device, int64_t bytes);
int graph_begin(Device *device);
int graph_end(Device *device, lethe_graph *id);
int graph_launch(Device *device, lethe_graph id);
int graph_close(Device *device, lethe_graph id);
// Gives up what is being captured, and all graphs.
void close_graphs(Device *device);
int convert(Device *device, int64_t n, int32_t src_dtype, const void *src, int32_t dst_dtype, void *dst);
int random_normal(Device *device, int32_t dtype, int64_t n, uint64_t seed, int64_t first, float std, void *dst);
int nf4_quantize(Device *device, const lethe_nf4_args *args);
int nf4_dequantize(Device *device, const lethe_nf4_args *args);

int norm_forward(Device *device, const lethe_norm_args *args);
int norm_backward(Device *device, const lethe_norm_args *args);
int embedding_forward(Device *device, const lethe_embedding_args *args);
int embedding_backward(Device *device, const lethe_embedding_args *args);
int gather_rows(Device *device, const lethe_rows_args *args);
int scatter_rows(Device *device, const lethe_rows_args *args);
int linear_forward(Device *device, const lethe_linear_args *args);
int linear_backward(Device *device, const lethe_linear_args *args);
int linear_spare(Device *device, int32_t dtype, int64_t out, int64_t in, int64_t rank, int64_t *w_stride,
                 int64_t *spare_rows);
int rotary(Device *device, const lethe_rotary_args *args);
int attention_forward(Device *device, const lethe_attention_args *args);
int attention_backward(Device *device, const lethe_attention_args *args);
int gated_forward(Device *device, const lethe_gated_args *args);
int gated_backward(Device *device, const lethe_gated_args *args);
int activation_forward(Device *device, const lethe_activation_args *args);
int activation_backward(Device *device, const lethe_activation_args *args);
int head_mean(Device *device, int32_t dtype, int64_t d, int64_t V, const void *w, float *mean);
int head_workspace(Device *device, int32_t dtype, int64_t n, int64_t d, int64_t V, int64_t *least, int64_t *most);
int head_forward(Device *device, const lethe_head_args *args);
int head_set_chunk(Device *device, int32_t dtype, int64_t d, int64_t V, int64_t rows);
int head_chunk(Device *device, int32_t dtype, int64_t d, int64_t V, int64_t *rows);
int head_set_tiles(Device *device, int32_t dtype, int64_t d, int64_t V, int64_t logits, int64_t gradient);
int head_tiles(Device *device, int32_t dtype, int64_t d, int64_t V, int64_t *logits, int64_t *gradient);
int head_tune(Device *device, const lethe_head_args *args, int64_t *chunk);
int head_combine(Device *device, const lethe_head_args *args);
int head_norm_backward(Device *device, const lethe_head_norm_args *args);
int head_backward(Device *device, const lethe_head_args *args);
int head_sample(Device *device, const lethe_sample_args *args);
int gradient_norm(Device *device, int64_t n, const float *g, float max_norm, float *state);
int adamw(Device *device, const lethe_adamw_args *args);
int gradient_norm_part(Device *device, int64_t n, const float *g, int32_t begin, float max_norm, float *state);
int adamw_part(Device *device, const lethe_adamw_part_args *args);

}  // namespace lethe::cuda
