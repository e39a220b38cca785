#include "check.h"

#include <cstring>

namespace lethe {
namespace {

bool multiply(int64_t a, int64_t b, int64_t *product) { return !__builtin_mul_overflow(a, b, product); }

}  // namespace

int64_t dtype_bytes(int32_t dtype) {
  switch (dtype) {
    case LETHE_F32:
    case LETHE_I32:
      return 4;
    case LETHE_BF16:
      return 2;
    case kByte:
      return 1;
    case kInt64:
      return 8;
    default:
      return 0;
  }
}

void Operands::refuse(int status, const std::string &message) {
  if (status_ == LETHE_OK) status_ = LETHE_FAIL(status, message);
}

void Operands::refuse_size(const char *name, int64_t value, const char *rule) {
  refuse(LETHE_INVALID_ARGUMENT, std::string(name) + " is " + std::to_string(value) + ", " + rule);
}

void Operands::keep(const Range &range) {
  if (count_ < kFew) {
    few_[count_] = range;
  } else {
    more_.push_back(range);
  }
  ++count_;
}

void Operands::floating(int32_t dtype) {
  if (dtype == LETHE_F32 || dtype == LETHE_BF16) return;
  refuse(LETHE_INVALID_ARGUMENT, "dtype " + std::to_string(dtype) + " is not LETHE_F32 or LETHE_BF16");
}

void *Operands::add(const char *name, lethe_ref ref, int32_t dtype, std::initializer_list<int64_t> shape,
                    Access access) {
  if (status_ != LETHE_OK) return nullptr;
  int64_t bytes = dtype_bytes(dtype);
  for (const int64_t extent : shape) {
    size(name, extent);
    if (status_ != LETHE_OK) return nullptr;
    if (!multiply(bytes, extent, &bytes)) {
      status_ = LETHE_FAIL(LETHE_INVALID_ARGUMENT, std::string("the size of ") + name + " overflows 64 bits");
      return nullptr;
    }
  }
  return add_bytes(name, ref, dtype_bytes(dtype), bytes == 0 ? 0 : 1, bytes, bytes, access);
}

void *Operands::add_rows(const char *name, lethe_ref ref, int32_t dtype, int64_t rows, int64_t width, int64_t stride,
                         Access access) {
  if (status_ != LETHE_OK) return nullptr;
  size(name, rows);
  size(name, width);
  if (stride < width) {
    refuse(LETHE_INVALID_ARGUMENT, std::string(name) + " has rows of " + std::to_string(width) +
                                       " elements but a stride of " + std::to_string(stride));
  }
  if (status_ != LETHE_OK) return nullptr;
  int64_t width_bytes = 0;
  int64_t stride_bytes = 0;
  int64_t total = 0;
  if (!multiply(width, dtype_bytes(dtype), &width_bytes) || !multiply(stride, dtype_bytes(dtype), &stride_bytes) ||
      !multiply(rows, stride_bytes, &total)) {
    status_ = LETHE_FAIL(LETHE_INVALID_ARGUMENT, std::string("the size of ") + name + " overflows 64 bits");
    return nullptr;
  }
  return add_bytes(name, ref, dtype_bytes(dtype), rows, width_bytes, stride_bytes, access);
}

void *Operands::add_bytes(const char *name, lethe_ref ref, int64_t element, int64_t rows, int64_t width_bytes,
                          int64_t stride_bytes, Access access) {
  if (ref == 0) {
    status_ = LETHE_FAIL(LETHE_INVALID_ARGUMENT, std::string(name) + " is none (ref 0) but needed");
    return nullptr;
  }
  char *address = nullptr;
  int64_t available = 0;
  const int status = engine_->resolve(ref, &address, &available);
  if (status != LETHE_OK) {
    status_ = LETHE_FAIL(status, std::string("operand ") + name);
    return nullptr;
  }
  const int64_t needed = rows == 0 ? 0 : (rows - 1) * stride_bytes + width_bytes;
  if (needed > available) {
    status_ =
        LETHE_FAIL(LETHE_OUT_OF_BOUNDS, std::string(name) + " needs " + std::to_string(needed) +
                                            " bytes, its buffer has " + std::to_string(available) + " from there");
    return nullptr;
  }
  // A GPU that reads a number across its own boundary loses its context.
  if (needed > 0 && element > 1 && reinterpret_cast<uintptr_t>(address) % static_cast<uintptr_t>(element) != 0) {
    status_ = LETHE_FAIL(LETHE_INVALID_ARGUMENT, std::string(name) + " does not start at a multiple of " +
                                                     std::to_string(element) + " bytes, the size of its elements");
    return nullptr;
  }
  if (needed > 0) keep({name, address, rows, width_bytes, stride_bytes, access});
  return address;
}

bool Operands::overlap(const Range &a, const Range &b) {
  if (a.end() <= b.begin || b.end() <= a.begin) return false;
  if (a.stride_bytes != b.stride_bytes || (a.rows == 1 && b.rows == 1)) return true;
  // Column slices of one matrix: disjoint when the second starts after the first's columns and ends before its next
  // row.
  const Range &low = a.begin <= b.begin ? a : b;
  const Range &high = a.begin <= b.begin ? b : a;
  const int64_t shift = (high.begin - low.begin) % low.stride_bytes;
  return shift < low.width_bytes || shift + high.width_bytes > low.stride_bytes;
}

int Operands::finish(std::initializer_list<std::pair<const char *, const char *>> may_alias) {
  for (size_t i = 0; status_ == LETHE_OK && i < count_; ++i) {
    for (size_t j = i + 1; status_ == LETHE_OK && j < count_; ++j) {
      const Range &a = range(i);
      const Range &b = range(j);
      if ((a.access == Access::kRead && b.access == Access::kRead) || !overlap(a, b)) continue;
      bool allowed = false;
      for (const auto &pair : may_alias) {
        const bool named = (std::strcmp(pair.first, a.name) == 0 && std::strcmp(pair.second, b.name) == 0) ||
                           (std::strcmp(pair.first, b.name) == 0 && std::strcmp(pair.second, a.name) == 0);
        allowed = allowed || (named && a.begin == b.begin);
      }
      if (!allowed) {
        status_ = LETHE_FAIL(LETHE_OVERLAP, std::string(a.name) + " and " + b.name + " overlap in memory");
      }
    }
  }
  if (status_ != LETHE_OK && usable_) engine_->capture_failed = true;
  return status_;
}

}  // namespace lethe
