// Memory an op needs while it runs. It grows to the largest request and stays, so that a step allocates nothing after
// the first ones.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace lethe::cpu {

class Scratch {
 public:
  // At least `bytes`, 64-byte aligned; what it held before is lost.
  void *bytes(int64_t bytes) {
    if (bytes > capacity_) {
      constexpr int64_t kAlignment = 64;
      const int64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
      memory_.reset();
      capacity_ = 0;
      memory_.reset(std::aligned_alloc(kAlignment, static_cast<size_t>(rounded)));
      if (memory_ == nullptr) throw std::bad_alloc();
      capacity_ = rounded;
    }
    return memory_.get();
  }
  template <class T>
  T *of(int64_t count) {
    return static_cast<T *>(bytes(count * static_cast<int64_t>(sizeof(T))));
  }

 private:
  struct Free {
    void operator()(void *p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> memory_;
  int64_t capacity_ = 0;
};

}  // namespace lethe::cpu
