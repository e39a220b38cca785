// Argument checks shared by all ops: sizes, dtypes, bounds and overlap, before a backend sees anything.
#pragma once

#include <array>
#include <initializer_list>
#include <string>
#include <vector>

#include "engine.h"

namespace lethe {

// Dtypes of the checks alone: plain bytes, and counters.
inline constexpr int32_t kByte = -1;
inline constexpr int32_t kInt64 = -2;

// Bytes of one element, or 0 for an unknown dtype.
int64_t dtype_bytes(int32_t dtype);

// Collects the operands of one call. The first failure is kept in status() and later calls do nothing, so an op checks
// all its operands in a row and asks once.
class Operands {
 public:
  explicit Operands(lethe_engine *engine) : engine_(engine) {
    status_ = lethe_engine::check(engine);
    usable_ = status_ == LETHE_OK;
  }

  // A count that may be zero. Here and below a message is made only when it is needed: strings made at every call cost
  // more than the call.
  void size(const char *name, int64_t value) {
    if (value < 0) refuse_size(name, value, "must not be negative");
  }
  // A count that must be at least one.
  void positive(const char *name, int64_t value) {
    if (value < 1) refuse_size(name, value, "must be at least 1");
  }
  void floating(int32_t dtype);
  void require(bool condition, int status, const char *message) {
    if (!condition) refuse(status, message);
  }
  // Fails the call unless it has failed before.
  void refuse(int status, const std::string &message);

  // Operands of the given shape; each dimension may be zero. A strided operand is [rows, width] with `stride` elements
  // from row to row.
  template <class T = void>
  const T *in(const char *name, lethe_ref ref, int32_t dtype, std::initializer_list<int64_t> shape) {
    return static_cast<const T *>(add(name, ref, dtype, shape, Access::kRead));
  }
  template <class T = void>
  T *out(const char *name, lethe_ref ref, int32_t dtype, std::initializer_list<int64_t> shape) {
    return static_cast<T *>(add(name, ref, dtype, shape, Access::kWrite));
  }
  // ref 0 gives null.
  template <class T = void>
  const T *in_or_null(const char *name, lethe_ref ref, int32_t dtype, std::initializer_list<int64_t> shape) {
    return ref == 0 ? nullptr : in<T>(name, ref, dtype, shape);
  }
  template <class T = void>
  T *out_or_null(const char *name, lethe_ref ref, int32_t dtype, std::initializer_list<int64_t> shape) {
    return ref == 0 ? nullptr : out<T>(name, ref, dtype, shape);
  }
  template <class T = void>
  const T *in_rows(const char *name, lethe_ref ref, int32_t dtype, int64_t rows, int64_t width, int64_t stride) {
    return static_cast<const T *>(add_rows(name, ref, dtype, rows, width, stride, Access::kRead));
  }
  template <class T = void>
  T *out_rows(const char *name, lethe_ref ref, int32_t dtype, int64_t rows, int64_t width, int64_t stride) {
    return static_cast<T *>(add_rows(name, ref, dtype, rows, width, stride, Access::kWrite));
  }

  // Fails when a written operand overlaps any other. `may_alias` names pairs an op documents as in place; they may be
  // the very same range, but not a shifted one. Rows of equal stride overlap only where their columns do.
  int finish(std::initializer_list<std::pair<const char *, const char *>> may_alias = {});
  int status() const { return status_; }

 private:
  enum class Access { kRead, kWrite };
  struct Range {
    const char *name;
    const char *begin;
    int64_t rows, width_bytes, stride_bytes;
    Access access;
    const char *end() const { return rows == 0 ? begin : begin + (rows - 1) * stride_bytes + width_bytes; }
  };

  void *add(const char *name, lethe_ref ref, int32_t dtype, std::initializer_list<int64_t> shape, Access access);
  void *add_rows(const char *name, lethe_ref ref, int32_t dtype, int64_t rows, int64_t width, int64_t stride,
                 Access access);
  void *add_bytes(const char *name, lethe_ref ref, int64_t element, int64_t rows, int64_t width_bytes,
                  int64_t stride_bytes, Access access);
  static bool overlap(const Range &a, const Range &b);
  void refuse_size(const char *name, int64_t value, const char *rule);
  void keep(const Range &range);
  const Range &range(size_t i) const { return i < kFew ? few_[i] : more_[i - kFew]; }

  // Ops have at most a dozen operands, but for linears with many adapters.
  static constexpr size_t kFew = 12;

  lethe_engine *engine_;
  int status_ = LETHE_OK;
  bool usable_ = false;  // the engine
  size_t count_ = 0;
  std::array<Range, kFew> few_;
  std::vector<Range> more_;
};

// Calls an op of the backend's table; a backend that lacks it leaves the entry null.
#define LETHE_CALL(engine, op, ...)                             \
  ((engine)->backend->op != nullptr                             \
       ? (engine)->backend->op((engine)->device, ##__VA_ARGS__) \
       : LETHE_FAIL(LETHE_UNSUPPORTED, std::string("backend '") + (engine)->backend->name + "' has no " #op))

}  // namespace lethe
