// A block's dynamic shared memory on the shim.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace lethe::cuda::shim {

// Just as large as asked, so that a sanitizer sees its ends.
class DynamicShared {
 public:
  explicit DynamicShared(size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    memory_ = std::malloc(bytes + kAlignment);
    if (memory_ == nullptr) throw std::bad_alloc();
    const auto address = reinterpret_cast<uintptr_t>(memory_);
    // The end stays the allocation's end; what the alignment leaves over lies in front.
    start_ = static_cast<char *>(memory_) + (kAlignment - address % kAlignment) % kAlignment;
    slack_ = kAlignment - static_cast<size_t>(start_ - static_cast<char *>(memory_));
#if defined(__SANITIZE_ADDRESS__)
    __asan_poison_memory_region(start_ + bytes, slack_);
#endif
  }
  ~DynamicShared() {
#if defined(__SANITIZE_ADDRESS__)
    if (memory_ != nullptr) __asan_unpoison_memory_region(start_, bytes_ + slack_);
#endif
    std::free(memory_);
  }
  DynamicShared(DynamicShared &&other) noexcept
      : bytes_(other.bytes_), slack_(other.slack_), memory_(other.memory_), start_(other.start_) {
    other.memory_ = nullptr;
  }
  DynamicShared(const DynamicShared &) = delete;
  DynamicShared &operator=(const DynamicShared &) = delete;

  char *start() const { return start_; }
  size_t bytes() const { return bytes_; }
  bool has(const void *address) const {
    const auto at = reinterpret_cast<uintptr_t>(address), from = reinterpret_cast<uintptr_t>(start_);
    return memory_ != nullptr && at >= from && at < from + bytes_;
  }
  // All bits set: NaN in fp32 and in bf16. What has ended may not be used either, until it is forgotten again.
  void forget(bool ended) const {
    if (memory_ == nullptr) return;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(start_, bytes_);
#endif
    std::memset(start_, 0xff, bytes_);
#if defined(__SANITIZE_ADDRESS__)
    if (ended) __asan_poison_memory_region(start_, bytes_);
#else
    static_cast<void>(ended);
#endif
  }

 private:
  static constexpr size_t kAlignment = 1024;
  size_t bytes_, slack_ = 0;
  void *memory_ = nullptr;
  char *start_ = nullptr;
};

}  // namespace lethe::cuda::shim
