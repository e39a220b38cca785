// The augmented form of a linear layer with adapters: y = [x | u] [W | B]^T and dx = [dy | du] [[W], [A]] are one
// product each, with W's rows in a stride that leaves columns for B, and rows below the last one for A. Here the
// operands are put together; activations have no spare columns of their own, so that x or dy is copied. What that costs
// beside the plain form: T * in numbers read and written in the one direction instead of T * out, T * out in the other
// instead of T * in.
#include <algorithm>

#include "linear.cuh"
#include "vector.cuh"

namespace lethe::cuda {
namespace {

using Args = lethe_linear_args;

constexpr unsigned kThreads = 256;

// Rows [left | right | 0] of `width` numbers; only the first `ranked` rows have a right side.
template <class T>
struct Rows {
  int64_t count, ranked;
  const T *left;
  int64_t left_width;
  const T *right;
  int64_t right_width;
  T *to;
  int64_t width;
  bool aligned;  // left's pieces and to's

  int64_t pieces() const { return ceil_div(width, kVector<T>); }
};

// An adapter's B or A beside its outputs, in its columns of u.
struct Part {
  const void *data;
  int64_t first, end, column, rank;
};
struct Parts {
  Part part[kAugmentedParts];
  int count;
};

// A piece of 16 bytes of a row.
template <class T>
__device__ void extend(const Rows<T> &r, int64_t index) {
  const int64_t pieces = (r.width + kVector<T> - 1) / kVector<T>;
  const int64_t row = quotient(index, pieces), column = (index - row * pieces) * kVector<T>;
  if (row >= r.count) return;
  const int n = in_piece<T>(r.width - column), left = in_piece<T>(r.left_width - column);
  Vector<T> v = load_vector(r.left + row * r.left_width + column, left, r.aligned);
  if (left < n && row < r.ranked) {
    float mixed[kVector<T>];
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) {
      const int64_t rank = column + i - r.left_width;
      mixed[i] = i < left ? v.at(i) : rank < r.right_width ? to_float(r.right[row * r.right_width + rank]) : 0.0f;
    }
    v = packed<T>(mixed);
  }
  store_vector(v, r.to + row * r.width + column, n, r.aligned);
}

// Thread after thread: the pieces of the rows, then the numbers of W's spare columns.
template <class T>
__global__ void __launch_bounds__(kThreads) augment_columns_kernel(Rows<T> rows, int64_t row_blocks, Parts parts,
                                                                   int64_t out, int64_t in, int64_t stride, T *w) {
  if (blockIdx.x < row_blocks) {
    extend(rows, static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x);
    return;
  }
  const int64_t index = (blockIdx.x - row_blocks) * kThreads + threadIdx.x, spare = stride - in;
  const int64_t row = quotient(index, spare), column = index - row * spare;
  if (row >= out) return;
  T value = {};
  for (int i = 0; i < parts.count; ++i) {
    const Part &p = parts.part[i];
    const int64_t rank = column - p.column;
    if (row < p.first || row >= p.end || rank < 0 || rank >= p.rank) continue;
    value = static_cast<const T *>(p.data)[(row - p.first) * p.rank + rank];
  }
  w[row * stride + in + column] = value;
}

// The same with the pieces of W's spare rows.
template <class T>
__global__ void __launch_bounds__(kThreads)
    augment_rows_kernel(Rows<T> rows, int64_t row_blocks, Parts parts, int64_t spare_rows, int64_t in, int64_t stride,
                        T *spare, bool aligned) {
  if (blockIdx.x < row_blocks) {
    extend(rows, static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x);
    return;
  }
  const int64_t pieces = (in + kVector<T> - 1) / kVector<T>;
  const int64_t index = (blockIdx.x - row_blocks) * kThreads + threadIdx.x;
  const int64_t row = quotient(index, pieces), column = (index - row * pieces) * kVector<T>;
  if (row >= spare_rows) return;
  const int n = in_piece<T>(in - column);
  Vector<T> v = {};
  for (int i = 0; i < parts.count; ++i) {
    const Part &p = parts.part[i];
    if (row < p.column || row >= p.column + p.rank) continue;
    v = load_vector(static_cast<const T *>(p.data) + (row - p.column) * in + column, n, aligned);
  }
  store_vector(v, spare + row * stride + column, n, aligned);
}

int check_count(Device *device, const Args &a) {
  if (a.adapter_count <= kAugmentedParts) return LETHE_OK;
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED,
                         std::to_string(a.adapter_count) +
                             " adapters on a weight with spare columns or rows, which takes " +
                             std::to_string(kAugmentedParts) +
                             "; merge some, or create the linear packed (without LETHE_LORA_FORM=augmented)");
}

Parts parts_of(const Args &a, bool outputs) {
  Parts parts = {};
  int64_t column = 0;
  for (; parts.count < a.adapter_count; ++parts.count) {
    const lethe_adapter &p = a.adapters[parts.count];
    parts.part[parts.count] = {outputs ? p.b : p.a, p.first_out, p.first_out + p.part_out, column, p.rank};
    column += p.rank;
  }
  return parts;
}

template <class T>
int columns_of(Device *device, const Args &a, void *to) {
  const Rows<T> rows = {a.T,
                        a.adapted,
                        static_cast<const T *>(a.x),
                        a.in,
                        static_cast<const T *>(a.u),
                        a.total_rank,
                        static_cast<T *>(to),
                        a.w_stride,
                        whole_rows<T>({a.x, to}, {a.in, a.w_stride})};
  const int64_t row_blocks = ceil_div(a.T * rows.pieces(), kThreads), spare = a.out * (a.w_stride - a.in);
  const int64_t numbers = a.T * (a.in + a.w_stride) + a.adapted * a.total_rank + 2 * spare;
  const Shape shape = {"augment_columns",
                       {static_cast<unsigned>(row_blocks) + blocks_of(spare, kThreads)},
                       kThreads,
                       0,
                       numbers * int64_t{sizeof(T)}};
  return launch(device, shape, augment_columns_kernel<T>, rows, row_blocks, parts_of(a, true), a.out, a.in, a.w_stride,
                static_cast<T *>(a.spare));
}

template <class T>
int rows_of(Device *device, const Args &a, void *to) {
  const int64_t width = a.out + a.spare_rows;
  const Rows<T> rows = {a.T,
                        a.T,
                        static_cast<const T *>(a.dy),
                        a.out,
                        static_cast<const T *>(a.du),
                        a.total_rank,
                        static_cast<T *>(to),
                        width,
                        whole_rows<T>({a.dy, to}, {a.out, width})};
  const int64_t row_blocks = ceil_div(a.T * rows.pieces(), kThreads);
  const int64_t pieces = a.spare_rows * ceil_div(a.in, kVector<T>);
  T *const spare = static_cast<T *>(a.spare) + a.out * a.w_stride;
  const Parts parts = parts_of(a, false);
  bool aligned = whole_rows<T>({spare}, {a.in, a.w_stride});
  for (int i = 0; i < parts.count; ++i) aligned = aligned && whole_rows<T>({parts.part[i].data}, {});
  const int64_t numbers = a.T * (a.out + a.total_rank + width) + 2 * a.spare_rows * a.in;
  const Shape shape = {"augment_rows",
                       {static_cast<unsigned>(row_blocks) + blocks_of(pieces, kThreads)},
                       kThreads,
                       0,
                       numbers * int64_t{sizeof(T)}};
  return launch(device, shape, augment_rows_kernel<T>, rows, row_blocks, parts, a.spare_rows, a.in, a.w_stride, spare,
                aligned);
}

}  // namespace

int augment_columns(Device *device, const Args &a, void *to) {
  LETHE_CUDA_TRY(check_count(device, a));
  return a.dtype == LETHE_BF16 ? columns_of<bf16>(device, a, to) : columns_of<float>(device, a, to);
}

int augment_rows(Device *device, const Args &a, void *to) {
  LETHE_CUDA_TRY(check_count(device, a));
  return a.dtype == LETHE_BF16 ? rows_of<bf16>(device, a, to) : rows_of<float>(device, a, to);
}

// Room where the copy moves fewer bytes than the plain form's second pass over the result: beside a weight that has
// more outputs than inputs, below one that has fewer. Ranks are a multiple of 16, which keeps rows aligned and K whole
// tiles of the tensor cores.
int linear_spare(Device *device, int32_t, int64_t out, int64_t in, int64_t rank, int64_t *w_stride,
                 int64_t *spare_rows) {
  return run(device, __func__, [&] {
    if (!device->augments) return static_cast<int>(LETHE_OK);
    constexpr int64_t kRanks = 16;
    const int64_t room = ceil_div(rank, kRanks) * kRanks;
    if (in < out) *w_stride = in + room;
    if (out < in) *spare_rows = room;
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cuda
