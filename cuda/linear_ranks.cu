// The skinny products of a linear layer with adapters: u = scale * x A^T and du = scale * dy B, few columns and a long
// sum.
//
// A product's tile sums all of K by itself, so that with few rows most multiprocessors have nothing to do while a few
// read all of x: from kSplitFrom on K is split into equal parts, a batch of products whose fp32 sums a kernel adds in
// order. How K is split depends on K alone, so a row's bits still do not depend on its batch.
#include <type_traits>

#include "gemm.h"
#include "linear.cuh"
#include "linear_runs.cuh"
#include "number.cuh"

namespace lethe::cuda {
namespace {

using Args = lethe_linear_args;

// A multiprocessor reads some 100 GB/s: 64 rows over 8192 columns, 1 MB, take 10 us, which is more than a second
// launch.
constexpr int64_t kSplitFrom = 8192, kLeastPart = 1024, kMostSplits = 8;
// Parts keep operands aligned to 16 bytes.
constexpr int64_t kPartAlignment = 8;

// Equal parts of a sum over K; 1: it is not split.
int64_t splits_of(int64_t K) {
  if (K < kSplitFrom) return 1;
  for (int64_t splits = kMostSplits; splits > 1; --splits) {
    if (K % (splits * kPartAlignment) == 0 && K / splits >= kLeastPart) return splits;
  }
  return 1;
}

constexpr unsigned kThreads = 256;

// to[row, product * rank + column] = scale * the sum over a product's splits of partial[split][row, column], in order.
template <class T>
__global__ void __launch_bounds__(kThreads)
    sum_splits_kernel(int64_t products, int64_t splits, int64_t rows, int64_t rank, const float *partial, int64_t step,
                      float scale, T *to, int64_t stride) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t row = index / (products * rank), column = index % (products * rank);
  if (row >= rows) return;
  const float *from = partial + column / rank * splits * step + row * rank + column % rank;
  float sum = 0.0f;
  for (int64_t split = 0; split < splits; ++split) sum += from[split * step];
  from_float(scale * sum, to + row * stride + column);
}

// g, whose batch of products each is split: their operands must follow each other as the parts of one do.
int split_product(Device *device, const Gemm &g, int64_t splits, float *partial) {
  Gemm parts = g;
  parts.c_dtype = LETHE_F32;
  parts.K = g.K / splits;
  parts.batch = g.batch * splits;
  parts.a.step = parts.K;
  parts.b.step = g.b.transposed ? parts.K : parts.K * g.b.ld;
  parts.c = partial;
  parts.ldc = g.N;
  parts.c_step = bucket_of(g.M) * g.N;
  parts.alpha = 1.0f;
  LETHE_CUDA_TRY(gemm(device, parts));
  const int64_t numbers = g.batch * g.M * g.N;
  const Shape shape = {
      "sum_splits", {blocks_of(numbers, kThreads)}, kThreads, 0, numbers * (splits * 4 + element_bytes(g.c_dtype))};
  const auto sum = [&](auto *to) {
    using T = std::remove_pointer_t<decltype(to)>;
    return launch(device, shape, sum_splits_kernel<T>, g.batch, splits, g.M, g.N, static_cast<const float *>(partial),
                  parts.c_step, g.alpha, to, g.ldc);
  };
  return g.c_dtype == LETHE_BF16 ? sum(static_cast<bf16 *>(g.c)) : sum(static_cast<float *>(g.c));
}

}  // namespace

int forward_ranks(Device *device, const Args &a, char *masked, float *partial) {
  const auto join = [&](const lethe_adapter &earlier, const lethe_adapter &later) {
    if (scale_of(a, earlier) != scale_of(a, later)) return Join{};
    return join_inputs(a, earlier, later, earlier.a, later.a, element_bytes(a.dtype));
  };
  for (const Run &run : runs_of(a, join)) {
    const lethe_adapter &adapter = a.adapters[run.first];
    const void *x = a.x;
    if (drops(a, adapter)) {
      LETHE_CUDA_TRY(masked_input(device, a.dtype, a.adapted, a.in, a.x, a.row_keys, mask_of(a, adapter), masked));
      x = masked;
    }
    Gemm g = {a.dtype,
              a.dtype,
              a.adapted,
              run.rank,
              a.in,
              {x, a.in},
              {adapter.a, a.in, true, run.memory},
              at(a, a.u, run.column),
              a.total_rank,
              scale_of(a, adapter)};
    g.batch = run.batch();
    g.c_step = run.rank;
    const int64_t splits = run.batch() == 1 ? splits_of(a.in) : 1;
    LETHE_CUDA_TRY(splits > 1 ? split_product(device, g, splits, partial) : gemm(device, g));
  }
  return LETHE_OK;
}

int backward_ranks(Device *device, const Args &a, float *partial) {
  const auto join = [&](const lethe_adapter &earlier, const lethe_adapter &later) {
    if (scale_of(a, earlier) != scale_of(a, later)) return Join{};
    return join_outputs(earlier, later, earlier.b, later.b, element_bytes(a.dtype));
  };
  for (const Run &run : runs_of(a, join)) {
    const lethe_adapter &p = a.adapters[run.first];
    Gemm g = {a.dtype,
              a.dtype,
              a.T,
              p.rank,
              p.part_out,
              {at(a, a.dy, p.first_out), a.out, false, run.outputs},
              {p.b, p.rank, false, run.memory},
              at(a, a.du, run.column),
              a.total_rank,
              scale_of(a, p)};
    g.batch = run.batch();
    g.c_step = p.rank;
    const bool follow = run.count == 1 || (run.outputs == p.part_out && run.memory == p.part_out * p.rank);
    const int64_t splits = follow ? splits_of(p.part_out) : 1;
    LETHE_CUDA_TRY(splits > 1 ? split_product(device, g, splits, partial) : gemm(device, g));
  }
  return LETHE_OK;
}

int64_t forward_rank_partials(const Args &a) {
  const int64_t splits = splits_of(a.in);
  return splits > 1 ? splits * bucket_of(a.adapted) * a.total_rank : 0;
}

int64_t backward_rank_partials(const Args &a) {
  int64_t most = 0;
  for (int64_t i = 0; i < a.adapter_count; ++i) most = std::max(most, splits_of(a.adapters[i].part_out));
  return most > 1 ? most * bucket_of(a.T) * a.total_rank : 0;
}

}  // namespace lethe::cuda
