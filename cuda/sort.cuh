// A stable sort by small keys: what must be added up in order is found next to each other.
#pragma once

#include "device.cuh"

namespace lethe::cuda {

class KeySort {
 public:
  // Takes its room among `pieces`. Keys lie in [0, bound).
  KeySort(int64_t n, int64_t bound, Pieces *pieces);

  // Sorts keys[n] in `memory`, which has the pieces; does nothing behind a closed gate.
  int run(Device *device, const int32_t *keys, const Gate &gate, char *memory);

  // The keys by size, and where each stood: equal ones in their order.
  const int32_t *keys() const { return keys_; }
  const int32_t *order() const { return order_; }

 private:
  int64_t n_, passes_, tile_, blocks_;
  int64_t counts_at_, keys_at_[2], order_at_[2];
  const int32_t *keys_ = nullptr, *order_ = nullptr;
};

}  // namespace lethe::cuda
