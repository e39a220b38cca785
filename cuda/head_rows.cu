// Two looks at each row of logits in global memory: its sums, then its gradient in place.
#include "head_look.cuh"

namespace lethe::cuda {
namespace {

template <bool kReference>
__device__ void whole_row(const HeadRows &a, int64_t index, float *delta) {
  float *row = a.z + index * a.ld;
  const int64_t record = a.order == nullptr ? index : a.order[index];
  const SoftCap cap = {a.soft_cap, a.soft_cap > 0 ? 1.0f / a.soft_cap : 0.0f};
  const Columns c(row, row, delta, a.V);
  if (finishes<kReference>(a)) {
    finish_logits<kReference>(Finish<kReference>(a, index, record, cap), c);
    __syncthreads();  // logits are written
  }
  Softmax m = row_of(a, record, cap);
  const float z_label = m.label >= 0 ? row[m.label] : 0.0f;
  const float delta_label = kReference && m.label >= 0 ? delta[m.label] : 0.0f;
  Running r = first_look<kReference>(c, m.label, z_label, m.beta);
  const Others apart = take_sums<kReference>(&m, &r, a.V, z_label, delta_label);
  float kl[1] = {0.0f};
  if (!kReference && m.kind == LETHE_ROW_UNIFORM_KL_EPS) {
    float sums[2];
    smoothed_look(c, m, sums);
    kl[0] = take_smoothed(&m, sums, a.V);
  }
  if (kReference || a.gradient != LETHE_I32) {
    const float share = second_look<kReference, true>(c, m, row, a.gradient);
    if (kReference) kl[0] = share;
  }
  if (kReference) {
    block_sum(kl);
    kl[0] = kl[0] < 0.0f ? 0.0f : kl[0];
  }
  if (threadIdx.x == 0 && a.stats != nullptr) {
    const float mean = a.means == nullptr ? r.z / static_cast<float>(a.V) : a.means[index];
    write_stats<kReference>(m, r, z_label, apart, mean, kl[0], a.stats + record * LETHE_STATISTICS);
  }
}

__global__ void __launch_bounds__(kHeadThreads, 2) head_rows_kernel(HeadRows a) {
  const int64_t index = blockIdx.x;
  if (a.closed != nullptr && *a.closed != 0) {
    for (int64_t v = threadIdx.x; v < a.V; v += blockDim.x) a.z[index * a.ld + v] = 0.0f;
    return;
  }
  const int64_t delta = a.delta_of == nullptr ? -1 : a.delta_of[index];
  if (delta >= 0) {
    whole_row<true>(a, index, a.delta + delta * a.ld);
  } else {
    whole_row<false>(a, index, nullptr);
  }
}

}  // namespace

Shape head_rows_shape(const HeadRows &args, unsigned threads) {
  const int64_t gradient = args.gradient == LETHE_F32 ? 4 : args.gradient == LETHE_BF16 ? 2 : 0;
  return {"head_rows", {static_cast<unsigned>(args.rows)}, threads, 0, args.rows * args.V * (4 + gradient)};
}

Status head_rows(const HeadRows &args, unsigned threads, Stream stream) {
  if (args.rows == 0) return Status{};
  return launch_on(stream, head_rows_shape(args, threads), head_rows_kernel, args);
}

}  // namespace lethe::cuda
