#include "head_plan.h"

#include <cmath>
#include <limits>
#include <string>

namespace lethe::cpu {
namespace {

int64_t aligned(int64_t bytes) { return (bytes + kHeadAlignment - 1) / kHeadAlignment * kHeadAlignment; }

// How many differences a row needs.
int64_t deltas_of(const lethe_head_args &a, int64_t row) {
  if (!has_reference(record(a, row).kind)) return 0;
  return params(a, row).mix != 0 ? 2 : 1;
}

std::string in_row(int64_t row, const std::string &what) { return "row " + std::to_string(row) + ": " + what; }

int check_reference(const Device *device, const lethe_head_args &a, int64_t row) {
  const Record r = record(a, row);
  const Params p = params(a, row);
  if (r.reference == -1) {
    return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT, in_row(row, "a reference kind needs a reference source"));
  }
  int status = check_index(device, row, "reference source", r.reference, a.sources);
  if (status != LETHE_OK) return status;
  if (!(p.mix >= 0 && std::isfinite(p.mix) && std::isfinite(p.label_shift))) {
    return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT,
                          in_row(row, "label_shift must be finite, mix finite and not negative"));
  }
  if (p.label_shift != 0 && r.label == -1) {
    return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT, in_row(row, "a label_shift needs a label"));
  }
  if (p.mix == 0) return LETHE_OK;
  if (r.second == -1) {
    return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT, in_row(row, "a mix needs a second reference source"));
  }
  return check_index(device, row, "second reference source", r.second, a.sources);
}

int check_params(const Device *device, const lethe_head_args &a, int64_t row) {
  const Record r = record(a, row);
  const Params p = params(a, row);
  if (!(p.temperature > 0 && std::isfinite(p.temperature))) {
    return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT, in_row(row, "the temperature must be finite and above 0"));
  }
  if (!has_reference(r.kind) && (p.label_shift != 0 || p.mix != 0)) {
    return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT,
                          in_row(row, "label_shift and mix act on a reference; this kind has none"));
  }
  const bool smoothed = r.kind == LETHE_ROW_UNIFORM_KL_EPS;
  if (smoothed && !(p.epsilon >= std::numeric_limits<float>::min() && std::isfinite(p.epsilon))) {
    return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT,
                          in_row(row, "LETHE_ROW_UNIFORM_KL_EPS needs an epsilon above 0 that is no subnormal number"));
  }
  if (!smoothed && p.epsilon != 0) {
    return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT,
                          in_row(row, "an epsilon belongs to LETHE_ROW_UNIFORM_KL_EPS alone"));
  }
  return LETHE_OK;
}

int check_row(const Device *device, const lethe_head_args &a, int64_t row, bool allow_reference) {
  const Record r = record(a, row);
  int status = check_index(device, row, "source", r.source, a.sources);
  if (status == LETHE_OK && r.label != -1) status = check_index(device, row, "label", r.label, a.V);
  if (status != LETHE_OK) return status;
  if (r.kind < LETHE_ROW_STATISTICS || r.kind > LETHE_ROW_UNIFORM_KL_EPS) {
    return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT, in_row(row, "unknown kind " + std::to_string(r.kind)));
  }
  if (r.kind == LETHE_ROW_NLL && r.label == -1) {
    return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT, in_row(row, "LETHE_ROW_NLL needs a label"));
  }
  if (has_reference(r.kind)) {
    if (!allow_reference) {
      return LETHE_CPU_FAIL(device, LETHE_UNSUPPORTED, in_row(row, "a trained head has no reference to compare with"));
    }
    status = check_reference(device, a, row);
    if (status != LETHE_OK) return status;
  }
  return check_params(device, a, row);
}

// The counts promise how much of the workspace references take before the rows can be looked at.
int check_counts(const Device *device, const lethe_head_args &a) {
  int64_t references = 0, seconds = 0;
  for (int64_t row = 0; row < a.n; ++row) {
    const int64_t deltas = deltas_of(a, row);
    references += deltas > 0 ? 1 : 0;
    seconds += deltas > 1 ? 1 : 0;
  }
  if (references == a.references && seconds == a.seconds) return LETHE_OK;
  return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT,
                        "references is " + std::to_string(a.references) + " and seconds " + std::to_string(a.seconds) +
                            ", the rows have " + std::to_string(references) + " and " + std::to_string(seconds));
}

int check_workspace(const Device *device, int32_t dtype, int64_t d, int64_t V, int64_t references, int64_t bytes) {
  const int64_t least = layout(dtype, d, V, 2, references).bytes;
  if (bytes >= least) return LETHE_OK;
  return LETHE_CPU_FAIL(
      device, LETHE_INVALID_ARGUMENT,
      "the workspace has " + std::to_string(bytes) + " bytes, the head needs " + std::to_string(least));
}

}  // namespace

Layout layout(int32_t dtype, int64_t d, int64_t V, int64_t rows, int64_t deltas) {
  const int64_t logits = aligned(gemm_rows(rows) * V * 4);
  const int64_t hidden = aligned(gemm_rows(rows) * d * element_bytes(dtype));
  const int64_t delta = deltas == 0 ? 0 : aligned(gemm_rows(deltas) * V * 4);
  const int64_t delta_hidden = deltas == 0 ? 0 : aligned(gemm_rows(deltas) * d * element_bytes(dtype));
  Layout l = {};
  l.hidden = l.logits + logits;
  l.product = l.hidden + hidden;
  l.delta = l.product + hidden;
  l.delta_hidden = l.delta + delta;
  l.bytes = l.delta_hidden + delta_hidden + kHeadAlignment;
  return l;
}

namespace {

Chunk most_from(const lethe_head_args &a, int64_t begin) {
  Chunk chunk = {begin, begin, {}};
  while (chunk.end < a.n) {
    const int64_t own = deltas_of(a, chunk.end);
    const int64_t deltas = static_cast<int64_t>(chunk.deltas.size()) + own;
    if (layout(a.dtype, a.d, a.V, chunk.size() + 1, deltas).bytes > a.workspace_bytes) break;
    for (int64_t i = 0; i < own; ++i) chunk.deltas.push_back({chunk.end, i == 1});
    ++chunk.end;
  }
  return chunk;
}

}  // namespace

Chunk next_chunk(const lethe_head_args &a, int64_t begin) {
  Chunk chunk = most_from(a, begin);
  if (chunk.end == a.n || chunk.size() == 0) return chunk;
  const int64_t left = a.n - begin, count = (left + chunk.size() - 1) / chunk.size();
  chunk.end = begin + (left + count - 1) / count;
  while (!chunk.deltas.empty() && chunk.deltas.back().row >= chunk.end) chunk.deltas.pop_back();
  return chunk;
}

int check_index(const Device *device, int64_t row, const char *name, int32_t index, int64_t bound) {
  if (index >= 0 && index < bound) return LETHE_OK;
  return LETHE_CPU_FAIL(
      device, LETHE_OUT_OF_BOUNDS,
      in_row(row, std::string(name) + " " + std::to_string(index) + " is not in [0, " + std::to_string(bound) + ")"));
}

int check_pass(const Device *device, const lethe_head_args &a, bool allow_reference) {
  for (int64_t row = 0; row < a.n; ++row) {
    const int status = check_row(device, a, row, allow_reference);
    if (status != LETHE_OK) return status;
  }
  if (allow_reference) {
    const int status = check_counts(device, a);
    if (status != LETHE_OK) return status;
  }
  return check_workspace(device, a.dtype, a.d, a.V, allow_reference ? 2 : 0, a.workspace_bytes);
}

}  // namespace lethe::cpu
