// What the kernel tests share: an engine, buffers between canaries, seeded numbers, and counted checks.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "backends.h"
#include "lethe.h"
#include "tolerance.h"

namespace kernel_test {

using lethe::test::settled;

inline int checks = 0;
inline int failures = 0;

inline bool expect(bool condition, const std::string &what) {
  ++checks;
  if (!condition && ++failures <= 20) {
    std::fprintf(stderr, "FAILED %s\n  trace: %s\n", what.c_str(), lethe_error_trace());
  }
  return condition;
}

inline int finish(const char *name) {
  std::printf("%s: %d passed, %d failed\n", name, checks - failures, failures);
  return failures == 0 ? 0 : 1;
}

inline int64_t element_bytes(int32_t dtype) { return dtype == LETHE_BF16 ? 2 : 4; }
inline double storage_unit(int32_t dtype) {
  return dtype == LETHE_BF16 ? lethe::tolerance::kBf16Unit : lethe::tolerance::kUnit;
}

inline uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline float from_bf16(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
// What storage makes of a number.
inline float rounded(int32_t dtype, float x) { return dtype == LETHE_BF16 ? from_bf16(to_bf16(x)) : x; }

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  // Uniform in [-scale, scale).
  float next(float scale) {
    const double unit = static_cast<double>(engine_() >> 11) * 0x1p-53;
    return static_cast<float>((2 * unit - 1) * scale);
  }
  std::vector<float> many(int64_t n, float scale, int32_t dtype) {
    std::vector<float> x(static_cast<size_t>(n));
    for (float &v : x) v = rounded(dtype, next(scale));
    return x;
  }

 private:
  std::mt19937_64 engine_;
};

// Numbers in an engine's memory between two canaries.
class Buffer {
 public:
  Buffer(lethe_engine *engine, int32_t dtype, const std::vector<float> &values)
      : engine_(engine), dtype_(dtype), count_(static_cast<int64_t>(values.size())) {
    std::vector<unsigned char> bytes(static_cast<size_t>(2 * kCanary + count_ * element_bytes(dtype)), kPattern);
    for (size_t i = 0; i < values.size(); ++i) {
      unsigned char *at = bytes.data() + kCanary + static_cast<int64_t>(i) * element_bytes(dtype);
      const uint16_t half = to_bf16(values[i]);
      const auto whole = static_cast<int32_t>(values[i]);
      if (dtype == LETHE_BF16) std::memcpy(at, &half, 2);
      if (dtype == LETHE_F32) std::memcpy(at, &values[i], 4);
      if (dtype == LETHE_I32) std::memcpy(at, &whole, 4);
    }
    const auto size = static_cast<int64_t>(bytes.size());
    expect(lethe_buffer_alloc(engine, size, &buffer_) == LETHE_OK, "alloc");
    expect(lethe_write(engine, buffer_, bytes.data(), size) == LETHE_OK, "write");
  }
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;
  ~Buffer() {
    const std::vector<unsigned char> all = bytes();
    bool whole = true;
    for (int64_t i = 0; i < kCanary; ++i) {
      whole =
          whole && all[static_cast<size_t>(i)] == kPattern && all[all.size() - 1 - static_cast<size_t>(i)] == kPattern;
    }
    expect(whole, "canaries around a buffer");
    lethe_buffer_free(engine_, buffer_);
  }

  // The ref of element `offset`.
  lethe_ref ref(int64_t offset = 0) const {
    return buffer_ + static_cast<lethe_ref>(kCanary + offset * element_bytes(dtype_));
  }
  std::vector<float> read() const {
    const std::vector<unsigned char> all = bytes();
    std::vector<float> values(static_cast<size_t>(count_));
    for (size_t i = 0; i < values.size(); ++i) {
      const unsigned char *at = all.data() + kCanary + static_cast<int64_t>(i) * element_bytes(dtype_);
      uint16_t half;
      if (dtype_ == LETHE_BF16) {
        std::memcpy(&half, at, 2);
        values[i] = from_bf16(half);
      } else {
        std::memcpy(&values[i], at, 4);
      }
    }
    return values;
  }

 private:
  static constexpr int64_t kCanary = 192;
  static constexpr unsigned char kPattern = 0xA5;

  std::vector<unsigned char> bytes() const {
    std::vector<unsigned char> all(static_cast<size_t>(2 * kCanary + count_ * element_bytes(dtype_)));
    expect(lethe_read(engine_, buffer_, all.data(), static_cast<int64_t>(all.size())) == LETHE_OK, "read");
    return all;
  }

  lethe_engine *engine_;
  int32_t dtype_;
  int64_t count_;
  lethe_ref buffer_ = 0;
};

inline bool same_bits(const std::vector<float> &a, const std::vector<float> &b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

// Calls body(engine, name) for each backend of the command line; a processor that lacks one's instructions is no
// failure.
template <class Body>
void on_each_backend(int argc, char **argv, int threads, Body &&body) {
  const lethe::test::CommandLine line(argc, argv);
  for (const std::string &backend : line.backends) {
    lethe_engine *engine = nullptr;
    const int status = lethe_engine_open(backend.c_str(), line.plugins, threads, &engine);
    if (status == LETHE_NO_DEVICE && std::strstr(lethe_error_trace(), "lacks the instructions") != nullptr) {
      std::printf("%s: skipped, this processor lacks its instructions\n", backend.c_str());
      continue;
    }
    if (!expect(status == LETHE_OK, "open " + backend)) continue;
    body(engine, backend);
    expect(lethe_engine_close(engine) == LETHE_OK, "close");
  }
}

}  // namespace kernel_test
