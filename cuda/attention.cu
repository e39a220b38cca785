// Attention's two ops: where their memory lies, and which kernels do them.
#include "attention.cuh"

namespace lethe::cuda {
namespace attention {
namespace {

template <class T>
bool rows_of_16_bytes(const void *rows, int64_t stride, int64_t head_dim) {
  return reinterpret_cast<uintptr_t>(rows) % 16 == 0 && stride % kVector<T> == 0 && head_dim % kVector<T> == 0;
}

template <class T>
Call describe(const Device *device, const lethe_attention_args &a, bool backward) {
  Call c = {};
  c.a = a;
  c.closed = device->fault.closed;
  c.group = static_cast<unsigned>(a.heads / a.kv_heads);
  const int64_t d = a.head_dim;
  c.fast_q = rows_of_16_bytes<T>(a.q, a.q_stride, d);
  c.fast_k = rows_of_16_bytes<T>(a.k, a.k_stride, d);
  c.fast_v = rows_of_16_bytes<T>(a.v, a.v_stride, d);
  c.fast_out = rows_of_16_bytes<T>(a.out, d, d) && (!backward || rows_of_16_bytes<T>(a.dout, d, d));
  c.fast_dq = rows_of_16_bytes<T>(a.dq, a.q_stride, d);
  c.fast_dk = rows_of_16_bytes<T>(a.dk, a.k_stride, d);
  c.fast_dv = rows_of_16_bytes<T>(a.dv, a.v_stride, d);
  return c;
}

int attend(Device *device, const lethe_attention_args &a, bool backward) {
  const bool half = a.dtype == LETHE_BF16, mma = half && a.head_dim <= kMostMmaDim;
  Call c = half ? describe<bf16>(device, a, backward) : describe<float>(device, a, backward);
  const int tile_rows = mma ? mma_tile_rows(a.head_dim, backward) : kPlainRows;
  Pieces pieces;
  const int64_t header = pieces.add<PlanHeader>(1), tiles = pieces.add<Tile>(most_tiles(a, tile_rows));
  const int64_t ends = pieces.add<int32_t>(a.segments);
  const int64_t delta = pieces.add<float>(backward ? a.q_rows * a.heads : 0);
  const int64_t found = pieces.add<char>(mma && !backward ? decode_bytes(a) : 0);
  char *memory = nullptr;
  LETHE_CUDA_TRY(scratch(device, pieces.bytes(), &memory));
  const PlanMemory places = {reinterpret_cast<PlanHeader *>(memory + header), reinterpret_cast<Tile *>(memory + tiles),
                             reinterpret_cast<int32_t *>(memory + ends)};
  c.plan = places.header;
  c.tiles = places.tiles;
  c.delta = reinterpret_cast<float *>(memory + delta);
  c.decode_rows = mma && !backward ? kDecodeRows : 0;
  LETHE_CUDA_TRY(plan(device, c, tile_rows, places));
  if (!backward && mma) {
    LETHE_CUDA_TRY(decode_forward(device, c, reinterpret_cast<float *>(memory + found)));
    return mma_forward(device, c);
  }
  if (!backward) return plain_forward(device, c);
  LETHE_CUDA_TRY(prepare_backward(device, c));
  return mma ? mma_backward(device, c) : plain_backward(device, c);
}

}  // namespace
}  // namespace attention

int attention_forward(Device *device, const lethe_attention_args *args) {
  return run(device, __func__, [&] { return attention::attend(device, *args, false); });
}

int attention_backward(Device *device, const lethe_attention_args *args) {
  return run(device, __func__, [&] { return attention::attend(device, *args, true); });
}

}  // namespace lethe::cuda
