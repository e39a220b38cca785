// How a linear layer's adapters are spread over matrix products: as few as their places in memory allow.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "device.cuh"
#include "dropout.cuh"

namespace lethe::cuda {

inline const void *at(const lethe_linear_args &a, const void *p, int64_t elements) {
  return static_cast<const char *>(p) + elements * element_bytes(a.dtype);
}
inline void *at(const lethe_linear_args &a, void *p, int64_t elements) {
  return static_cast<char *>(p) + elements * element_bytes(a.dtype);
}

inline bool drops(const lethe_linear_args &a, const lethe_adapter &adapter) {
  return a.row_keys != nullptr && adapter.dropout > 0;
}
inline bool any_drops(const lethe_linear_args &a) {
  return std::any_of(a.adapters, a.adapters + a.adapter_count, [&](const lethe_adapter &p) { return drops(a, p); });
}
inline float scale_of(const lethe_linear_args &a, const lethe_adapter &adapter) {
  if (!drops(a, adapter)) return adapter.scale;
  return static_cast<float>(static_cast<double>(adapter.scale) / (1.0 - static_cast<double>(adapter.dropout)));
}
// The least word that keeps a column; below 2^32, as no float lies between 1 - 2^-24 and 1.
inline Mask mask_of(const lethe_linear_args &a, const lethe_adapter &adapter) {
  if (!drops(a, adapter)) return {0, 0};
  return {adapter.key, static_cast<uint32_t>(std::ceil(static_cast<double>(adapter.dropout) * 0x1p32))};
}

// Elements from one operand of a's to the next; 0 where they are no such number, or it is not positive.
inline int64_t elements_between(const void *earlier, const void *later, int64_t width) {
  const auto bytes = static_cast<int64_t>(reinterpret_cast<uintptr_t>(later)) -
                     static_cast<int64_t>(reinterpret_cast<uintptr_t>(earlier));
  return bytes > 0 && bytes % width == 0 ? bytes / width : 0;
}

// Adapters that one product serves: neighbours that lie behind each other are one wide operand, neighbours in equal
// steps a batch of products of equal size.
struct Run {
  int64_t first, count;
  int64_t column, rank;  // their columns of u; rank: of one of the batch's products
  bool stacked;
  int64_t outputs, memory;  // a batch's steps along the outputs, and from operand to operand

  int64_t batch() const { return stacked ? 1 : count; }
};

// What may join: whether the later one's operand lies behind the earlier one's; and the steps from one to the other, of
// which those in memory are 0 where they make no batch.
struct Join {
  bool stacked;
  int64_t outputs, memory;
};
template <class JoinOf>
std::vector<Run> runs_of(const lethe_linear_args &a, JoinOf &&join_of) {
  std::vector<Run> runs;
  int64_t column = 0;
  for (int64_t i = 0; i < a.adapter_count; column += a.adapters[i].rank, ++i) {
    const lethe_adapter &adapter = a.adapters[i];
    const Join join = i > 0 ? join_of(a.adapters[i - 1], adapter) : Join{};
    Run *last = i > 0 ? &runs.back() : nullptr;
    if (join.stacked && (last->count == 1 || last->stacked)) {
      last->stacked = true;
      last->rank += adapter.rank;
      ++last->count;
    } else if (join.memory > 0 && !last->stacked &&
               (last->count == 1 || (last->outputs == join.outputs && last->memory == join.memory))) {
      last->outputs = join.outputs;
      last->memory = join.memory;
      ++last->count;
    } else {
      runs.push_back({i, 1, column, adapter.rank, false, 0, 0});
    }
  }
  return runs;
}

inline bool inputs_stacked(const lethe_linear_args &a, const lethe_adapter &earlier, const lethe_adapter &later) {
  return at(a, earlier.a, earlier.rank * a.in) == later.a;
}

// How products over the inputs join, of operands [rank, in] with `width` bytes an element.
inline Join join_inputs(const lethe_linear_args &a, const lethe_adapter &earlier, const lethe_adapter &later,
                        const void *from, const void *to, int64_t width) {
  if (drops(a, earlier) || drops(a, later)) return {};
  const int64_t between = elements_between(from, to, width);
  return {between == earlier.rank * a.in, 0, earlier.rank == later.rank ? between : 0};
}

// The same over the outputs, of operands [part_out, rank]: equal parts that do not overlap.
inline Join join_outputs(const lethe_adapter &earlier, const lethe_adapter &later, const void *from, const void *to,
                         int64_t width) {
  const int64_t outputs = later.first_out - earlier.first_out;
  const bool equal = earlier.rank == later.rank && earlier.part_out == later.part_out && outputs >= earlier.part_out;
  return {false, outputs, equal ? elements_between(from, to, width) : 0};
}

}  // namespace lethe::cuda
