// The head's gradient by source: rows added up, and on through the norm before the head.
#include <algorithm>

#include "head_plan.cuh"
#include "norm.cuh"
#include "sort.cuh"

namespace lethe::cuda {
namespace {

// ---- the rows of each source, in their order ----

// One block: keys[n] = the rows' sources; the first one outside closes the gate.
constexpr unsigned kSourceThreads = 1024;
__global__ void __launch_bounds__(kSourceThreads)
    head_sources_kernel(const int32_t *records, int64_t n, int64_t sources, int32_t *keys, Gate gate) {
  __shared__ int first;
  if (threadIdx.x == 0) first = 0x7fffffff;
  __syncthreads();  // no row is at fault yet
  for (int64_t row = threadIdx.x; row < n; row += blockDim.x) {
    const int32_t source = head_record(records, row).source;
    keys[row] = source;
    if (source < 0 || source >= sources) atomicMin(&first, static_cast<int>(row));
  }
  __syncthreads();  // all rows are looked at
  if (threadIdx.x == 0 && first != 0x7fffffff) {
    gate.close(int64_t{first} * kHeadProblems + kHeadSource, head_record(records, first).source, sources);
  }
}

// first[source] = how many rows have a smaller one.
constexpr unsigned kFirstThreads = 256;
__global__ void __launch_bounds__(kFirstThreads)
    head_first_kernel(int64_t n, int64_t sources, const int32_t *keys, int32_t *first, Gate gate) {
  const int64_t source = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (source > sources || !gate.open()) return;
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    keys[middle] < source ? low = middle + 1 : high = middle;
  }
  first[source] = static_cast<int32_t>(low);
}

// The rows of source s are rows[first[s]] up to rows[first[s + 1]].
struct SourceRows {
  const int32_t *first, *rows;
  const float *coefficient;
  const void *dh_rows;
  int64_t d;
  Gate gate;
};

class SourceSort {
 public:
  SourceSort(int64_t n, int64_t sources, Pieces *pieces)
      : n_(n),
        sources_(sources),
        sort_(n, std::max<int64_t>(1, sources), pieces),
        keys_(pieces->add<int32_t>(n)),
        first_(pieces->add<int32_t>(sources + 1)) {}

  int run(Device *device, const int32_t *records, char *memory, SourceRows *sorted) {
    auto *keys = reinterpret_cast<int32_t *>(memory + keys_), *first = reinterpret_cast<int32_t *>(memory + first_);
    const Gate gate = device->fault.gate("rows", head_fault);
    if (n_ > 0) {
      const auto threads = static_cast<unsigned>(std::min<int64_t>(kSourceThreads, ceil_div(n_, kWarp) * kWarp));
      const Shape shape = {"head_sources", {}, threads, 0, n_ * 8};
      LETHE_CUDA_TRY(launch(device, shape, head_sources_kernel, records, n_, sources_, keys, gate));
      LETHE_CUDA_TRY(sort_.run(device, keys, gate, memory));
    }
    const Shape shape = {"head_first", {blocks_of(sources_ + 1, kFirstThreads)}, kFirstThreads, 0, (n_ + sources_) * 4};
    sorted->first = first;
    sorted->rows = sort_.order();
    sorted->gate = gate;
    return launch(device, shape, head_first_kernel, n_, sources_, sort_.keys(), first, gate);
  }

 private:
  int64_t n_, sources_;
  KeySort sort_;
  int64_t keys_, first_;
};

// ---- sums of a source's rows ----

// A thread's share, in `pieces` pieces, of the sum over the rows of `source` of coefficient * dh_rows, in row order.
// column(i) is where piece i starts.
template <bool kWhole, class T, int kPieces, class Column>
__device__ void sum_rows(const SourceRows &s, int64_t source, Column &&column, WideShare<T, kPieces> *sum) {
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) sum->numbers[i][k] = 0.0f;
  }
  const int end = s.first[source + 1];
  for (int at = s.first[source]; at < end; ++at) {
    const int64_t row = s.rows[at];
    const float c = s.coefficient[row];
    const T *from = static_cast<const T *>(s.dh_rows) + row * s.d;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const Vector<T> x = load_vector<kWhole>(from + column(i), in_piece<T>(s.d - column(i)));
#pragma unroll
      for (int k = 0; k < kVector<T>; ++k) sum->numbers[i][k] = __fmaf_rn(c, x.at(k), sum->numbers[i][k]);
    }
  }
}

constexpr unsigned kCombineThreads = 256;
template <class T, bool kWhole>
__global__ void __launch_bounds__(kCombineThreads) head_combine_kernel(SourceRows s, T *dh) {
  if (!s.gate.open()) return;
  const int64_t source = blockIdx.x;
  for (int64_t at = threadIdx.x * int64_t{kVector<T>}; at < s.d; at += blockDim.x * int64_t{kVector<T>}) {
    WideShare<T, 1> sum;
    sum_rows<kWhole>(
        s, source, [at](int) { return at; }, &sum);
    store_vector<kWhole>(packed<T>(sum.numbers[0]), dh + source * s.d + at, in_piece<T>(s.d - at));
  }
}

template <class T>
int combine(Device *device, const lethe_head_args &a) {
  Pieces pieces;
  SourceSort sort(a.n, a.sources, &pieces);
  char *memory = nullptr;
  LETHE_CUDA_TRY(scratch(device, pieces.bytes(), &memory));
  SourceRows sorted = {nullptr, nullptr, a.coefficient, a.dh_rows, a.d, {}};
  LETHE_CUDA_TRY(sort.run(device, a.rows, memory, &sorted));
  const int64_t threads = ceil_div(ceil_div(a.d, kVector<T>), kWarp) * kWarp;
  const Shape shape = {"head_combine",
                       {static_cast<unsigned>(a.sources)},
                       static_cast<unsigned>(std::min<int64_t>(kCombineThreads, threads)),
                       0,
                       (a.n + a.sources) * a.d * int64_t{sizeof(T)}};
  return with_bool(whole_rows<T>({a.dh_rows, a.dh}, {a.d}), [&](auto is) {
    return launch(device, shape, head_combine_kernel<T, decltype(is)::value>, sorted, static_cast<T *>(a.dh));
  });
}

// ---- through the norm ----

// A thread's share of a source: eight numbers. Wider sources are summed once for each thing that is made of them.
template <class T>
constexpr int kPieces = 8 / kVector<T>;
constexpr unsigned kNormThreads = 1024;
constexpr int64_t kHeldWidth = int64_t{kNormThreads} * 8;
constexpr unsigned kWideThreads = 256;
// Blocks that sum the parameters' gradients, and the sources that each should have.
constexpr int64_t kMostParts = 512, kSourcesOfPart = 4;

// Where a block's part of the parameters' gradients goes; null: not wanted.
struct Parts {
  float *dw, *db;  // [parts, d]
};

// A thread's columns of part `part`. Behind a closed gate they are 0.
template <class T, int kPieces, class Column>
__device__ void write_part(const Parts &parts, const NormSums<T, kPieces> &sums, int64_t part, int64_t d,
                           Column &&column) {
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int n = in_piece<T>(d - column(i));
    const int64_t at = part * d + column(i);
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) {
      if (k < n && parts.dw != nullptr) parts.dw[at + k] = sums.dw[i][k];
      if (k < n && parts.db != nullptr) parts.db[at + k] = sums.db[i][k];
    }
  }
}

template <class T, bool kWhole, bool kSums>
__global__ void __launch_bounds__(kNormThreads) head_norm_kernel(SourceRows s, lethe_norm_args a, Parts parts) {
  const WholeBlock team;
  const bool layer = a.kind == LETHE_NORM_LAYER;
  const int d = static_cast<int>(a.d);
  const auto column = [&team](int i) { return Share<T, kPieces<T>, kWhole>::column(team, i); };
  NormSums<T, kPieces<T>> sums;
  for (int64_t source = blockIdx.x; source < a.T && s.gate.open(); source += gridDim.x) {
    const T *row = static_cast<const T *>(a.x) + source * a.x_stride;
    Share<T, kPieces<T>, kWhole> x;
    // Early, so that both are on their way; beside the parameters' sums there are no registers for it.
    if (!kSums) x.load(row, d, team);
    WideShare<T, kPieces<T>> dy;
    sum_rows<kWhole>(s, source, column, &dy);
    if (kSums) x.load(row, d, team);
    const float mean = layer ? a.mean[source] : 0.0f, rstd = a.rstd[source];
    const T *w = static_cast<const T *>(a.w);
    const NormSlope slope = norm_slope(dy, x, w, a.weight_shift, mean, rstd, d, static_cast<float>(a.d), layer, team);
    if (kSums) sums.add(dy, x, mean, rstd);
    norm_write_dx(dy, x, w, a.weight_shift, slope, static_cast<T *>(a.dx) + source * a.dx_stride, false, d, team);
  }
  if (kSums) write_part(parts, sums, blockIdx.x, a.d, column);
}

// A source too wide for registers.
template <class T, bool kWhole>
__global__ void __launch_bounds__(kWideThreads) head_norm_wide_kernel(SourceRows s, lethe_norm_args a) {
  if (!s.gate.open()) return;
  const int64_t source = blockIdx.x;
  const bool layer = a.kind == LETHE_NORM_LAYER;
  const float mean = layer ? a.mean[source] : 0.0f;
  const T *row = static_cast<const T *>(a.x) + source * a.x_stride;
  T *dx = static_cast<T *>(a.dx) + source * a.dx_stride;
  // Calls body(column, count, x, g) for the thread's pieces.
  const auto for_pieces = [&](auto &&body) {
    for (int64_t at = threadIdx.x * int64_t{kVector<T>}; at < a.d; at += blockDim.x * int64_t{kVector<T>}) {
      const int n = in_piece<T>(a.d - at);
      WideShare<T, 1> g;
      sum_rows<kWhole>(
          s, source, [at](int) { return at; }, &g);
      const Vector<T> w = load_vector<kWhole>(static_cast<const T *>(a.w) + at, n);
#pragma unroll
      for (int k = 0; k < kVector<T>; ++k) g.numbers[0][k] *= w.at(k) + a.weight_shift;
      body(at, n, load_vector<kWhole>(row + at, n), g);
    }
  };
  float sums[2] = {0.0f, 0.0f};
  for_pieces([&](int64_t, int, const Vector<T> &x, const WideShare<T, 1> &g) {
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) {
      sums[0] += g.at(0, k);
      sums[1] = __fmaf_rn(g.at(0, k), x.at(k) - mean, sums[1]);
    }
  });
  block_sum(sums);
  const NormSlope slope = norm_slope(mean, a.rstd[source], sums, static_cast<float>(a.d), layer);
  for_pieces([&](int64_t at, int n, const Vector<T> &x, const WideShare<T, 1> &g) {
    float v[kVector<T>];
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) v[k] = slope.dx(g.at(0, k), x.at(k), 0.0f);
    store_vector<kWhole>(packed<T>(v), dx + at, n);
  });
}

// The parameters' gradients of wide sources: a thread's piece of columns over a part of the sources. Blocks count
// through the parts of a tile of columns, then through the tiles.
template <class T, bool kWhole>
__global__ void __launch_bounds__(kWideThreads)
    head_norm_sums_kernel(SourceRows s, lethe_norm_args a, int64_t count, Parts parts) {
  const int64_t part = blockIdx.x % count, tile = blockIdx.x / count;
  const int64_t at = (tile * kWideThreads + threadIdx.x) * kVector<T>;
  const int n = in_piece<T>(a.d - at);
  const auto column = [at](int) { return at; };
  NormSums<T, 1> sums;
  for (int64_t source = part; source < a.T && n > 0 && s.gate.open(); source += count) {
    WideShare<T, 1> dy;
    sum_rows<kWhole>(s, source, column, &dy);
    const Share<T, 1, kWhole> x = {{load_vector<kWhole>(static_cast<const T *>(a.x) + source * a.x_stride + at, n)}};
    sums.add(dy, x, a.kind == LETHE_NORM_LAYER ? a.mean[source] : 0.0f, a.rstd[source]);
  }
  write_part(parts, sums, part, a.d, column);
}

template <class T, bool kWhole>
int through_norm(Device *device, const SourceRows &sorted, const lethe_norm_args &a, int64_t n, int64_t count,
                 const Parts &parts) {
  const bool sums = count > 0;
  const int64_t bytes = (n + 2 * a.T) * a.d * int64_t{sizeof(T)}, part_bytes = count * a.d * 8;
  if (a.d <= kHeldWidth) {
    const auto threads =
        static_cast<unsigned>(ceil_div(ceil_div(a.d, int64_t{kVector<T>} * kPieces<T>), kWarp) * kWarp);
    const Shape shape = {"head_norm", {static_cast<unsigned>(sums ? count : a.T)}, threads, 0, bytes + part_bytes};
    return with_bool(sums, [&](auto is) {
      return launch(device, shape, head_norm_kernel<T, kWhole, decltype(is)::value>, sorted, a, parts);
    });
  }
  const Shape shape = {"head_norm_wide", {static_cast<unsigned>(a.T)}, kWideThreads, 0, bytes};
  LETHE_CUDA_TRY((launch(device, shape, head_norm_wide_kernel<T, kWhole>, sorted, a)));
  const int64_t tiles = ceil_div(a.d, int64_t{kWideThreads} * kVector<T>);
  const Shape more = {"head_norm_sums", {static_cast<unsigned>(count * tiles)}, kWideThreads, 0, bytes + part_bytes};
  return launch(device, more, head_norm_sums_kernel<T, kWhole>, sorted, a, count, parts);
}

template <class T>
int norm_backward_of_rows(Device *device, const lethe_head_norm_args &args) {
  const lethe_norm_args &a = args.norm;
  const bool sums = a.dw != nullptr || a.db != nullptr;
  const int64_t count = sums ? std::min(ceil_div(a.T, kSourcesOfPart), kMostParts) : 0;
  Pieces pieces;
  SourceSort sort(args.n, a.T, &pieces);
  const int64_t dw = pieces.add<float>(a.dw == nullptr ? 0 : count * a.d);
  const int64_t db = pieces.add<float>(a.db == nullptr ? 0 : count * a.d);
  char *memory = nullptr;
  LETHE_CUDA_TRY(scratch(device, pieces.bytes(), &memory));
  SourceRows sorted = {nullptr, nullptr, args.coefficient, args.dh_rows, a.d, {}};
  LETHE_CUDA_TRY(sort.run(device, args.rows, memory, &sorted));
  const Parts parts = {a.dw == nullptr ? nullptr : reinterpret_cast<float *>(memory + dw),
                       a.db == nullptr ? nullptr : reinterpret_cast<float *>(memory + db)};
  const bool whole = whole_rows<T>({a.x, a.w, a.dx, args.dh_rows}, {a.d, a.x_stride, a.dx_stride});
  LETHE_CUDA_TRY(with_bool(
      whole, [&](auto is) { return through_norm<T, decltype(is)::value>(device, sorted, a, args.n, count, parts); }));
  return sums && a.T > 0 ? add_norm_sums(device, count, a.d, parts.dw, a.dw, parts.db, a.db) : LETHE_OK;
}

}  // namespace

int head_combine(Device *device, const lethe_head_args *args) {
  return run(device, __func__,
             [&] { return args->dtype == LETHE_BF16 ? combine<bf16>(device, *args) : combine<float>(device, *args); });
}

int head_norm_backward(Device *device, const lethe_head_norm_args *args) {
  return run(device, __func__, [&] {
    return args->norm.dtype == LETHE_BF16 ? norm_backward_of_rows<bf16>(device, *args)
                                          : norm_backward_of_rows<float>(device, *args);
  });
}

}  // namespace lethe::cuda
