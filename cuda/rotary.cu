// Rotary position embedding in the half-split layout: (a, b) -> (a c - b s, b c + a s); the inverse turns by -s.
#include "device.cuh"
#include "index.cuh"
#include "vector.cuh"

namespace lethe::cuda {
namespace {

constexpr unsigned kThreads = 256;
// Heads that a thread turns with the cosines and sines it has read.
constexpr int kHeads = 4;

// Where the tables' row of a piece stands, in fp32: as many numbers as the piece has.
template <bool kWhole, class T>
__device__ void load_angles(const float *from, int n, float (&to)[kVector<T>]) {
#pragma unroll
  for (int i = 0; i < kVector<T>; i += 4) {
    const Vector<float> v = load_vector<kWhole>(from + i, n - i);
#pragma unroll
    for (int k = 0; k < 4; ++k) to[i + k] = v.at(k);
  }
}

template <class T, bool kWhole>
__global__ void __launch_bounds__(kThreads)
    rotary_kernel(lethe_rotary_args a, int64_t shares, int64_t pieces, Gate gate) {
  if (!gate.open()) return;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= a.T * shares * pieces) return;
  const int64_t row = quotient(at, pieces), t = quotient(row, shares), first = row - t * shares,
                half = a.rotary_dim / 2;
  const int64_t column = (at - row * pieces) * kVector<T>;
  const int n = in_piece<T>(half - column);
  T *x = static_cast<T *>(a.x) + t * a.stride + column;
  float c[kVector<T>], s[kVector<T>];
  load_angles<kWhole, T>(a.cos + a.positions[t] * half + column, n, c);
  load_angles<kWhole, T>(a.sin + a.positions[t] * half + column, n, s);
  Vector<T> low[kHeads], high[kHeads];
#pragma unroll
  for (int i = 0; i < kHeads; ++i) {
    const int64_t head = first + i * shares;
    low[i] = load_vector<kWhole>(x + head * a.head_dim, head < a.heads ? n : 0);
    high[i] = load_vector<kWhole>(x + head * a.head_dim + half, head < a.heads ? n : 0);
  }
#pragma unroll
  for (int i = 0; i < kHeads; ++i) {
    const int64_t head = first + i * shares;
    float to_low[kVector<T>], to_high[kVector<T>];
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) {
      const float l = low[i].at(k), h = high[i].at(k), sine = a.inverse != 0 ? -s[k] : s[k];
      to_low[k] = __fmaf_rn(l, c[k], -__fmul_rn(h, sine));
      to_high[k] = __fmaf_rn(h, c[k], __fmul_rn(l, sine));
    }
    store_vector<kWhole>(packed<T>(to_low), x + head * a.head_dim, head < a.heads ? n : 0);
    store_vector<kWhole>(packed<T>(to_high), x + head * a.head_dim + half, head < a.heads ? n : 0);
  }
}

int outside_table(const Fault &f, std::string *message) {
  *message = "token " + std::to_string(f.at) + " has position " + std::to_string(f.value) + ", the cosine table has " +
             std::to_string(f.bound) + " rows";
  return LETHE_OUT_OF_BOUNDS;
}

template <class T>
int turn(Device *device, const lethe_rotary_args &a) {
  const int64_t half = a.rotary_dim / 2, shares = ceil_div(a.heads, kHeads), pieces = ceil_div(half, kVector<T>);
  const bool whole = whole_rows<T>({a.x, a.cos, a.sin}, {a.stride, a.head_dim, half});
  const int64_t bytes = a.T * (a.heads * a.rotary_dim * 2 * int64_t{sizeof(T)} + a.rotary_dim * 4);
  const Shape shape = {"rotary", {blocks_of(a.T * shares * pieces, kThreads)}, kThreads, 0, bytes};
  return with_bool(whole, [&](auto is) {
    return launch(device, shape, rotary_kernel<T, decltype(is)::value>, a, shares, pieces,
                  device->fault.gate("positions", outside_table));
  });
}

}  // namespace

int rotary(Device *device, const lethe_rotary_args *args) {
  return run(device, __func__, [&] {
    LETHE_CUDA_TRY(check_indices(device, "positions", args->positions, args->T, args->P, outside_table));
    return args->dtype == LETHE_BF16 ? turn<bf16>(device, *args) : turn<float>(device, *args);
  });
}

}  // namespace lethe::cuda
