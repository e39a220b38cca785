// Between the fused head's products: a row's sums from those of its tiles, in a fixed order, its statistics, and what
// the second product needs of it.
#include "head_fused.cuh"
#include "head_statistics.cuh"

namespace lethe::cuda::fused {
namespace {

constexpr unsigned kRowThreads = 128;

__device__ void add_part(Running *r, const Part &part, float beta) {
  r->above += part.above;
  if (part.max > r->max) {
    r->rescale(part.max, beta);
    r->argmax = part.argmax;
  }
  if (part.max == -infinity()) {
    r->e += part.e;  // 0, or NaN
    return;
  }
  const float x = floored((part.max - r->max) * beta), f = fast_exp(x);
  r->ezz += f * (part.ezz + x * (2 * part.ez + x * part.e));
  r->ez += f * (part.ez + x * part.e);
  r->e += f * part.e;
}

__device__ Running sum_parts(const Part *parts, int tiles, float beta) {
  Running r = {};
  r.max = -infinity();
  for (int tile = static_cast<int>(threadIdx.x); tile < tiles; tile += static_cast<int>(blockDim.x)) {
    add_part(&r, parts[tile], beta);
  }
  const Largest largest = block_largest({r.max, r.argmax});
  r.rescale(largest.value, beta);
  r.argmax = largest.index;
  float sums[] = {r.e, r.ez, r.ezz, r.above};
  block_sum(sums);
  r.e = sums[0];
  r.ez = sums[1];
  r.ezz = sums[2];
  r.above = sums[3];
  return r;
}

// 2^exponent twice in bf16; 0 where it would be subnormal.
__device__ inline uint32_t power_pair(float exponent) {
  if (!(exponent >= -126.0f)) return 0;
  const uint32_t bits = static_cast<uint32_t>(static_cast<int>(exponent < 127.0f ? exponent : 127.0f) + 127) << 7;
  return bits | bits << 16;
}

// A row as E holds it: its unit as a probability, the sum of what is stored, what is stored of the label's column, and
// what was taken off every column, a probability.
struct Kept {
  float unit, sum, label, centre;
};

// What the second product leaves out of a row's gradient (native/cpu/head_rows.cpp has the formulas of kinds).
__device__ Ends ends_of(const Softmax &m, const Kept &kept, float z_label) {
  if (m.kind == LETHE_ROW_STATISTICS) return {0.0f, 0.0f, 0.0f, -1};
  if (m.kind == LETHE_ROW_LOGIT_MARGIN) return {m.broken ? nan() : 0.0f, -m.beta, m.beta, m.argmax};
  float of_label = 0.0f;
  if (m.label >= 0) {
    const float p = fast_exp(floored((z_label - m.max) * m.beta)) * m.inverse_sum;
    of_label = (m.kind == LETHE_ROW_NLL ? m.at_label : p) - (kept.unit * kept.label + kept.centre);
  }
  const float of_mean = -(kept.unit * kept.sum + of_label);
  return {m.beta * kept.unit, m.beta * of_mean, m.beta * of_label, m.label};
}

__global__ void __launch_bounds__(kRowThreads, 8) head_fused_rows_kernel(Chunk c) {
  if (*c.closed != 0) return;
  const int64_t index = blockIdx.x;
  const Row row = c.row[index];
  const float mean = c.means[index];
  const Part *parts = c.parts + index * c.tiles;
  Running r = sum_parts(parts, c.tiles, row.beta);

  Softmax m = {};
  m.label = row.label;
  m.kind = row.kind;
  m.beta = row.beta;
  const Others apart = take_sums<false>(&m, &r, c.V, row.label_logit, 0.0f);

  if (threadIdx.x == 0) {
    write_stats<false>(m, r, row.label_logit, apart, mean, 0.0f, c.stats + c.order[index] * LETHE_STATISTICS);
  }
  if (c.weights == nullptr) return;
  const Scale scale(m.beta);
  const float power = scale.power(m.max, -infinity());
  float kept[1] = {0.0f};
  for (int tile = static_cast<int>(threadIdx.x); tile < c.tiles; tile += static_cast<int>(blockDim.x)) {
    const uint32_t pair = power_pair(scale.power(parts[tile].max, mean) - power);
    c.powers[tile * c.power_ld + index] = pair;
    kept[0] += __uint_as_float(pair << 16) * parts[tile].kept;
  }
  block_sum(kept);
  if (threadIdx.x != 0) return;
  Kept own = {m.inverse_sum / scale.weight(m.max, power), kept[0], 0.0f, 0.0f};
  if (fabsf(mean) < infinity()) own.centre = fast_exp(floored((mean - m.max) * m.beta)) * m.inverse_sum;
  if (m.label >= 0) {
    const Part &at = parts[m.label / kColumns];
    const float factor = __uint_as_float(power_pair(scale.power(at.max, mean) - power) << 16);
    own.label = -rounded<bf16>(at.centre) * factor;
  }
  c.ends[index] = ends_of(m, own, row.label_logit);
}

}  // namespace

int rows(Device *device, const Chunk &c) {
  const int64_t moved = int64_t{c.rows} * (int64_t{c.tiles} * 36 + LETHE_STATISTICS * 4 + 32);
  const Shape shape = {"head_fused_rows", {static_cast<unsigned>(c.rows)}, kRowThreads, 0, moved};
  return launch(device, shape, head_fused_rows_kernel, c);
}

}  // namespace lethe::cuda::fused
