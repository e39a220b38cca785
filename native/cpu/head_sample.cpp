// Sampling from the head. The randomness is Philox4x32-10 with the seed as key and the draw as
// counter: the number for a draw is a function of the two alone.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "device.h"
#include "gemm.h"
#include "head_logits.h"
#include "philox.h"
#include "vector_math.h"

namespace lethe::cpu {
namespace {

// In [0, 1), with 53 bits.
double uniform(int64_t seed, int64_t draw) {
  uint32_t x[4] = {static_cast<uint32_t>(draw), static_cast<uint32_t>(static_cast<uint64_t>(draw) >> 32), 0, 0};
  philox::rounds(x, static_cast<uint64_t>(seed));
  const uint64_t bits = static_cast<uint64_t>(x[0]) << 32 | x[1];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

// Turns logits into e^((z - max) / temperature). False when they hold a NaN or an infinite maximum.
bool to_weights(float *z, int64_t V, float inverse_temperature) {
  float max = -std::numeric_limits<float>::infinity();
  bool nan = false;
  for (int64_t v = 0; v < V; ++v) {
    max = std::max(max, z[v]);
    nan |= std::isnan(z[v]);
  }
  if (nan || !std::isfinite(max)) return false;
  int64_t v = 0;
  for (; v + kLanes <= V; v += kLanes) store(z + v, exp((load(z + v) - max) * inverse_temperature));
  if (v < V) store_tail(z + v, exp((load_tail(z + v, V - v, max) - max) * inverse_temperature), V - v);
  return true;
}

// The index at which the running sum of the weights passes u of their total; never one of weight 0.
template <class Weight>
int64_t invert(double u, int64_t count, Weight &&weight) {
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += weight(i);
  double running = 0;
  int64_t last = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (weight(i) > 0) last = i;
    running += weight(i);
    if (running > u * total) return i;
  }
  return last;
}

// The largest weights first, equal ones by index, until top_k of them are taken or their share of the top_k reaches
// top_p.
std::vector<int32_t> keep(const float *weight, int64_t V, int32_t top_k, float top_p) {
  std::vector<int32_t> order(static_cast<size_t>(V));
  for (int64_t v = 0; v < V; ++v) order[static_cast<size_t>(v)] = static_cast<int32_t>(v);
  const auto before = [weight](int32_t a, int32_t b) {
    return weight[a] > weight[b] || (weight[a] == weight[b] && a < b);
  };
  if (top_k > 0 && top_k < V) {
    std::nth_element(order.begin(), order.begin() + top_k, order.end(), before);
    order.resize(static_cast<size_t>(top_k));
    std::sort(order.begin(), order.end());
  }
  if (top_p < 1.0f) {
    double total = 0;
    for (const int32_t v : order) total += static_cast<double>(weight[v]);
    const auto after = [&before](int32_t a, int32_t b) { return before(b, a); };
    std::make_heap(order.begin(), order.end(), after);
    std::vector<int32_t> kept;
    for (double running = 0; running < static_cast<double>(top_p) * total && !order.empty();) {
      std::pop_heap(order.begin(), order.end(), after);
      running += static_cast<double>(weight[order.back()]);
      kept.push_back(order.back());
      order.pop_back();
    }
    return kept;
  }
  return order;
}

int32_t draw(const float *weight, const lethe_sample_args &a, int64_t row) {
  const double u = uniform(a.seed, a.draws[row]);
  if (a.top_k == 0 && a.top_p >= 1.0f) {
    return static_cast<int32_t>(invert(u, a.V, [weight](int64_t v) { return static_cast<double>(weight[v]); }));
  }
  const std::vector<int32_t> kept = keep(weight, a.V, a.top_k, a.top_p);
  const int64_t at = invert(u, static_cast<int64_t>(kept.size()),
                            [&](int64_t i) { return static_cast<double>(weight[kept[static_cast<size_t>(i)]]); });
  return kept[static_cast<size_t>(at)];
}

}  // namespace

int head_sample(Device *device, const lethe_sample_args *args) {
  return run(device, __func__, [&] {
    const lethe_sample_args &a = *args;
    if (a.n == 0) return static_cast<int>(LETHE_OK);
    const int64_t width = a.d * (a.dtype == LETHE_BF16 ? 2 : 4);
    // A row of logits, and its hidden row: copied, so that one row alone can be made two for the GEMM.
    const int64_t row_bytes = a.V * 4 + width;
    const int64_t capacity = a.workspace_bytes / row_bytes;
    if (capacity < 2) {
      return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT,
                            "the workspace has " + std::to_string(a.workspace_bytes) + " bytes, sampling needs " +
                                std::to_string(2 * row_bytes));
    }
    std::vector<float> bias;
    for (int64_t v = 0; a.bias != nullptr && v < a.V; ++v) {
      bias.push_back(a.dtype == LETHE_BF16 ? to_float(static_cast<const bf16 *>(a.bias)[v])
                                           : static_cast<const float *>(a.bias)[v]);
    }
    std::vector<char> broken(static_cast<size_t>(a.n), 0);
    for (int64_t begin = 0; begin < a.n; begin += capacity) {
      const int64_t count = std::min(capacity, a.n - begin);
      const int64_t rows = std::max<int64_t>(count, 2);
      float *z = static_cast<float *>(a.workspace);
      char *hidden = static_cast<char *>(a.workspace) + rows * a.V * 4;
      std::memset(hidden + count * width, 0, static_cast<size_t>((rows - count) * width));
      std::memcpy(hidden, static_cast<const char *>(a.h) + begin * width, static_cast<size_t>(count * width));
      gemm(device, {a.dtype, LETHE_F32, rows, a.V, a.d, {hidden, a.d}, {a.w, a.d, true}, z, a.V});
#pragma omp parallel for schedule(static)
      for (int64_t i = 0; i < count; ++i) {
        float *row = z + i * a.V;
        if (a.bias != nullptr || a.soft_cap > 0)
          finish_logits(row, bias.empty() ? nullptr : bias.data(), SoftCap(a.soft_cap), a.V);
        if (to_weights(row, a.V, 1.0f / a.temperature)) {
          a.ids[begin + i] = draw(row, a, begin + i);
        } else {
          broken[static_cast<size_t>(begin + i)] = 1;
        }
      }
    }
    for (int64_t i = 0; i < a.n; ++i) {
      if (broken[static_cast<size_t>(i)] != 0) {
        return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT,
                              "row " + std::to_string(i) + ": its logits are not finite, nothing can be drawn");
      }
    }
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
