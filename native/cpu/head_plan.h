// How the head's passes are cut into chunks, and the checks of what rows ask for.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "device.h"

namespace lethe::cpu {

inline constexpr int64_t kHeadAlignment = 64;

inline int64_t element_bytes(int32_t dtype) { return dtype == LETHE_BF16 ? 2 : 4; }
inline bool has_reference(int32_t kind) { return kind == LETHE_ROW_REFERENCE_KL || kind == LETHE_ROW_KL_REFERENCE; }

// One row alone takes another path through the GEMM than the same row among others: products have two rows at least.
inline int64_t gemm_rows(int64_t rows) { return std::max<int64_t>(rows, 2); }

struct Record {
  int32_t source, label, kind, reference, second;
};
inline Record record(const lethe_head_args &a, int64_t row) {
  const int32_t *r = a.rows + row * LETHE_ROW_FIELDS;
  return {r[0], r[1], r[2], r[3], r[4]};
}

struct Params {
  float temperature, label_shift, mix, epsilon;
};
inline Params params(const lethe_head_args &a, int64_t row) {
  if (a.row_params == nullptr) return {1.0f, 0.0f, 0.0f, 0.0f};
  const float *p = a.row_params + row * LETHE_ROW_PARAMS;
  return {p[0], p[1], p[2], p[3]};
}

// How a chunk lies in the workspace: logits, hidden rows, the result of the second GEMM, and the differences from
// references with their hidden rows.
struct Layout {
  int64_t logits, hidden, product, delta, delta_hidden, bytes;
};
Layout layout(int32_t dtype, int64_t d, int64_t V, int64_t rows, int64_t deltas);

// A difference of hidden rows whose logits a row needs: the reference's minus its own, or the second reference's minus
// the first's.
struct Delta {
  int64_t row;
  bool second;
};

struct Chunk {
  int64_t begin, end;
  std::vector<Delta> deltas;
  int64_t size() const { return end - begin; }
};

// The rows from `begin` on that are next: at least one where check_pass passed. As few chunks as the workspace allows,
// and those about equal, as the rate of a product falls with its rows: W is read once for each.
Chunk next_chunk(const lethe_head_args &a, int64_t begin);

// LETHE_OUT_OF_BOUNDS names the row.
int check_index(const Device *device, int64_t row, const char *name, int32_t index, int64_t bound);
// Records, parameters, workspace and, where references are allowed, their counts.
int check_pass(const Device *device, const lethe_head_args &a, bool allow_reference);

}  // namespace lethe::cpu
