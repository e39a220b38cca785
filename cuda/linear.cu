// The linear layer with LoRA adapters: y = x W^T + b (+ residual) + sum over adapters of u B^T, u = scale * x A^T
// (native/cpu/linear.cpp has the formulas, and what dropout does to them).
//
// The low-rank part comes first: it is written over what y starts from, and the product with W is added to it. So W's
// product is one for all rows, adapted or not, by the same algorithm, and adapters with B = 0 leave the bits alone. In
// bf16 y and dx are rounded twice, the first time at the size of the low-rank part and the residual; adapters whose
// outputs overlap round in between. Weights with spare columns or rows take the augmented form instead, which rounds
// once (linear_augmented.cu).
#include <algorithm>
#include <utility>
#include <vector>

#include "gemm.h"
#include "linear.cuh"
#include "linear_runs.cuh"

namespace lethe::cuda {
namespace {

using Args = lethe_linear_args;

// The outputs of adapters, in order.
std::vector<std::pair<int64_t, int64_t>> slices_of(const Args &a) {
  std::vector<std::pair<int64_t, int64_t>> slices;
  for (int64_t i = 0; i < a.adapter_count; ++i) {
    const lethe_adapter &p = a.adapters[i];
    slices.emplace_back(p.first_out, p.first_out + p.part_out);
  }
  std::sort(slices.begin(), slices.end());
  return slices;
}

// What no adapter writes of y becomes the residual, or 0: [first, end) of each of the first `rows` rows.
int start_outputs(Device *device, const Args &a, int64_t first, int64_t end, int64_t rows) {
  if (a.residual == a.y) return LETHE_OK;
  const int64_t width = element_bytes(a.dtype);
  return fill_rows(device, at(a, a.y, first), a.residual == nullptr ? nullptr : at(a, a.residual, first), a.out * width,
                   (end - first) * width, rows);
}

// y = (residual or 0) where no adapter writes; overlap: everywhere, as the adapters then add to it.
int start_rest(Device *device, const Args &a, bool *overlap) {
  const auto slices = slices_of(a);
  *overlap = false;
  for (size_t i = 1; i < slices.size(); ++i) *overlap |= slices[i].first < slices[i - 1].second;
  if (*overlap) return start_outputs(device, a, 0, a.out, a.T);
  int64_t done = 0;
  for (const auto &slice : slices) {
    LETHE_CUDA_TRY(start_outputs(device, a, done, slice.first, a.adapted));
    done = slice.second;
  }
  LETHE_CUDA_TRY(start_outputs(device, a, done, a.out, a.adapted));
  Args rest = a;
  rest.y = at(a, a.y, a.adapted * a.out);
  if (a.residual != nullptr) rest.residual = at(a, a.residual, a.adapted * a.out);
  return start_outputs(device, rest, 0, a.out, a.T - a.adapted);
}

// y = (residual or 0) + u B^T in the adapted rows, (residual or 0) in the others.
int low_rank_outputs(Device *device, const Args &a) {
  bool overlap = false;
  LETHE_CUDA_TRY(start_rest(device, a, &overlap));
  const auto join = [&](const lethe_adapter &earlier, const lethe_adapter &later) {
    return join_outputs(earlier, later, earlier.b, later.b, element_bytes(a.dtype));
  };
  for (const Run &run : runs_of(a, join)) {
    const lethe_adapter &adapter = a.adapters[run.first];
    Gemm g = {a.dtype,
              a.dtype,
              a.adapted,
              adapter.part_out,
              adapter.rank,
              {at(a, a.u, run.column), a.total_rank, false, adapter.rank},
              {adapter.b, adapter.rank, true, run.memory},
              at(a, a.y, adapter.first_out),
              a.out};
    g.batch = run.batch();
    g.c_step = run.outputs;
    if (overlap) {
      g.beta = 1.0f;
    } else if (a.residual != nullptr) {
      g.beta = 1.0f;
      g.from = at(a, a.residual, adapter.first_out);
    }
    LETHE_CUDA_TRY(gemm(device, g));
  }
  return LETHE_OK;
}

// y = [x | u] [W | B]^T, whether a row or a call has a u or not: all by the same algorithm.
int augmented_forward(Device *device, const Args &a) {
  const bool ranks = a.total_rank > 0 && a.adapted > 0;
  Pieces pieces;
  const int64_t to = pieces.add<char>(a.T * a.w_stride * element_bytes(a.dtype));
  const int64_t masked = pieces.add<char>(ranks && any_drops(a) ? a.adapted * a.in * element_bytes(a.dtype) : 0);
  const int64_t partial = pieces.add<float>(ranks ? forward_rank_partials(a) : 0);
  char *memory = nullptr;
  LETHE_CUDA_TRY(scratch(device, pieces.bytes(), &memory));
  if (ranks) LETHE_CUDA_TRY(forward_ranks(device, a, memory + masked, reinterpret_cast<float *>(memory + partial)));
  LETHE_CUDA_TRY(augment_columns(device, a, memory + to));
  Gemm g = {a.dtype, a.dtype, a.T, a.out, a.w_stride, {memory + to, a.w_stride}, {a.w, a.w_stride, true}, a.y, a.out};
  g.bias = a.b;
  g.beta = a.residual == nullptr ? 0.0f : 1.0f;
  g.from = a.residual;
  return gemm(device, g);
}

int forward(Device *device, const Args &a) {
  if (a.T == 0) return LETHE_OK;
  if (a.w_stride > a.in) return augmented_forward(device, a);
  Gemm base = {a.dtype, a.dtype, a.T, a.out, a.in, {a.x, a.in}, {a.w, a.in, true}, a.y, a.out};
  base.bias = a.b;
  if (a.adapter_count == 0 || a.adapted == 0) {
    base.beta = a.residual == nullptr ? 0.0f : 1.0f;
    base.from = a.residual;
    return gemm(device, base);
  }
  Pieces pieces;
  const int64_t masked = pieces.add<char>(any_drops(a) ? a.adapted * a.in * element_bytes(a.dtype) : 0);
  const int64_t partial = pieces.add<float>(forward_rank_partials(a));
  char *memory = nullptr;
  if (pieces.bytes() > 0) LETHE_CUDA_TRY(scratch(device, pieces.bytes(), &memory));
  LETHE_CUDA_TRY(forward_ranks(device, a, memory + masked, reinterpret_cast<float *>(memory + partial)));
  LETHE_CUDA_TRY(low_rank_outputs(device, a));
  base.beta = 1.0f;
  return gemm(device, base);
}

// ---- the backward pass ----

// What it keeps in scratch memory, where it needs it.
struct BackwardScratch {
  char *masked = nullptr;     // m o x
  char *stacked_a = nullptr;  // all A in one block
  char *augmented = nullptr;  // [dy | du]
  float *ranks = nullptr;     // partial sums of du
  float *partial = nullptr;   // of the bias's gradient
};

// Masks stand between du and A: the augmented product has no place for them.
bool augments_backward(const Args &a) { return a.spare_rows > 0 && a.adapter_count > 0 && !any_drops(a); }

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
  const bool augments = a.dx != nullptr && augments_backward(a);
  const bool stacks = a.dx != nullptr && !any_drops(a) && !all_stacked(a) && !augments;
  Pieces pieces;
  const int64_t masked = pieces.add<char>(trains_dropped ? a.T * a.in * width : 0);
  const int64_t stacked = pieces.add<char>(stacks ? a.total_rank * a.in * width : 0);
  const int64_t augmented = pieces.add<char>(augments ? a.T * (a.out + a.spare_rows) * width : 0);
  const int64_t ranks = pieces.add<float>(backward_rank_partials(a));
  const int64_t partial = pieces.add<float>(a.db != nullptr ? ceil_div(a.T, kBiasRows) * a.out : 0);
  if (pieces.bytes() == 0) return LETHE_OK;
  char *memory = nullptr;
  LETHE_CUDA_TRY(scratch(device, pieces.bytes(), &memory));
  s->masked = memory + masked;
  s->stacked_a = memory + stacked;
  s->augmented = memory + augmented;
  s->ranks = reinterpret_cast<float *>(memory + ranks);
  s->partial = reinterpret_cast<float *>(memory + partial);
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
int input_gradient(Device *device, const Args &a, const BackwardScratch &s) {
  Gemm g = {a.dtype, a.dtype, a.T, a.in, a.out, {a.dy, a.out}, {a.w, a.w_stride}, a.dx, a.in};
  if (augments_backward(a)) {
    LETHE_CUDA_TRY(augment_rows(device, a, s.augmented));
    g.K = a.out + a.spare_rows;
    g.a = {s.augmented, g.K};
  } else if (a.adapter_count > 0) {
    LETHE_CUDA_TRY(low_rank_inputs(device, a, s.stacked_a));
    g.beta = 1.0f;
  }
  return gemm(device, g);
}

// gradient[rows, columns] += left[T, rows]^T right[T, columns], for each of a batch.
int add_outer(Device *device, const Args &a, Operand left, int64_t rows, const Operand &right, int64_t columns,
              float *gradient, int64_t batch = 1, int64_t step = 0) {
  left.transposed = true;
  Gemm g = {a.dtype, LETHE_F32, rows, columns, a.T, left, right, gradient, columns, 1.0f, 1.0f};
  g.batch = batch;
  g.c_step = step;
  return gemm(device, g);
}

// da += du^T x, masked.
int input_side_gradients(Device *device, const Args &a, char *masked) {
  const auto join = [&](const lethe_adapter &earlier, const lethe_adapter &later) {
    if (earlier.da == nullptr || later.da == nullptr) return Join{};
    return join_inputs(a, earlier, later, earlier.da, later.da, sizeof(float));
  };
  for (const Run &run : runs_of(a, join)) {
    const lethe_adapter &adapter = a.adapters[run.first];
    if (adapter.da == nullptr) continue;
    const void *x = a.x;
    if (drops(a, adapter)) {
      LETHE_CUDA_TRY(masked_input(device, a.dtype, a.T, a.in, a.x, a.row_keys, mask_of(a, adapter), masked));
      x = masked;
    }
    LETHE_CUDA_TRY(add_outer(device, a, {at(a, a.du, run.column), a.total_rank, true, run.rank}, run.rank, {x, a.in},
                             a.in, adapter.da, run.batch(), run.memory));
  }
  return LETHE_OK;
}

// db += dy^T u.
int output_side_gradients(Device *device, const Args &a) {
  const auto join = [&](const lethe_adapter &earlier, const lethe_adapter &later) {
    if (earlier.db == nullptr || later.db == nullptr) return Join{};
    return join_outputs(earlier, later, earlier.db, later.db, sizeof(float));
  };
  for (const Run &run : runs_of(a, join)) {
    const lethe_adapter &p = a.adapters[run.first];
    if (p.db == nullptr) continue;
    LETHE_CUDA_TRY(add_outer(device, a, {at(a, a.dy, p.first_out), a.out, true, run.outputs}, p.part_out,
                             {at(a, a.u, run.column), a.total_rank, false, p.rank}, p.rank, p.db, run.batch(),
                             run.memory));
  }
  return LETHE_OK;
}

int backward(Device *device, const Args &a) {
  if (a.T == 0) return LETHE_OK;
  BackwardScratch s;
  LETHE_CUDA_TRY(take_scratch(device, a, &s));
  LETHE_CUDA_TRY(backward_ranks(device, a, s.ranks));
  if (a.dx != nullptr) LETHE_CUDA_TRY(input_gradient(device, a, s));
  LETHE_CUDA_TRY(input_side_gradients(device, a, s.masked));
  LETHE_CUDA_TRY(output_side_gradients(device, a));
  if (a.dw != nullptr) LETHE_CUDA_TRY(add_outer(device, a, {a.dy, a.out}, a.out, {a.x, a.in}, a.in, a.dw));
  if (a.db == nullptr) return LETHE_OK;
  return bias_gradient(device, a, s.partial);
}

}  // namespace

int linear_forward(Device *device, const lethe_linear_args *args) {
  return run(device, __func__, [&] { return forward(device, *args); });
}

int linear_backward(Device *device, const lethe_linear_args *args) {
  return run(device, __func__, [&] { return backward(device, *args); });
}

}  // namespace lethe::cuda
