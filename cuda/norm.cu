// RMSNorm and LayerNorm, forward and backward (native/cpu/norm.cpp has the formulas). Every vector is read once and
// held in registers: heads by a part of a warp, hidden states by a block; only rows that no block can hold are read
// again. Gradients of parameters are summed by each block over its vectors, and then over the blocks.
#include <algorithm>

#include "device.cuh"
#include "norm.cuh"
#include "norm_wide.cuh"

namespace lethe::cuda {
namespace {

constexpr unsigned kLanesBlock = 256;
// A lane's share of a head, and a thread's of a vector whose parameters' gradients it sums: eight numbers.
template <class T>
constexpr int kFewPieces = 8 / kVector<T>;
// The widest vector for lanes.
constexpr int64_t kLanesWidth = kWarp * 8;
// A block with sums of the parameters' gradients, whose threads need more registers, and its widest vector.
constexpr unsigned kSumsBlock = 768;
constexpr int64_t kSumsWidth = kSumsBlock * 8;
// Blocks that sum parameters' gradients, and what each should have to do.
constexpr int64_t kMostParts = 512, kVectorsOfPart = 4;

// `here`: a team without a vector runs along, as its warp's other lanes want it to meet them.
template <class T, int kPieces, bool kWhole, class Team>
__device__ void forward_vector(const lethe_norm_args &a, int64_t index, bool here, const Team &team) {
  const Place place(a, index);
  const int d = here ? static_cast<int>(a.d) : 0;
  const auto width = static_cast<float>(a.d);
  // Of many pieces, the residual's would take too many registers to wait in.
  constexpr bool kEarly = kPieces < 4;
  Share<T, kPieces, kWhole> x, residual = {};
  x.load(place.in<T>(a.x, a.x_stride), d, team);
  const T *added = place.in<T>(a.residual, a.y_stride);
  if (kEarly && a.residual != nullptr) residual.load(added, d, team);
  const NormStatistics s = norm_statistics(x, d, width, a.eps, a.kind == LETHE_NORM_LAYER, team);
  if (here && team.rank == 0) {
    if (a.mean != nullptr) a.mean[index] = s.mean;
    if (a.rstd != nullptr) a.rstd[index] = s.rstd;
  }
  T *y = place.out<T>(a.y, a.y_stride);
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int at = x.column(team, i);
    const Vector<T> w = load_vector<kWhole>(static_cast<const T *>(a.w) + at, d - at);
    Vector<T> b = {}, more = residual.pieces[i];
    if (a.b != nullptr) b = load_vector<kWhole>(static_cast<const T *>(a.b) + at, d - at);
    if (!kEarly && a.residual != nullptr) more = load_vector<kWhole>(added + at, d - at);
    float v[kVector<T>];
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) {
      v[k] = __fmaf_rn((x.at(i, k) - s.mean) * s.rstd, w.at(k) + a.weight_shift, b.at(k)) + more.at(k);
    }
    store_vector<kWhole>(packed<T>(v), y + at, d - at);
  }
}

template <class T, bool kWhole>
__global__ void __launch_bounds__(kLanesBlock) norm_forward_lanes_kernel(lethe_norm_args a, int64_t n, int lanes) {
  const int thread = static_cast<int>(threadIdx.x);
  const Lanes team = {lanes, thread % lanes};
  const int64_t teams = kLanesBlock / lanes;
  for (int64_t base = blockIdx.x * teams; base < n; base += gridDim.x * teams) {
    const int64_t index = base + thread / lanes;
    forward_vector<T, kFewPieces<T>, kWhole>(a, index < n ? index : n - 1, index < n, team);
  }
}

template <class T, int kPieces, bool kWhole>
__global__ void __launch_bounds__(kWideBlock) norm_forward_kernel(lethe_norm_args a, int64_t n) {
  const WholeBlock team;
  for (int64_t index = blockIdx.x; index < n; index += gridDim.x) {
    forward_vector<T, kPieces, kWhole>(a, index, true, team);
  }
}

template <class T, int kPieces, bool kWhole, class Team>
__device__ void backward_vector(const lethe_norm_args &a, int64_t index, bool here, const Team &team,
                                NormSums<T, kPieces> *sums) {
  const Place place(a, index);
  const int d = here ? static_cast<int>(a.d) : 0;
  const bool layer = a.kind == LETHE_NORM_LAYER;
  const T *w = static_cast<const T *>(a.w);
  Share<T, kPieces, kWhole> x, dy;
  x.load(place.in<T>(a.x, a.x_stride), d, team);
  dy.load(place.in<T>(a.dy, a.dy_stride), d, team);
  const float mean = layer ? a.mean[index] : 0.0f, rstd = a.rstd[index];
  const NormSlope slope = norm_slope(dy, x, w, a.weight_shift, mean, rstd, d, static_cast<float>(a.d), layer, team);
  if (sums != nullptr) sums->add(dy, x, mean, rstd);
  norm_write_dx(dy, x, w, a.weight_shift, slope, place.out<T>(a.dx, a.dx_stride), a.accumulate != 0, d, team);
}

// Adds up what a block's teams have summed, and writes it to the block's part.
template <class T>
__device__ void write_lanes_sums(const float (&sums)[kFewPieces<T>][kVector<T>], int64_t d, const Lanes &team,
                                 float *part) {
  __shared__ float all[kLanesBlock * 8];
  const int thread = static_cast<int>(threadIdx.x), held = team.size * 8;
  float *mine = all + thread / team.size * held;
  __syncthreads();  // the last sums are read
  for (int i = 0; i < kFewPieces<T>; ++i) {
    for (int k = 0; k < kVector<T>; ++k) mine[Share<T, kFewPieces<T>, false>::column(team, i) + k] = sums[i][k];
  }
  __syncthreads();  // the teams' sums are written
  if (thread >= d) return;
  float total = 0;
  for (int of = 0; of < static_cast<int>(kLanesBlock) / team.size; ++of) total += all[of * held + thread];
  part[blockIdx.x * d + thread] = total;
}

template <class T, bool kSums, bool kWhole>
__global__ void __launch_bounds__(kLanesBlock)
    norm_backward_lanes_kernel(lethe_norm_args a, int64_t n, int lanes, float *dw, float *db) {
  const int thread = static_cast<int>(threadIdx.x);
  const Lanes team = {lanes, thread % lanes};
  const int64_t teams = kLanesBlock / lanes;
  NormSums<T, kFewPieces<T>> sums;
  for (int64_t base = blockIdx.x * teams; base < n; base += gridDim.x * teams) {
    const int64_t index = base + thread / lanes;
    backward_vector<T, kFewPieces<T>, kWhole>(a, index < n ? index : n - 1, index < n, team, kSums ? &sums : nullptr);
  }
  if (kSums && dw != nullptr) write_lanes_sums<T>(sums.dw, a.d, team, dw);
  if (kSums && db != nullptr) write_lanes_sums<T>(sums.db, a.d, team, db);
}

template <class T, int kPieces, bool kSums, bool kWhole>
__global__ void __launch_bounds__(kSums ? kSumsBlock : kWideBlock)
    norm_backward_kernel(lethe_norm_args a, int64_t n, float *dw, float *db) {
  const WholeBlock team;
  NormSums<T, kPieces> sums;
  for (int64_t index = blockIdx.x; index < n; index += gridDim.x) {
    backward_vector<T, kPieces, kWhole>(a, index, true, team, kSums ? &sums : nullptr);
  }
  if constexpr (kSums) {
    for (int i = 0; i < kPieces; ++i) {
      const int64_t at = Share<T, kPieces, false>::column(team, i);
      for (int k = 0; k < kVector<T>; ++k) {
        if (dw != nullptr && at + k < a.d) dw[blockIdx.x * a.d + at + k] = sums.dw[i][k];
        if (db != nullptr && at + k < a.d) db[blockIdx.x * a.d + at + k] = sums.db[i][k];
      }
    }
  }
}

// A warp has neighbouring columns; the warps share the parts, and their sums meet in order.
__global__ void __launch_bounds__(kWideBlock)
    norm_add_sums_kernel(int64_t parts, int64_t d, const float *dw_parts, float *dw, const float *db_parts, float *db) {
  __shared__ float strips[kMaxWarps][kWarp];
  const unsigned lane = threadIdx.x % kWarp, strip = threadIdx.x / kWarp;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarp + lane, each = (parts + kMaxWarps - 1) / kMaxWarps;
  const float *from = blockIdx.y == 0 ? dw_parts : db_parts;
  float *to = blockIdx.y == 0 ? dw : db;
  if (to == nullptr) return;
  float sum = 0;
  const int64_t end = (strip + 1) * each < parts ? (strip + 1) * each : parts;
#pragma unroll 4
  for (int64_t part = strip * each; part < end; ++part) sum += column < d ? from[part * d + column] : 0.0f;
  strips[strip][lane] = sum;
  __syncthreads();  // the strips are written
  if (strip != 0 || column >= d) return;
  sum = 0;
  for (unsigned i = 0; i < kMaxWarps; ++i) sum += strips[i][lane];
  to[column] += sum;
}

unsigned grid_of(int64_t blocks) { return static_cast<unsigned>(std::min<int64_t>(blocks, 0x7fffffff)); }

// The smallest power of two of lanes that hold a vector.
template <class T>
int lanes_of(int64_t d) {
  int lanes = 1;
  while (int64_t{lanes} * kVector<T> < d && lanes < static_cast<int>(kWarp)) lanes *= 2;
  return lanes;
}

// Threads that hold a vector, each kPieces pieces of it.
template <class T>
unsigned threads_of(int64_t d, int pieces) {
  return static_cast<unsigned>(ceil_div(d, int64_t{pieces} * kVector<T> * kWarp) * kWarp);
}

template <class T>
bool whole(const lethe_norm_args &a) {
  return whole_rows<T>({a.x, a.w, a.b, a.residual, a.y, a.dy, a.dx},
                       {a.x_stride, a.y_stride, a.dy_stride, a.dx_stride, a.d});
}

template <class T, bool kWhole>
int forward(Device *device, const lethe_norm_args &a) {
  const int64_t n = a.T * a.groups, bytes = n * a.d * int64_t{sizeof(T)} * (a.residual == nullptr ? 2 : 3);
  if (a.d <= kLanesWidth) {
    const int lanes = lanes_of<T>(a.d);
    const Shape shape = {"norm_forward_lanes", {grid_of(ceil_div(n * lanes, kLanesBlock))}, kLanesBlock, 0, bytes};
    return launch(device, shape, norm_forward_lanes_kernel<T, kWhole>, a, n, lanes);
  }
  if (threads_of<T>(a.d, 2) <= kWideBlock) {
    const Shape shape = {"norm_forward", {grid_of(n)}, threads_of<T>(a.d, 2), 0, bytes};
    return launch(device, shape, norm_forward_kernel<T, 2, kWhole>, a, n);
  }
  if constexpr (sizeof(T) == 4) {
    if (threads_of<T>(a.d, 4) <= kWideBlock) {
      const Shape shape = {"norm_forward", {grid_of(n)}, threads_of<T>(a.d, 4), 0, bytes};
      return launch(device, shape, norm_forward_kernel<T, 4, kWhole>, a, n);
    }
  }
  const Shape shape = {"norm_forward_wide", {grid_of(n)}, kWideBlock, 0, bytes};
  return launch(device, shape, norm_forward_wide_kernel<T, kWhole>, a, n);
}

// dx alone.
template <class T, bool kWhole>
int backward_frozen(Device *device, const lethe_norm_args &a, int64_t n, int64_t bytes) {
  float *none = nullptr;
  if (a.d <= kLanesWidth) {
    const int lanes = lanes_of<T>(a.d);
    const Shape shape = {"norm_backward_lanes", {grid_of(ceil_div(n * lanes, kLanesBlock))}, kLanesBlock, 0, bytes};
    return launch(device, shape, norm_backward_lanes_kernel<T, false, kWhole>, a, n, lanes, none, none);
  }
  if (threads_of<T>(a.d, 2) <= kWideBlock) {
    const Shape shape = {"norm_backward", {grid_of(n)}, threads_of<T>(a.d, 2), 0, bytes};
    return launch(device, shape, norm_backward_kernel<T, 2, false, kWhole>, a, n, none, none);
  }
  if constexpr (sizeof(T) == 4) {
    if (threads_of<T>(a.d, 4) <= kWideBlock) {
      const Shape shape = {"norm_backward", {grid_of(n)}, threads_of<T>(a.d, 4), 0, bytes};
      return launch(device, shape, norm_backward_kernel<T, 4, false, kWhole>, a, n, none, none);
    }
  }
  const Shape shape = {"norm_backward_wide", {grid_of(n)}, kWideBlock, 0, bytes};
  return launch(device, shape, norm_backward_wide_kernel<T, kWhole>, a, n);
}

// Number of parts depends on the operands alone, and so do the sums.
template <class T, bool kWhole>
int backward(Device *device, const lethe_norm_args &a) {
  const int64_t n = a.T * a.groups, bytes = n * a.d * int64_t{sizeof(T)} * (a.accumulate == 0 ? 3 : 4);
  if (n == 0) return LETHE_OK;
  if (a.dw == nullptr && a.db == nullptr) return backward_frozen<T, kWhole>(device, a, n, bytes);
  const int lanes = lanes_of<T>(a.d);
  const int64_t together = a.d <= kLanesWidth ? kLanesBlock / lanes : 1;
  const int64_t parts = std::min(ceil_div(n, together * kVectorsOfPart), kMostParts);
  Pieces pieces;
  const int64_t dw_at = pieces.add<float>(a.dw == nullptr ? 0 : parts * a.d);
  const int64_t db_at = pieces.add<float>(a.db == nullptr ? 0 : parts * a.d);
  char *memory = nullptr;
  LETHE_CUDA_TRY(scratch(device, pieces.bytes(), &memory));
  float *dw = a.dw == nullptr ? nullptr : reinterpret_cast<float *>(memory + dw_at);
  float *db = a.db == nullptr ? nullptr : reinterpret_cast<float *>(memory + db_at);
  if (a.d <= kLanesWidth) {
    const Shape shape = {"norm_backward_lanes", {grid_of(parts)}, kLanesBlock, 0, bytes};
    LETHE_CUDA_TRY((launch(device, shape, norm_backward_lanes_kernel<T, true, kWhole>, a, n, lanes, dw, db)));
  } else if (a.d <= kSumsWidth) {
    constexpr int kPieces = kFewPieces<T>;
    const Shape shape = {"norm_backward", {grid_of(parts)}, threads_of<T>(a.d, kPieces), 0, bytes};
    LETHE_CUDA_TRY((launch(device, shape, norm_backward_kernel<T, kPieces, true, kWhole>, a, n, dw, db)));
  } else {
    // dx may take dy's place, so what else is made of dy comes first.
    const unsigned across = blocks_of(a.d, kColumnsBlock * int64_t{kVector<T>});
    const int64_t read = n * a.d * int64_t{sizeof(T)} * 2;
    const Shape shape = {"norm_sums_wide", {across, grid_of(parts)}, kColumnsBlock, 0, read};
    LETHE_CUDA_TRY((launch(device, shape, norm_sums_wide_kernel<T, kWhole>, a, n, dw, db)));
    LETHE_CUDA_TRY((backward_frozen<T, kWhole>(device, a, n, bytes)));
  }
  return add_norm_sums(device, parts, a.d, dw, a.dw, db, a.db);
}

// Calls body(T{}, std::bool_constant of whether rows are whole).
template <class Body>
int by_storage(const lethe_norm_args &a, Body &&body) {
  if (a.dtype == LETHE_BF16) return with_bool(whole<bf16>(a), [&](auto is) { return body(bf16{}, is); });
  return with_bool(whole<float>(a), [&](auto is) { return body(float{}, is); });
}

}  // namespace

int add_norm_sums(Device *device, int64_t parts, int64_t d, const float *dw_parts, float *dw, const float *db_parts,
                  float *db) {
  const int64_t bytes = (parts + 2) * d * 4 * ((dw == nullptr ? 0 : 1) + (db == nullptr ? 0 : 1));
  const Shape shape = {"norm_add_sums", {blocks_of(d, kWarp), 2}, kWideBlock, 0, bytes};
  return launch(device, shape, norm_add_sums_kernel, parts, d, dw_parts, dw, db_parts, db);
}

int norm_forward(Device *device, const lethe_norm_args *args) {
  return run(device, __func__, [&] {
    return by_storage(*args, [&](auto storage, auto whole) {
      return forward<decltype(storage), decltype(whole)::value>(device, *args);
    });
  });
}

int norm_backward(Device *device, const lethe_norm_args *args) {
  return run(device, __func__, [&] {
    return by_storage(*args, [&](auto storage, auto whole) {
      return backward<decltype(storage), decltype(whole)::value>(device, *args);
    });
  });
}

}  // namespace lethe::cuda
