// A backend under test: memory that is given back after each case, numbers, and times.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "lethe.h"

namespace lethe::bench {

// What a call of lethe.h says when it fails; ends the case, not the program.
struct Failure {
  int status;
  std::string trace;
};

class Device {
 public:
  Device(const char *plugins, const std::string &backend, int threads);
  ~Device();
  Device(const Device &) = delete;
  Device &operator=(const Device &) = delete;

  lethe_engine *engine() const { return engine_; }
  const std::string &description() const { return description_; }
  bool is_cpu() const { return backend_.compare(0, 3, "cpu") == 0; }

  lethe_ref bytes(int64_t count);
  // The same normal numbers on every backend (small ones are made here and written).
  lethe_ref normal(int32_t dtype, int64_t n, float deviation, uint64_t seed);
  lethe_ref constant(int64_t n, float value);  // fp32
  lethe_ref ints(const std::vector<int32_t> &values);
  std::vector<float> read(lethe_ref ref, int64_t n, int32_t dtype);
  void free_all();

  void wait();
  // Milliseconds of one call: `samples` medians of as many calls that launching and waiting counts for less than one
  // in a hundred; a buffer beyond any L2 is written before each.
  struct Times {
    double median = 0, least = 0, most = 0;
    int samples = 0, calls = 0;
  };
  Times time(const std::function<void()> &call, int samples, double most_seconds);

  // What one call launches, as lethe_launches writes it down; empty where the backend does not.
  struct Launches {
    int kernels = 0, waits = 0;
    int64_t bytes = 0;
    std::vector<std::vector<int64_t>> gemms;  // M, N, K
  };
  Launches launches(const std::function<void()> &call);

 private:
  double seconds(const std::function<void()> &call, int calls);

  std::string backend_, description_;
  lethe_engine *engine_ = nullptr;
  std::vector<lethe_ref> buffers_;
  lethe_ref flush_ = 0;
  int64_t flush_bytes_ = 0;
  double overhead_ = 0;  // seconds of a wait after next to nothing
};

// Throws what went wrong.
void require(int status);
int64_t element_bytes(int32_t dtype);

}  // namespace lethe::bench
