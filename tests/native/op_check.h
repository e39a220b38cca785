// What the native tests of single ops share: an engine, operands between canaries, and counted expectations.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "backends.h"
#include "lethe.h"

namespace lethe::test {

using Numbers = std::vector<double>;

inline int passed = 0;
inline int failed = 0;

// The same numbers on every machine; std's distributions are not.
class Generator {
 public:
  explicit Generator(uint64_t seed) : state_(seed) {}
  uint64_t bits() {  // SplitMix64 (Steele, Lea & Flood 2014)
    uint64_t x = state_ += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
  }
  // Uniform in (-1, 1).
  double uniform() { return (static_cast<double>(bits() >> 11) + 0.5) * 0x1p-52 - 1.0; }
  int64_t below(int64_t n) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(n)); }

 private:
  uint64_t state_;
};

inline int64_t element_bytes(int32_t dtype) { return dtype == LETHE_BF16 ? 2 : 4; }

// The storage of x, rounded to nearest even.
inline uint32_t encode(double x, int32_t dtype) {
  const float f = static_cast<float>(x);
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  return dtype == LETHE_BF16 ? (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16 : bits;
}
inline double decode(uint32_t stored, int32_t dtype) {
  const uint32_t bits = dtype == LETHE_BF16 ? stored << 16 : stored;
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

// n numbers in (-scale, scale) that the dtype holds exactly.
inline Numbers numbers(Generator *generator, int64_t n, int32_t dtype, double scale = 1.0) {
  Numbers x(static_cast<size_t>(n));
  for (double &v : x) v = decode(encode(scale * generator->uniform(), dtype), dtype);
  return x;
}

// One buffer of an engine; operands stand in it with canaries before, between and behind them.
class Operands {
 public:
  Operands(lethe_engine *engine, int64_t bytes) : engine_(engine), shadow_(static_cast<size_t>(bytes), kCanary) {
    status_ = lethe_buffer_alloc(engine, bytes, &buffer_);
  }
  ~Operands() { lethe_buffer_free(engine_, buffer_); }
  Operands(const Operands &) = delete;
  Operands &operator=(const Operands &) = delete;

  // `offset` elements off a 64-byte boundary.
  lethe_ref add(const Numbers &x, int32_t dtype, int64_t offset = 0) {
    std::vector<char> bytes(x.size() * static_cast<size_t>(element_bytes(dtype)));
    for (size_t i = 0; i < x.size(); ++i) {
      const uint32_t stored = encode(x[i], dtype);
      std::memcpy(bytes.data() + i * static_cast<size_t>(element_bytes(dtype)), &stored,
                  static_cast<size_t>(element_bytes(dtype)));
    }
    return add_bytes(bytes.data(), static_cast<int64_t>(bytes.size()), offset * element_bytes(dtype));
  }
  lethe_ref add(const std::vector<uint8_t> &x, int64_t offset = 0) {
    return add_bytes(reinterpret_cast<const char *>(x.data()), static_cast<int64_t>(x.size()), offset);
  }
  lethe_ref add(const std::vector<int32_t> &x, int64_t offset = 0) {
    return add_bytes(reinterpret_cast<const char *>(x.data()), static_cast<int64_t>(x.size() * 4), offset * 4);
  }

  // Everything to the device; refs may be used from here on.
  bool upload() {
    return status_ == LETHE_OK &&
           lethe_write(engine_, buffer_, shadow_.data(), static_cast<int64_t>(shadow_.size())) == LETHE_OK;
  }

  Numbers read(lethe_ref ref, int64_t n, int32_t dtype) const {
    std::vector<char> bytes(static_cast<size_t>(n * element_bytes(dtype)));
    Numbers x(static_cast<size_t>(n), std::nan(""));
    if (n == 0 || lethe_read(engine_, ref, bytes.data(), static_cast<int64_t>(bytes.size())) != LETHE_OK) return x;
    for (int64_t i = 0; i < n; ++i) {
      uint32_t stored = 0;
      std::memcpy(&stored, bytes.data() + i * element_bytes(dtype), static_cast<size_t>(element_bytes(dtype)));
      x[static_cast<size_t>(i)] = decode(stored, dtype);
    }
    return x;
  }

  std::vector<uint8_t> read_bytes(lethe_ref ref, int64_t n) const {
    std::vector<uint8_t> bytes(static_cast<size_t>(n));
    if (n > 0 && lethe_read(engine_, ref, bytes.data(), n) != LETHE_OK) bytes.clear();
    return bytes;
  }

  // Whether nothing but the operands in `written` differs from what was uploaded.
  bool intact(const std::vector<lethe_ref> &written) const {
    std::vector<char> now(shadow_.size());
    if (lethe_read(engine_, buffer_, now.data(), static_cast<int64_t>(now.size())) != LETHE_OK) return false;
    std::vector<char> expected = shadow_;
    for (const Place &place : places_) {
      for (const lethe_ref ref : written) {
        if (buffer_ + static_cast<uint64_t>(place.begin) != ref) continue;
        std::memcpy(expected.data() + place.begin, now.data() + place.begin, static_cast<size_t>(place.bytes));
      }
    }
    return now == expected;
  }

 private:
  static constexpr char kCanary = 0x5a;
  struct Place {
    int64_t begin, bytes;
  };

  lethe_ref add_bytes(const char *bytes, int64_t count, int64_t offset) {
    const int64_t begin = (used_ + 127) / 64 * 64 + offset;
    if (begin + count + 64 > static_cast<int64_t>(shadow_.size())) {
      status_ = LETHE_OUT_OF_MEMORY;
      return 0;
    }
    if (count > 0) std::memcpy(shadow_.data() + begin, bytes, static_cast<size_t>(count));
    used_ = begin + count;
    places_.push_back({begin, count});
    return buffer_ + static_cast<uint64_t>(begin);
  }

  lethe_engine *engine_;
  lethe_ref buffer_ = 0;
  int status_;
  int64_t used_ = 0;
  std::vector<char> shadow_;
  std::vector<Place> places_;
};

inline void expect(bool condition, const std::string &what) {
  ++(condition ? passed : failed);
  if (!condition) std::fprintf(stderr, "FAILED %s\n  trace: %s\n", what.c_str(), lethe_error_trace());
}

// Every |got - want| within its bound; a NaN is not.
inline void expect_close(const Numbers &got, const Numbers &want, const Numbers &bound, const std::string &what) {
  bool close = got.size() == want.size() && bound.size() == want.size();
  std::string worst;
  for (size_t i = 0; close && i < want.size(); ++i) {
    if (!(std::fabs(got[i] - want[i]) <= bound[i])) {
      close = false;
      char text[160];
      std::snprintf(text, sizeof text, ": [%zu] is %.9g, expected %.9g +- %.3g", i, got[i], want[i], bound[i]);
      worst = text;
    }
  }
  expect(close, what + worst);
}

// Equal as numbers.
inline void expect_equal(const Numbers &got, const Numbers &want, const std::string &what) {
  expect_close(got, want, Numbers(want.size(), 0.0), what);
}

// Runs the tests on each backend of the command line; 77 where the machine can run none of them, which is no failure.
template <class Tests>
int run_tests(const char *name, int argc, char **argv, Tests &&tests) {
  const CommandLine line(argc, argv);
  size_t skipped = 0;
  for (const std::string &backend : line.backends) {
    lethe_engine *engine = nullptr;
    const int status = lethe_engine_open(backend.c_str(), line.plugins, 2, &engine);
    if (status == LETHE_NO_DEVICE) {
      std::printf("%s: skipped: %s\n", name, lethe_error_trace());
      ++skipped;
      continue;
    }
    expect(status == LETHE_OK, "engine");
    if (engine == nullptr) continue;
    tests(engine, line.plugins, backend.c_str());
    expect(lethe_engine_close(engine) == LETHE_OK, "close");
    std::printf("%s %s: %d passed, %d failed\n", name, backend.c_str(), passed, failed);
  }
  if (skipped == line.backends.size()) return 77;
  return failed == 0 ? 0 : 1;
}

}  // namespace lethe::test
