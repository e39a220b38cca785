// The gradient of a linear layer's bias: column sums of dy.
#include "linear.cuh"
#include "vector.cuh"

namespace lethe::cuda {
namespace {

// A block sums kBiasRows rows of the columns that a warp's lanes reach; its warps take turns at the rows.
constexpr unsigned kSumThreads = 256;

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
  const int64_t end = (chunk + 1) * kBiasRows < rows ? (chunk + 1) * kBiasRows : rows;
  float mine[kVector<T>] = {};
  const int64_t row = chunk * kBiasRows + warp;
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
int bias_gradient_of(Device *device, const lethe_linear_args &a, float *partial) {
  const int64_t chunks = ceil_div(a.T, kBiasRows), blocks = chunks * ceil_div(a.out, kWarp * kVector<T>);
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

}  // namespace

int bias_gradient(Device *device, const lethe_linear_args &args, float *partial) {
  return args.dtype == LETHE_BF16 ? bias_gradient_of<bf16>(device, args, partial)
                                  : bias_gradient_of<float>(device, args, partial);
}

}  // namespace lethe::cuda
