// Gathering and scattering rows. Bytes move as they are.
#include "device.cuh"
#include "index.cuh"
#include "vector.cuh"

namespace lethe::cuda {
namespace {

constexpr unsigned kThreads = 256;
// Pieces that a thread has on their way.
constexpr int kPieces = 4;

template <class T, bool kGather, bool kWhole>
__global__ void __launch_bounds__(kThreads) rows_kernel(lethe_rows_args a, int64_t pieces, Gate gate) {
  if (!gate.open()) return;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kPieces * kThreads + threadIdx.x;
  Vector<T> v[kPieces];
  T *to[kPieces];
  int n[kPieces];
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int64_t at = begin + i * int64_t{kThreads};
    const int64_t row = quotient(at, pieces), column = (at - row * pieces) * kVector<T>;
    const int64_t other = row < a.n ? a.index[row] : 0;
    n[i] = row < a.n ? in_piece<T>(a.width - column) : 0;
    v[i] = load_vector<kWhole>(static_cast<const T *>(a.src) + (kGather ? other : row) * a.src_stride + column, n[i]);
    to[i] = static_cast<T *>(a.dst) + (kGather ? row : other) * a.dst_stride + column;
  }
#pragma unroll
  for (int i = 0; i < kPieces; ++i) store_vector<kWhole>(v[i], to[i], n[i]);
}

template <class T, bool kGather>
int move(Device *device, const lethe_rows_args &a) {
  const int64_t pieces = ceil_div(a.width, kVector<T>);
  const int64_t bytes = a.n * (a.width * 2 * int64_t{sizeof(T)} + 4);
  const Shape shape = {kGather ? "gather_rows" : "scatter_rows",
                       {blocks_of(a.n * pieces, int64_t{kPieces} * kThreads)},
                       kThreads,
                       0,
                       bytes};
  return with_bool(whole_rows<T>({a.src, a.dst}, {a.src_stride, a.dst_stride, a.width}), [&](auto is) {
    return launch(device, shape, rows_kernel<T, kGather, decltype(is)::value>, a, pieces,
                  device->fault.gate("index", nullptr));
  });
}

// Behind every place that occurs, where it occurs first.
__global__ void __launch_bounds__(kThreads) first_kernel(const int32_t *index, int64_t n, int *first, Gate gate) {
  if (!gate.open()) return;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) atomicMin(&first[index[i]], static_cast<int>(i));
}

constexpr unsigned kCheckThreads = 1024;

// One block: the first that is not the first of its place, whatever the order of the threads.
__global__ void __launch_bounds__(kCheckThreads)
    distinct_kernel(const int32_t *index, int64_t n, const int *first, Gate gate) {
  __shared__ int repeated;
  if (!gate.open()) return;
  if (threadIdx.x == 0) repeated = 0x7fffffff;
  __syncthreads();  // repeated is set
  for (int64_t i = threadIdx.x; i < n; i += kCheckThreads) {
    if (first[index[i]] == i) continue;
    atomicMin(&repeated, static_cast<int>(i));
    break;  // a thread's later ones come after it
  }
  __syncthreads();  // all have looked
  if (threadIdx.x == 0 && repeated != 0x7fffffff) gate.close(repeated, index[repeated], 0);
}

constexpr unsigned kFew = 256;

// The same of a few: a launch less, and no table.
__global__ void __launch_bounds__(kFew) distinct_few_kernel(const int32_t *index, int n, Gate gate) {
  __shared__ int32_t all[kFew];
  __shared__ int repeated;
  if (!gate.open()) return;
  const int i = static_cast<int>(threadIdx.x);
  if (i == 0) repeated = n;
  if (i < n) all[i] = index[i];
  __syncthreads();  // all are there
  for (int before = 0; i < n && before < i; ++before) {
    if (all[before] == all[i]) atomicMin(&repeated, i);
  }
  __syncthreads();  // all have compared
  if (i == 0 && repeated < n) gate.close(repeated, all[repeated], 0);
}

int repeated(const Fault &f, std::string *message) {
  *message = "index[" + std::to_string(f.at) + "] is " + std::to_string(f.value) + " a second time";
  return LETHE_INVALID_ARGUMENT;
}

// Two rows for one place would leave the winner to chance.
int check_distinct(Device *device, const lethe_rows_args &a) {
  if (a.n == 0) return LETHE_OK;
  const Gate gate = device->fault.gate("index", repeated);
  if (a.n <= int64_t{kFew}) {
    return launch(device, {"distinct_few_rows", {}, kFew, 0, a.n * 4}, distinct_few_kernel, a.index,
                  static_cast<int>(a.n), gate);
  }
  char *memory = nullptr;
  LETHE_CUDA_TRY(scratch(device, a.table_rows * 4, &memory));
  // Behind every place 0x7f7f7f7f, which no row has reached.
  LETHE_CUDA_CALL(device, cudaMemsetAsync(memory, 0x7f, static_cast<size_t>(a.table_rows) * 4, device->stream));
  int *first = reinterpret_cast<int *>(memory);
  const Shape marks = {"first_rows", {blocks_of(a.n, kThreads)}, kThreads, 0, a.n * 8};
  LETHE_CUDA_TRY((launch(device, marks, first_kernel, a.index, a.n, first, gate)));
  const Shape check = {"distinct_rows", {}, kCheckThreads, 0, a.n * 8};
  return launch(device, check, distinct_kernel, a.index, a.n, first, gate);
}

}  // namespace

int gather_rows(Device *device, const lethe_rows_args *args) {
  return run(device, __func__, [&] {
    LETHE_CUDA_TRY(check_indices(device, "index", args->index, args->n, args->table_rows));
    return args->dtype == LETHE_BF16 ? move<bf16, true>(device, *args) : move<float, true>(device, *args);
  });
}

int scatter_rows(Device *device, const lethe_rows_args *args) {
  return run(device, __func__, [&] {
    LETHE_CUDA_TRY(check_indices(device, "index", args->index, args->n, args->table_rows));
    LETHE_CUDA_TRY(check_distinct(device, *args));
    return args->dtype == LETHE_BF16 ? move<bf16, false>(device, *args) : move<float, false>(device, *args);
  });
}

}  // namespace lethe::cuda
