// Token embedding: rows of a table, and the table's gradient. For the gradient the tokens are sorted by id; each id's
// rows are then added up by one thread a column, in the order of T.
#include "index.cuh"
#include "sort.cuh"
#include "vector.cuh"

namespace lethe::cuda {
namespace {

constexpr unsigned kThreads = 256;
// Of the gradient: columns of an id, and rows on their way at a time.
constexpr unsigned kColumnThreads = 128;
constexpr int kRows = 8;

template <class T, bool kWhole>
__global__ void __launch_bounds__(kThreads) embedding_kernel(lethe_embedding_args a, int64_t pieces, Gate gate) {
  if (!gate.open()) return;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t t = quotient(at, pieces), column = (at - t * pieces) * kVector<T>;
  if (t >= a.T) return;
  const int n = in_piece<T>(a.d - column);
  const Vector<T> v = load_vector<kWhole>(static_cast<const T *>(a.table) + a.ids[t] * a.d + column, n);
  float scaled[kVector<T>];
#pragma unroll
  for (int k = 0; k < kVector<T>; ++k) scaled[k] = v.at(k) * a.scale;
  store_vector<kWhole>(packed<T>(scaled), static_cast<T *>(a.out) + t * a.d + column, n);
}

// As many numbers of fp32 as a piece of T has.
template <class T>
struct Sums {
  Vector<float> parts[kVector<T> / 4];

  template <bool kWhole>
  __device__ void load(const float *from, int n) {
    for (int i = 0; i < kVector<T> / 4; ++i) parts[i] = load_vector<kWhole>(from + 4 * i, n - 4 * i);
  }
  template <bool kWhole>
  __device__ void store(float *to, int n) const {
    for (int i = 0; i < kVector<T> / 4; ++i) store_vector<kWhole>(parts[i], to + 4 * i, n - 4 * i);
  }
  __device__ void add(const Vector<T> &x, float scale) {
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) {
      uint32_t &word = parts[k / 4].words[k % 4];
      word = __float_as_uint(__fmaf_rn(x.at(k), scale, __uint_as_float(word)));
    }
  }
};

// A block for each token by id; those that are not the first of their id have nothing to do.
template <class T, bool kWhole>
__global__ void __launch_bounds__(kColumnThreads)
    embedding_backward_kernel(lethe_embedding_args a, const int32_t *ids, const int32_t *order, Gate gate) {
  if (!gate.open()) return;
  const int64_t first = blockIdx.x;
  const int32_t id = ids[first];
  if (first > 0 && ids[first - 1] == id) return;
  for (int64_t column = (static_cast<int64_t>(blockIdx.y) * kColumnThreads + threadIdx.x) * kVector<T>; column < a.d;
       column += static_cast<int64_t>(gridDim.y) * kColumnThreads * kVector<T>) {
    const int n = in_piece<T>(a.d - column);
    const T *dout = static_cast<const T *>(a.dout) + column;
    float *dtable = a.dtable + id * a.d + column;
    Sums<T> sums;
    sums.template load<kWhole>(dtable, n);
    for (int64_t from = first; from < a.T && ids[from] == id; from += kRows) {
      Vector<T> rows[kRows];
      bool is[kRows];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        is[i] = from + i < a.T && ids[from + i] == id;
        rows[i] = load_vector<kWhole>(dout + (is[i] ? order[from + i] : 0) * a.d, is[i] ? n : 0);
      }
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        if (is[i]) sums.add(rows[i], a.scale);
      }
    }
    sums.template store<kWhole>(dtable, n);
  }
}

template <class T>
int forward(Device *device, const lethe_embedding_args &a) {
  const int64_t pieces = ceil_div(a.d, kVector<T>);
  const int64_t bytes = a.T * a.d * 2 * int64_t{sizeof(T)};
  const Shape shape = {"embedding", {blocks_of(a.T * pieces, kThreads)}, kThreads, 0, bytes};
  return with_bool(whole_rows<T>({a.table, a.out}, {a.d}), [&](auto is) {
    return launch(device, shape, embedding_kernel<T, decltype(is)::value>, a, pieces,
                  device->fault.gate("ids", nullptr));
  });
}

template <class T>
int backward(Device *device, const lethe_embedding_args &a) {
  if (a.T == 0) return LETHE_OK;
  const Gate gate = device->fault.gate("ids", nullptr);
  Pieces pieces;
  KeySort sort(a.T, a.V, &pieces);
  char *memory = nullptr;
  LETHE_CUDA_TRY(scratch(device, pieces.bytes(), &memory));
  LETHE_CUDA_TRY(sort.run(device, a.ids, gate, memory));
  const int64_t across = ceil_div(a.d, int64_t{kColumnThreads} * kVector<T>);
  const Grid grid = {static_cast<unsigned>(a.T), static_cast<unsigned>(across < 65535 ? across : 65535)};
  const Shape shape = {"embedding_backward", grid, kColumnThreads, 0, a.T * a.d * int64_t{sizeof(T)}};
  return with_bool(whole_rows<T>({a.dout, a.dtable}, {a.d}), [&](auto is) {
    return launch(device, shape, embedding_backward_kernel<T, decltype(is)::value>, a, sort.keys(), sort.order(), gate);
  });
}

}  // namespace

int embedding_forward(Device *device, const lethe_embedding_args *args) {
  return run(device, __func__, [&] {
    LETHE_CUDA_TRY(check_indices(device, "ids", args->ids, args->T, args->V));
    return args->dtype == LETHE_BF16 ? forward<bf16>(device, *args) : forward<float>(device, *args);
  });
}

int embedding_backward(Device *device, const lethe_embedding_args *args) {
  return run(device, __func__, [&] {
    LETHE_CUDA_TRY(check_indices(device, "ids", args->ids, args->T, args->V));
    return args->dtype == LETHE_BF16 ? backward<bf16>(device, *args) : backward<float>(device, *args);
  });
}

}  // namespace lethe::cuda
