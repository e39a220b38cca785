// The linear layer with LoRA adapters: y = x W^T + b (+ residual) + sum over adapters of u B^T, u = scale * x A^T
// (native/cpu/linear.cpp has the formulas, and what dropout does to them).
//
// The low-rank part comes first: it is written over what y starts from, and the product with W is added to it. So W's
// product is one for all rows, adapted or not, by the same algorithm, and adapters with B = 0 leave the bits alone. In
// bf16 y and dx are rounded twice, the first time at the size of the low-rank part and the residual; adapters whose
// outputs overlap round in between.
#include <algorithm>
#include <cmath>
#include <vector>

#include "dropout.cuh"
#include "gemm.h"
#include "vector.cuh"

namespace lethe::cuda {
namespace {

using Args = lethe_linear_args;

const void *at(const Args &a, const void *p, int64_t elements) {
  return static_cast<const char *>(p) + elements * element_bytes(a.dtype);
}
void *at(const Args &a, void *p, int64_t elements) {
  return static_cast<char *>(p) + elements * element_bytes(a.dtype);
}

bool drops(const Args &a, const lethe_adapter &adapter) { return a.row_keys != nullptr && adapter.dropout > 0; }
bool any_drops(const Args &a) {
  return std::any_of(a.adapters, a.adapters + a.adapter_count, [&](const lethe_adapter &p) { return drops(a, p); });
}
float scale_of(const Args &a, const lethe_adapter &adapter) {
  if (!drops(a, adapter)) return adapter.scale;
  return static_cast<float>(static_cast<double>(adapter.scale) / (1.0 - static_cast<double>(adapter.dropout)));
}
// The least word that keeps a column; below 2^32, as no float lies between 1 - 2^-24 and 1.
Mask mask_of(const Args &a, const lethe_adapter &adapter) {
  if (!drops(a, adapter)) return {0, 0};
  return {adapter.key, static_cast<uint32_t>(std::ceil(static_cast<double>(adapter.dropout) * 0x1p32))};
}

// Adapters that one product serves, and their columns of u.
struct Run {
  int64_t first, end, column, rank;
};
// Joins neighbours where `together(earlier, later)`; those that drop stand alone.
template <class Together>
std::vector<Run> runs_of(const Args &a, Together &&together) {
  std::vector<Run> runs;
  int64_t column = 0;
  for (int64_t i = 0; i < a.adapter_count; ++i) {
    const lethe_adapter &adapter = a.adapters[i];
    const bool join =
        i > 0 && !drops(a, adapter) && !drops(a, a.adapters[i - 1]) && together(a.adapters[i - 1], adapter);
    if (!join) runs.push_back({i, i, column, 0});
    runs.back().end = i + 1;
    runs.back().rank += adapter.rank;
    column += adapter.rank;
  }
  return runs;
}

bool inputs_stacked(const Args &a, const lethe_adapter &earlier, const lethe_adapter &later) {
  return at(a, earlier.a, earlier.rank * a.in) == later.a;
}

// u = scale * x A^T for the adapted rows; `masked` has room for m o x.
int forward_ranks(Device *device, const Args &a, char *masked) {
  const auto together = [&](const lethe_adapter &earlier, const lethe_adapter &later) {
    return inputs_stacked(a, earlier, later) && earlier.scale == later.scale;
  };
  for (const Run &run : runs_of(a, together)) {
    const lethe_adapter &adapter = a.adapters[run.first];
    const void *x = a.x;
    if (drops(a, adapter)) {
      LETHE_CUDA_TRY(masked_input(device, a.dtype, a.adapted, a.in, a.x, a.row_keys, mask_of(a, adapter), masked));
      x = masked;
    }
    LETHE_CUDA_TRY(gemm(device, {a.dtype,
                                 a.dtype,
                                 a.adapted,
                                 run.rank,
                                 a.in,
                                 {x, a.in},
                                 {adapter.a, a.in, true},
                                 at(a, a.u, run.column),
                                 a.total_rank,
                                 scale_of(a, adapter)}));
  }
  return LETHE_OK;
}

// An adapter's outputs, and its columns of u.
struct Slice {
  int64_t first, end, column;
  const lethe_adapter *adapter;
};

// What no adapter writes of y becomes the residual, or 0: [first, end) of each of the first `rows` rows.
int start_outputs(Device *device, const Args &a, int64_t first, int64_t end, int64_t rows) {
  if (a.residual == a.y) return LETHE_OK;
  const int64_t width = element_bytes(a.dtype);
  return fill_rows(device, at(a, a.y, first), a.residual == nullptr ? nullptr : at(a, a.residual, first), a.out * width,
                   (end - first) * width, rows);
}

// y = (residual or 0) + u B^T in the adapted rows, (residual or 0) in the others.
int low_rank_outputs(Device *device, const Args &a) {
  std::vector<Slice> slices;
  int64_t column = 0;
  for (int64_t i = 0; i < a.adapter_count; column += a.adapters[i].rank, ++i) {
    const lethe_adapter &p = a.adapters[i];
    slices.push_back({p.first_out, p.first_out + p.part_out, column, &p});
  }
  std::stable_sort(slices.begin(), slices.end(), [](const Slice &l, const Slice &r) { return l.first < r.first; });
  bool overlap = false;
  for (size_t i = 1; i < slices.size(); ++i) overlap |= slices[i].first < slices[i - 1].end;
  if (overlap) {
    LETHE_CUDA_TRY(start_outputs(device, a, 0, a.out, a.T));
  } else {
    int64_t done = 0;
    for (const Slice &slice : slices) {
      LETHE_CUDA_TRY(start_outputs(device, a, done, slice.first, a.adapted));
      done = slice.end;
    }
    LETHE_CUDA_TRY(start_outputs(device, a, done, a.out, a.adapted));
    Args rest = a;
    rest.y = at(a, a.y, a.adapted * a.out);
    if (a.residual != nullptr) rest.residual = at(a, a.residual, a.adapted * a.out);
    LETHE_CUDA_TRY(start_outputs(device, rest, 0, a.out, a.T - a.adapted));
  }
  for (const Slice &slice : slices) {
    Gemm g = {a.dtype,
              a.dtype,
              a.adapted,
              slice.end - slice.first,
              slice.adapter->rank,
              {at(a, a.u, slice.column), a.total_rank},
              {slice.adapter->b, slice.adapter->rank, true},
              at(a, a.y, slice.first),
              a.out};
    if (overlap) {
      g.beta = 1.0f;
    } else if (a.residual != nullptr) {
      g.beta = 1.0f;
      g.from = at(a, a.residual, slice.first);
    }
    LETHE_CUDA_TRY(gemm(device, g));
  }
  return LETHE_OK;
}

int forward(Device *device, const Args &a) {
  if (a.T == 0) return LETHE_OK;
  Gemm base = {a.dtype, a.dtype, a.T, a.out, a.in, {a.x, a.in}, {a.w, a.in, true}, a.y, a.out};
  base.bias = a.b;
  if (a.adapter_count == 0 || a.adapted == 0) {
    base.beta = a.residual == nullptr ? 0.0f : 1.0f;
    base.from = a.residual;
    return gemm(device, base);
  }
  char *masked = nullptr;
  if (any_drops(a)) LETHE_CUDA_TRY(scratch(device, a.adapted * a.in * element_bytes(a.dtype), &masked));
  LETHE_CUDA_TRY(forward_ranks(device, a, masked));
  LETHE_CUDA_TRY(low_rank_outputs(device, a));
  base.beta = 1.0f;
  return gemm(device, base);
}

// ---- the bias's gradient ----

// A block sums kChunkRows rows of the columns that a warp's lanes reach; its warps take turns at the rows.
constexpr unsigned kSumThreads = 256;
constexpr int64_t kChunkRows = 128;

// A warp's share of the rows [row, end) of a piece of columns; kWhole: the piece is whole and aligned.
template <bool kWhole, class T>
__device__ void add_rows(int64_t row, int64_t end, int64_t stride, const T *dy, int n, float (&sums)[kVector<T>]) {
#pragma unroll 4
  for (; row < end; row += kSumThreads / kWarp) {
    const Vector<T> v = load_vector<kWhole>(dy + row * stride, n);
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) sums[i] += v.at(i);
  }
}

template <class T>
__global__ void __launch_bounds__(kSumThreads)
    column_sums_kernel(int64_t rows, int64_t columns, const T *dy, float *partial, bool aligned) {
  constexpr int kColumns = static_cast<int>(kWarp) * kVector<T>;
  constexpr int kWarps = static_cast<int>(kSumThreads / kWarp);
  __shared__ float sums[kWarps][kColumns];
  const int64_t column_blocks = (columns + kColumns - 1) / kColumns;
  const int64_t chunk = blockIdx.x / column_blocks, first = blockIdx.x % column_blocks * kColumns;
  const int lane = static_cast<int>(threadIdx.x % kWarp) * kVector<T>;
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  const int n = in_piece<T>(columns - first - lane);
  const int64_t end = (chunk + 1) * kChunkRows < rows ? (chunk + 1) * kChunkRows : rows;
  float mine[kVector<T>] = {};
  const int64_t row = chunk * kChunkRows + warp;
  if (aligned && n == kVector<T>) {
    add_rows<true>(row, end, columns, dy + first + lane, n, mine);
  } else if (n > 0) {
    add_rows<false>(row, end, columns, dy + first + lane, n, mine);
  }
#pragma unroll
  for (int i = 0; i < kVector<T>; ++i) sums[warp][lane + i] = mine[i];
  __syncthreads();  // sums are written
  for (int c = static_cast<int>(threadIdx.x); c < kColumns && first + c < columns; c += static_cast<int>(kSumThreads)) {
    float total = 0;
    for (int w = 0; w < kWarps; ++w) total += sums[w][c];
    partial[chunk * columns + first + c] = total;
  }
}

// sums += the chunks' in order.
__global__ void __launch_bounds__(kSumThreads)
    add_chunks_kernel(int64_t chunks, int64_t columns, const float *partial, float *sums) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x;
  if (column >= columns) return;
  float total = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) total += partial[chunk * columns + column];
  sums[column] += total;
}

template <class T>
int bias_gradient(Device *device, const Args &a, float *partial) {
  const int64_t chunks = ceil_div(a.T, kChunkRows), blocks = chunks * ceil_div(a.out, kWarp * kVector<T>);
  const Shape sums = {"column_sums",
                      {static_cast<unsigned>(blocks)},
                      kSumThreads,
                      0,
                      a.T * a.out * int64_t{sizeof(T)} + chunks * a.out * 4};
  LETHE_CUDA_TRY(launch(device, sums, column_sums_kernel<T>, a.T, a.out, static_cast<const T *>(a.dy), partial,
                        whole_rows<T>({a.dy}, {a.out})));
  const Shape add = {"add_chunks", {blocks_of(a.out, kSumThreads)}, kSumThreads, 0, (chunks + 2) * a.out * 4};
  return launch(device, add, add_chunks_kernel, chunks, a.out, static_cast<const float *>(partial), a.db);
}

// ---- the backward pass ----

// What it keeps in scratch memory, where it needs it.
struct BackwardScratch {
  char *masked = nullptr;     // m o x
  char *stacked_a = nullptr;  // all A in one block
  float *partial = nullptr;   // of the bias's gradient
};

bool all_stacked(const Args &a) {
  for (int64_t i = 1; i < a.adapter_count; ++i) {
    if (!inputs_stacked(a, a.adapters[i - 1], a.adapters[i])) return false;
  }
  return true;
}

int take_scratch(Device *device, const Args &a, BackwardScratch *s) {
  const int64_t width = element_bytes(a.dtype);
  const bool trains_dropped = std::any_of(a.adapters, a.adapters + a.adapter_count,
                                          [&](const lethe_adapter &p) { return drops(a, p) && p.da != nullptr; });
  const bool stacks = a.dx != nullptr && !any_drops(a) && !all_stacked(a);
  Pieces pieces;
  const int64_t masked = pieces.add<char>(trains_dropped ? a.T * a.in * width : 0);
  const int64_t stacked = pieces.add<char>(stacks ? a.total_rank * a.in * width : 0);
  const int64_t partial = pieces.add<float>(a.db != nullptr ? ceil_div(a.T, kChunkRows) * a.out : 0);
  if (pieces.bytes() == 0) return LETHE_OK;
  char *memory = nullptr;
  LETHE_CUDA_TRY(scratch(device, pieces.bytes(), &memory));
  s->masked = memory + masked;
  s->stacked_a = memory + stacked;
  s->partial = reinterpret_cast<float *>(memory + partial);
  return LETHE_OK;
}

// du = scale * dy B.
int backward_ranks(Device *device, const Args &a) {
  int64_t column = 0;
  for (int64_t i = 0; i < a.adapter_count; column += a.adapters[i].rank, ++i) {
    const lethe_adapter &p = a.adapters[i];
    LETHE_CUDA_TRY(gemm(device, {a.dtype,
                                 a.dtype,
                                 a.T,
                                 p.rank,
                                 p.part_out,
                                 {at(a, a.dy, p.first_out), a.out},
                                 {p.b, p.rank},
                                 at(a, a.du, column),
                                 a.total_rank,
                                 scale_of(a, p)}));
  }
  return LETHE_OK;
}

// dx = du A, masked as x was.
int low_rank_inputs(Device *device, const Args &a, char *stacked) {
  if (any_drops(a)) {
    std::vector<MaskedPart> parts;
    int64_t column = 0;
    for (int64_t i = 0; i < a.adapter_count; column += a.adapters[i].rank, ++i) {
      parts.push_back({a.adapters[i].a, column, a.adapters[i].rank, mask_of(a, a.adapters[i])});
    }
    return masked_update(device, a.dtype, a.T, a.in, a.du, a.total_rank, a.row_keys, parts, a.dx);
  }
  const void *all = a.adapters[0].a;
  if (!all_stacked(a)) {
    int64_t row = 0;
    for (int64_t i = 0; i < a.adapter_count; row += a.adapters[i].rank, ++i) {
      const int64_t bytes = a.in * element_bytes(a.dtype);
      LETHE_CUDA_TRY(fill_rows(device, at(a, static_cast<void *>(stacked), row * a.in), a.adapters[i].a, bytes, bytes,
                               a.adapters[i].rank));
    }
    all = stacked;
  }
  return gemm(device, {a.dtype, a.dtype, a.T, a.in, a.total_rank, {a.du, a.total_rank}, {all, a.in}, a.dx, a.in});
}

// dx = dy W + du A.
int input_gradient(Device *device, const Args &a, char *stacked) {
  if (a.adapter_count > 0) LETHE_CUDA_TRY(low_rank_inputs(device, a, stacked));
  Gemm base = {a.dtype, a.dtype, a.T, a.in, a.out, {a.dy, a.out}, {a.w, a.in}, a.dx, a.in};
  base.beta = a.adapter_count > 0 ? 1.0f : 0.0f;
  return gemm(device, base);
}

// gradient[rows, columns] += left[T, rows]^T right[T, columns].
int add_outer(Device *device, const Args &a, const void *left, int64_t left_stride, int64_t rows, const void *right,
              int64_t right_stride, int64_t columns, float *gradient) {
  return gemm(device, {a.dtype,
                       LETHE_F32,
                       rows,
                       columns,
                       a.T,
                       {left, left_stride, true},
                       {right, right_stride},
                       gradient,
                       columns,
                       1.0f,
                       1.0f});
}

// da += du^T x, masked, and db += dy^T u.
int adapter_gradients(Device *device, const Args &a, char *masked) {
  const auto together = [&](const lethe_adapter &earlier, const lethe_adapter &later) {
    return earlier.da != nullptr && earlier.da + earlier.rank * a.in == later.da;
  };
  for (const Run &run : runs_of(a, together)) {
    const lethe_adapter &adapter = a.adapters[run.first];
    if (adapter.da == nullptr) continue;
    const void *x = a.x;
    if (drops(a, adapter)) {
      LETHE_CUDA_TRY(masked_input(device, a.dtype, a.T, a.in, a.x, a.row_keys, mask_of(a, adapter), masked));
      x = masked;
    }
    LETHE_CUDA_TRY(add_outer(device, a, at(a, a.du, run.column), a.total_rank, run.rank, x, a.in, a.in, adapter.da));
  }
  int64_t column = 0;
  for (int64_t i = 0; i < a.adapter_count; column += a.adapters[i].rank, ++i) {
    const lethe_adapter &p = a.adapters[i];
    if (p.db == nullptr) continue;
    LETHE_CUDA_TRY(add_outer(device, a, at(a, a.dy, p.first_out), a.out, p.part_out,
                             at(a, static_cast<const void *>(a.u), column), a.total_rank, p.rank, p.db));
  }
  return LETHE_OK;
}

int backward(Device *device, const Args &a) {
  if (a.T == 0) return LETHE_OK;
  BackwardScratch s;
  LETHE_CUDA_TRY(take_scratch(device, a, &s));
  LETHE_CUDA_TRY(backward_ranks(device, a));
  if (a.dx != nullptr) LETHE_CUDA_TRY(input_gradient(device, a, s.stacked_a));
  LETHE_CUDA_TRY(adapter_gradients(device, a, s.masked));
  if (a.dw != nullptr) LETHE_CUDA_TRY(add_outer(device, a, a.dy, a.out, a.out, a.x, a.in, a.in, a.dw));
  if (a.db == nullptr) return LETHE_OK;
  return a.dtype == LETHE_BF16 ? bias_gradient<bf16>(device, a, s.partial) : bias_gradient<float>(device, a, s.partial);
}

}  // namespace

int linear_forward(Device *device, const lethe_linear_args *args) {
  return run(device, __func__, [&] { return forward(device, *args); });
}

int linear_backward(Device *device, const lethe_linear_args *args) {
  return run(device, __func__, [&] { return backward(device, *args); });
}

}  // namespace lethe::cuda
