// The ops that are timed: how each is set up at a shape, and what it reads, writes and computes at least.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "device.h"

namespace lethe::bench {

struct Output {
  lethe_ref ref;
  int64_t n;
  int32_t dtype;
};

// One op at one shape on one device.
struct Work {
  std::function<void()> call;
  std::vector<Output> outputs;  // what is compared with the CPU's
  double bytes = 0;             // least that is read and written
  double flops = 0;             // of matrix products
  // M, N, K of the products that flops counts, each as often; M 0: the largest that a call is seen to launch for N.
  std::vector<std::vector<int64_t>> products = {};
};

// What a case's time is held against.
enum class Ceiling {
  kCopy,      // a copy's bandwidth
  kProducts,  // its own matrix products at their shapes, as plain linears
  kNone
};

struct Case {
  std::string name, shape;
  int32_t dtype;
  Ceiling ceiling;
  double limit;                         // share of the ceiling that is asked for; 0: none
  std::function<Work(Device &)> small;  // at a shape that the CPU does in a moment
  std::function<Work(Device &)> full;
  bool full_only = false;  // another case has the same small shape
  // Set in the environment while the engine opens that is timed: a form of an op; null: as the environment has it.
  const char *variable = nullptr, *form = nullptr;
};

std::vector<Case> memory_cases();
// forms, augmented: also in the forms that only some backends have.
std::vector<Case> matrix_cases(bool forms);
std::vector<Case> linear_cases(bool augmented);
// A linear without adapters: the rate that matrix products reach.
Work plain_linear(Device &device, int32_t dtype, int64_t rows, int64_t out, int64_t in);
Work copy_work(Device &device, int64_t bytes);

}  // namespace lethe::bench
