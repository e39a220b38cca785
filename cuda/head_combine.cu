// The head's gradient by source: rows added up, and on through the norm before the head.
#include <algorithm>

#include "head_plan.cuh"
#include "vector.cuh"

namespace lethe::cuda {
namespace {

// ---- the rows of each source, in their order ----

constexpr unsigned kSortThreads = 1024;
constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;

// A radix sort (least digit first, each pass stable) of row numbers by source.
struct Sort {
  const int32_t *records;
  int64_t n, sources;
  int32_t *from, *to;  // [n] each; the sorted numbers end in `to`
  int32_t *keys;       // [n]: the sources of the sorted rows
  int passes;          // so many digits tell all sources
  Gate gate;
};

__device__ int source_of(const Sort &s, int64_t row) { return s.records[row * LETHE_ROW_FIELDS]; }

// The first row whose source is outside closes the gate.
__device__ bool check_sources(const Sort &s) {
  __shared__ int first;
  if (threadIdx.x == 0) first = 0x7fffffff;
  __syncthreads();
  for (int64_t row = threadIdx.x; row < s.n; row += blockDim.x) {
    const int source = source_of(s, row);
    if (source < 0 || source >= s.sources) {
      atomicMin(&first, static_cast<int>(row));
      break;  // a thread's later ones come after it
    }
  }
  __syncthreads();  // all rows are looked at
  if (first == 0x7fffffff) return true;
  if (threadIdx.x == 0) {
    s.gate.close(int64_t{first} * kHeadProblems + kHeadSource, source_of(s, first), s.sources);
  }
  return false;
}

// The lanes of this lane's warp with the same digit.
__device__ uint32_t same_digit(unsigned digit) {
  uint32_t same = kAllLanes;
  for (int bit = 0; bit <= kDigitBits; ++bit) {
    const uint32_t set = __ballot_sync(kAllLanes, static_cast<int>(digit >> bit & 1u));
    same &= (digit >> bit & 1u) != 0 ? set : ~set;
  }
  return same;
}

// Where rows of each digit go next. `place` starts as how many rows of smaller digits there are.
__device__ void count_digits(const Sort &s, int shift, int (&place)[kDigits]) {
  for (int digit = static_cast<int>(threadIdx.x); digit < kDigits; digit += static_cast<int>(blockDim.x)) {
    place[digit] = 0;
  }
  __syncthreads();  // no digit is counted yet
  for (int64_t row = threadIdx.x; row < s.n; row += blockDim.x) {
    atomicAdd(&place[source_of(s, row) >> shift & (kDigits - 1)], 1);
  }
  __syncthreads();  // all digits are counted
  if (threadIdx.x == 0) {
    int before = 0;
    for (int &at : place) {
      const int count = at;
      at = before;
      before += count;
    }
  }
}

__device__ void sort_pass(const Sort &s, const int32_t *from, int32_t *to, int shift) {
  __shared__ int place[kDigits];
  __shared__ int counts[kMaxWarps][kDigits + 1];  // the last digit is that of threads without a row
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  count_digits(s, shift, place);
  for (int64_t begin = 0; begin < s.n; begin += blockDim.x) {
    for (unsigned digit = lane; digit <= kDigits; digit += kWarp) counts[warp][digit] = 0;
    __syncwarp();
    const int64_t i = begin + threadIdx.x;
    const int row = i >= s.n ? -1 : from == nullptr ? static_cast<int>(i) : from[i];
    const unsigned digit = row < 0 ? kDigits : source_of(s, row) >> shift & (kDigits - 1);
    const uint32_t same = same_digit(digit), before = same & ((1u << lane) - 1);
    if (before == 0) counts[warp][digit] = __popc(same);
    __syncthreads();  // the warps have counted
    for (unsigned d = threadIdx.x; d < kDigits; d += blockDim.x) {
      int at = place[d];
      for (unsigned w = 0; w < warps; ++w) {
        const int count = counts[w][d];
        counts[w][d] = at;
        at += count;
      }
      place[d] = at;
    }
    __syncthreads();  // the warps' places are known
    if (row >= 0) to[counts[warp][digit] + __popc(before)] = row;
    __syncthreads();  // counts may be cleared
  }
}

__global__ void __launch_bounds__(kSortThreads) head_sort_kernel(Sort s) {
  if (!check_sources(s)) return;
  for (int pass = 0; pass < s.passes; ++pass) {
    // The buffers take turns so that the last pass ends in `to`.
    const bool into_to = (s.passes - pass) % 2 == 1;
    sort_pass(s, pass == 0 ? nullptr : into_to ? s.from : s.to, into_to ? s.to : s.from, pass * kDigitBits);
    __syncthreads();  // rows are where the next pass reads them
  }
  for (int64_t i = threadIdx.x; i < s.n; i += blockDim.x) s.keys[i] = source_of(s, s.to[i]);
}

// first[source] = how many rows have a smaller one.
constexpr unsigned kFirstThreads = 256;
__global__ void __launch_bounds__(kFirstThreads)
    head_first_kernel(int64_t n, int64_t sources, const int32_t *keys, int32_t *first, const int *closed) {
  const int64_t source = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (source > sources || *closed != 0) return;
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    keys[middle] < source ? low = middle + 1 : high = middle;
  }
  first[source] = static_cast<int32_t>(low);
}

// The rows of each source: those of s are rows[first[s]] up to rows[first[s + 1]].
struct SourceRows {
  const int32_t *first, *rows;
  const float *coefficient;
  const void *dh_rows;
  int64_t d;
};

struct SortPieces {
  int64_t from, to, keys, first;
  SortPieces(Pieces *pieces, int64_t n, int64_t sources)
      : from(pieces->add<int32_t>(n)),
        to(pieces->add<int32_t>(n)),
        keys(pieces->add<int32_t>(n)),
        first(pieces->add<int32_t>(sources + 1)) {}
};

int sort_by_source(Device *device, int64_t n, int64_t sources, const int32_t *records, const SortPieces &at,
                   char *memory, SourceRows *sorted) {
  const auto ints = [memory](int64_t offset) { return reinterpret_cast<int32_t *>(memory + offset); };
  Sort s = {records, n, sources, ints(at.from), ints(at.to), ints(at.keys), 1, device->fault.gate("rows", head_fault)};
  while (((sources - 1) >> (s.passes * kDigitBits)) > 0) ++s.passes;
  const auto threads = static_cast<unsigned>(std::min<int64_t>(kSortThreads, ceil_div(n, kWarp) * kWarp));
  const Shape shape = {"head_sort", {}, threads, 0, n * 4 * (s.passes + 1)};
  if (n > 0) LETHE_CUDA_TRY(launch(device, shape, head_sort_kernel, s));
  sorted->first = ints(at.first);
  sorted->rows = s.to;
  const Shape bounds = {"head_first", {blocks_of(sources + 1, kFirstThreads)}, kFirstThreads, 0, (n + sources) * 4};
  return launch(device, bounds, head_first_kernel, n, sources, static_cast<const int32_t *>(s.keys), ints(at.first),
                static_cast<const int *>(device->fault.closed));
}

// ---- dh: the rows of each source added up ----

constexpr unsigned kRowThreads = 256;

// `n` numbers from `column` on of the sum over a source's rows of coefficient * dh_rows.
template <class T>
__device__ void sum_rows(const SourceRows &s, int first, int end, int64_t column, int n, bool aligned,
                         float (&sum)[kVector<T>]) {
#pragma unroll
  for (int k = 0; k < kVector<T>; ++k) sum[k] = 0.0f;
  for (int i = first; i < end; ++i) {
    const int64_t row = s.rows[i];
    const float c = s.coefficient[row];
    const Vector<T> x = load_vector(static_cast<const T *>(s.dh_rows) + row * s.d + column, n, aligned);
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) sum[k] += c * x.at(k);
  }
}

template <class T>
__global__ void __launch_bounds__(kRowThreads)
    head_combine_kernel(SourceRows s, T *dh, bool aligned, const int *closed) {
  if (*closed != 0) return;
  const int64_t source = blockIdx.x;
  const int first = s.first[source], end = s.first[source + 1];
  for (int64_t column = threadIdx.x * int64_t{kVector<T>}; column < s.d; column += blockDim.x * int64_t{kVector<T>}) {
    const int n = in_piece<T>(s.d - column);
    float sum[kVector<T>];
    sum_rows<T>(s, first, end, column, n, aligned, sum);
    store_vector(packed<T>(sum), dh + source * s.d + column, n, aligned);
  }
}

template <class T>
unsigned row_threads(int64_t d) {
  const int64_t wanted = ceil_div(ceil_div(d, kVector<T>), kWarp) * kWarp;
  return static_cast<unsigned>(std::min<int64_t>(kRowThreads, wanted));
}

template <class T>
int combine(Device *device, const lethe_head_args &a) {
  Pieces pieces;
  const SortPieces at(&pieces, a.n, a.sources);
  char *memory = nullptr;
  LETHE_CUDA_TRY(scratch(device, pieces.bytes(), &memory));
  SourceRows sorted = {nullptr, nullptr, a.coefficient, a.dh_rows, a.d};
  LETHE_CUDA_TRY(sort_by_source(device, a.n, a.sources, a.rows, at, memory, &sorted));
  const Shape shape = {"head_combine",
                       {static_cast<unsigned>(a.sources)},
                       row_threads<T>(a.d),
                       0,
                       (a.n + a.sources) * a.d * int64_t{sizeof(T)}};
  return launch(device, shape, head_combine_kernel<T>, sorted, static_cast<T *>(a.dh),
                rows_aligned<T>({a.dh_rows, a.dh}, {a.d}), static_cast<const int *>(device->fault.closed));
}

}  // namespace

int head_combine(Device *device, const lethe_head_args *args) {
  return run(device, __func__,
             [&] { return args->dtype == LETHE_BF16 ? combine<bf16>(device, *args) : combine<float>(device, *args); });
}

int head_norm_backward(Device *device, const lethe_head_norm_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

}  // namespace lethe::cuda
