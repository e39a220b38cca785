// The head: chunks of logits Z = H W^T, the row kernel over them, and dH = dZ W.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "device.h"
#include "gemm.h"
#include "head_rows.h"

namespace lethe::cpu {
namespace {

constexpr int64_t kAlignment = 64;
// Logits of a chunk beyond this bring no speed: the weight is read once per chunk, and a chunk this size hides that.
constexpr int64_t kMostLogitBytes = int64_t{32} << 20;

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }
int64_t element_bytes(int32_t dtype) { return dtype == LETHE_BF16 ? 2 : 4; }
bool has_reference(int32_t kind) { return kind == LETHE_ROW_REFERENCE_KL || kind == LETHE_ROW_KL_REFERENCE; }

// One row alone takes another path through the GEMM than the same row among others: products have two rows at least.
int64_t gemm_rows(int64_t rows) { return std::max<int64_t>(rows, 2); }

struct Record {
  int32_t source, label, kind, reference, second;
};
Record record(const lethe_head_args &a, int64_t row) {
  const int32_t *r = a.rows + row * LETHE_ROW_FIELDS;
  return {r[0], r[1], r[2], r[3], r[4]};
}

struct Params {
  float temperature, label_shift, mix, epsilon;
};
Params params(const lethe_head_args &a, int64_t row) {
  if (a.row_params == nullptr) return {1.0f, 0.0f, 0.0f, 0.0f};
  const float *p = a.row_params + row * LETHE_ROW_PARAMS;
  return {p[0], p[1], p[2], p[3]};
}

// How a chunk lies in the workspace: logits, hidden rows, the result of the second GEMM, and for the rows with a
// reference their delta and its hidden rows.
struct Layout {
  int64_t logits, hidden, product, delta, delta_hidden, bytes;
};
Layout layout(int32_t dtype, int64_t d, int64_t V, int64_t rows, int64_t references) {
  const int64_t logits = aligned(gemm_rows(rows) * V * 4);
  const int64_t hidden = aligned(gemm_rows(rows) * d * element_bytes(dtype));
  const int64_t delta = references == 0 ? 0 : aligned(gemm_rows(references) * V * 4);
  const int64_t delta_hidden = references == 0 ? 0 : aligned(gemm_rows(references) * d * element_bytes(dtype));
  Layout l = {};
  l.hidden = l.logits + logits;
  l.product = l.hidden + hidden;
  l.delta = l.product + hidden;
  l.delta_hidden = l.delta + delta;
  l.bytes = l.delta_hidden + delta_hidden + kAlignment;
  return l;
}

struct Chunk {
  int64_t begin, end;
  std::vector<int64_t> references;  // its rows that have one
  int64_t size() const { return end - begin; }
};

// The most rows from `begin` on that fit the workspace.
Chunk next_chunk(const lethe_head_args &a, int64_t begin) {
  Chunk chunk = {begin, begin, {}};
  while (chunk.end < a.n) {
    const bool reference = has_reference(record(a, chunk.end).kind);
    const int64_t references = static_cast<int64_t>(chunk.references.size()) + (reference ? 1 : 0);
    if (layout(a.dtype, a.d, a.V, chunk.size() + 1, references).bytes > a.workspace_bytes) break;
    if (reference) chunk.references.push_back(chunk.end);
    ++chunk.end;
  }
  return chunk;
}

std::string in_row(int64_t row, const std::string &what) { return "row " + std::to_string(row) + ": " + what; }

int check_index(const Device *device, int64_t row, const char *name, int32_t index, int64_t bound) {
  if (index >= 0 && index < bound) return LETHE_OK;
  return LETHE_CPU_FAIL(
      device, LETHE_OUT_OF_BOUNDS,
      in_row(row, std::string(name) + " " + std::to_string(index) + " is not in [0, " + std::to_string(bound) + ")"));
}

int check_row(const Device *device, const lethe_head_args &a, int64_t row, bool allow_reference) {
  const Record r = record(a, row);
  int status = check_index(device, row, "source", r.source, a.sources);
  if (status == LETHE_OK && r.label != -1) status = check_index(device, row, "label", r.label, a.V);
  if (status != LETHE_OK) return status;
  if (r.kind < LETHE_ROW_STATISTICS || r.kind > LETHE_ROW_KL_REFERENCE) {
    return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT, in_row(row, "unknown kind " + std::to_string(r.kind)));
  }
  if (r.kind == LETHE_ROW_NLL && r.label == -1) {
    return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT, in_row(row, "LETHE_ROW_NLL needs a label"));
  }
  if (has_reference(r.kind)) {
    if (!allow_reference) {
      return LETHE_CPU_FAIL(device, LETHE_UNSUPPORTED, in_row(row, "a trained head has no reference to compare with"));
    }
    if (r.reference == -1) {
      return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT, in_row(row, "a reference kind needs a reference source"));
    }
    status = check_index(device, row, "reference source", r.reference, a.sources);
  }
  const Params p = params(a, row);
  if (p.label_shift != 0 || p.mix != 0 || p.epsilon != 0) {
    return LETHE_CPU_FAIL(device, LETHE_UNSUPPORTED, in_row(row, "label_shift, mix and epsilon are not there yet"));
  }
  if (status == LETHE_OK && !(p.temperature > 0 && std::isfinite(p.temperature))) {
    return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT, in_row(row, "the temperature must be finite and above 0"));
  }
  return status;
}

int check_workspace(const Device *device, int32_t dtype, int64_t d, int64_t V, int64_t references, int64_t bytes) {
  const int64_t least = layout(dtype, d, V, 2, references).bytes;
  if (bytes >= least) return LETHE_OK;
  return LETHE_CPU_FAIL(
      device, LETHE_INVALID_ARGUMENT,
      "the workspace has " + std::to_string(bytes) + " bytes, the head needs " + std::to_string(least));
}

int check_pass(const Device *device, const lethe_head_args &a, bool allow_reference) {
  if (a.bias != nullptr || a.soft_cap != 0) {
    return LETHE_CPU_FAIL(device, LETHE_UNSUPPORTED, "bias and soft_cap are not there yet");
  }
  for (int64_t row = 0; row < a.n; ++row) {
    const int status = check_row(device, a, row, allow_reference);
    if (status != LETHE_OK) return status;
  }
  return check_workspace(device, a.dtype, a.d, a.V, allow_reference ? 2 : 0, a.workspace_bytes);
}

char *align_up(void *p) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  return static_cast<char *>(p) + (kAlignment - address % kAlignment) % kAlignment;
}

float dot(const float *mean, const char *h, int32_t dtype, int64_t d) {
  double total = 0;
  for (int64_t i = 0; i < d; ++i) {
    total += static_cast<double>(mean[i]) * (dtype == LETHE_BF16 ? to_float(reinterpret_cast<const bf16 *>(h)[i])
                                                                 : reinterpret_cast<const float *>(h)[i]);
  }
  return static_cast<float>(total);
}

// Reference hidden rows minus the policy's, in fp32, rounded to storage.
template <class T>
void delta_rows(const lethe_head_args &a, const Chunk &chunk, T *out) {
  const T *h = static_cast<const T *>(a.h);
  const int64_t references = static_cast<int64_t>(chunk.references.size());
  for (int64_t i = 0; i < gemm_rows(references); ++i) {
    if (i >= references) {
      std::memset(static_cast<void *>(out + i * a.d), 0, static_cast<size_t>(a.d) * sizeof(T));
      continue;
    }
    const Record r = record(a, chunk.references[static_cast<size_t>(i)]);
    const T *policy = h + r.source * a.d;
    const T *reference = h + r.reference * a.d;
    for (int64_t j = 0; j < a.d; ++j) from_float(to_float(reference[j]) - to_float(policy[j]), out + i * a.d + j);
  }
}

class Pass {
 public:
  Pass(Device *device, const lethe_head_args &args, const Chunk &chunk)
      : device_(device),
        a_(args),
        chunk_(chunk),
        rows_(gemm_rows(chunk.size())),
        references_(static_cast<int64_t>(chunk.references.size())),
        base_(align_up(args.workspace)),
        layout_(layout(args.dtype, args.d, args.V, chunk.size(), references_)) {}

  void logits() {
    const int64_t width = a_.d * element_bytes(a_.dtype);
    for (int64_t i = 0; i < rows_; ++i) {
      char *to = base_ + layout_.hidden + i * width;
      if (i < chunk_.size()) {
        const char *from = static_cast<const char *>(a_.h) + record(a_, chunk_.begin + i).source * width;
        std::memcpy(to, from, static_cast<size_t>(width));
      } else {
        std::memset(to, 0, static_cast<size_t>(width));
      }
    }
    project(rows_, base_ + layout_.hidden, z(0));
    if (references_ == 0) return;
    char *delta_hidden = base_ + layout_.delta_hidden;
    a_.dtype == LETHE_BF16 ? delta_rows(a_, chunk_, reinterpret_cast<bf16 *>(delta_hidden))
                           : delta_rows(a_, chunk_, reinterpret_cast<float *>(delta_hidden));
    project(gemm_rows(references_), delta_hidden, reinterpret_cast<float *>(base_ + layout_.delta));
  }

  void rows(bool gradient) {
    const int32_t dtype = gradient ? a_.dtype : static_cast<int32_t>(LETHE_I32);
    std::vector<int64_t> reference_of(static_cast<size_t>(chunk_.size()), -1);
    for (int64_t i = 0; i < references_; ++i) {
      reference_of[static_cast<size_t>(chunk_.references[static_cast<size_t>(i)] - chunk_.begin)] = i;
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows_; ++i) {
      if (i < chunk_.size()) {
        row(i, reference_of[static_cast<size_t>(i)], dtype);
      } else {
        std::memset(z(i), 0, static_cast<size_t>(a_.V) * 4);
      }
    }
  }

  void hidden_gradient() {
    const int64_t width = a_.d * element_bytes(a_.dtype);
    char *product = base_ + layout_.product;
    gemm(device_, {a_.dtype, a_.dtype, rows_, a_.d, a_.V, {z(0), gradient_ld()}, {a_.w, a_.d}, product, a_.d});
    char *out = static_cast<char *>(a_.dh_rows) + chunk_.begin * width;
    std::memcpy(out, product, static_cast<size_t>(chunk_.size() * width));
    for (int64_t i = 0; i < chunk_.size(); ++i) {
      if (record(a_, chunk_.begin + i).kind == LETHE_ROW_STATISTICS) {
        std::memset(out + i * width, 0, static_cast<size_t>(width));
      }
    }
  }

  void weight_gradient() {
    gemm(device_, {a_.dtype,
                   LETHE_F32,
                   a_.V,
                   a_.d,
                   rows_,
                   {z(0), gradient_ld(), true},
                   {base_ + layout_.hidden, a_.d},
                   a_.dw,
                   a_.d,
                   1.0f,
                   1.0f});
  }

 private:
  float *z(int64_t i) { return reinterpret_cast<float *>(base_ + layout_.logits) + i * a_.V; }
  int64_t gradient_ld() const { return a_.dtype == LETHE_BF16 ? 2 * a_.V : a_.V; }

  // out[rows,V] fp32 = hidden[rows,d] W^T
  void project(int64_t rows, const char *hidden, float *out) {
    gemm(device_, {a_.dtype, LETHE_F32, rows, a_.V, a_.d, {hidden, a_.d}, {a_.w, a_.d, true}, out, a_.V});
  }

  void row(int64_t i, int64_t reference, int32_t gradient) {
    const int64_t index = chunk_.begin + i;
    const Record r = record(a_, index);
    HeadRow row = {};
    row.z = z(i);
    if (reference >= 0) row.delta = reinterpret_cast<const float *>(base_ + layout_.delta) + reference * a_.V;
    float mean = 0;
    if (a_.mean != nullptr) {
      mean = dot(a_.mean, base_ + layout_.hidden + i * a_.d * element_bytes(a_.dtype), a_.dtype, a_.d);
      row.mean = &mean;
    }
    row.inverse_temperature = 1.0f / params(a_, index).temperature;
    row.coefficient = a_.coefficient != nullptr ? a_.coefficient[index] : 1.0f;
    row.label = r.label;
    row.kind = r.kind;
    float unused[LETHE_STATISTICS];
    head_row(row, a_.V, gradient, a_.stats != nullptr ? a_.stats + index * LETHE_STATISTICS : unused);
  }

  Device *device_;
  const lethe_head_args &a_;
  const Chunk &chunk_;
  int64_t rows_, references_;
  char *base_;
  Layout layout_;
};

bool any_gradient(const lethe_head_args &a, const Chunk &chunk) {
  for (int64_t row = chunk.begin; row < chunk.end; ++row) {
    if (record(a, row).kind != LETHE_ROW_STATISTICS) return true;
  }
  return false;
}

void zero_gradient(const lethe_head_args &a, const Chunk &chunk) {
  const int64_t width = a.d * element_bytes(a.dtype);
  std::memset(static_cast<char *>(a.dh_rows) + chunk.begin * width, 0, static_cast<size_t>(chunk.size() * width));
}

// Each thread owns a run of columns; rows are added in blocks so that fp32 sums stay short.
template <class T>
void mean_row(int64_t d, int64_t V, const T *w, float *mean) {
  constexpr int64_t kBlockRows = 64;
#pragma omp parallel
  {
    const Range columns = share(d, omp_get_thread_num(), omp_get_num_threads());
    const int64_t width = columns.end - columns.begin;
    std::vector<double> total(static_cast<size_t>(width), 0.0);
    std::vector<float> block(static_cast<size_t>(width), 0.0f);
    for (int64_t begin = 0; begin < V; begin += kBlockRows) {
      for (int64_t v = begin; v < std::min(V, begin + kBlockRows); ++v) {
        const T *row = w + v * d + columns.begin;
        for (int64_t i = 0; i < width; ++i) block[static_cast<size_t>(i)] += to_float(row[i]);
      }
      for (size_t i = 0; i < block.size(); ++i) {
        total[i] += static_cast<double>(block[i]);
        block[i] = 0;
      }
    }
    for (int64_t i = 0; i < width; ++i) {
      mean[columns.begin + i] = static_cast<float>(total[static_cast<size_t>(i)] / static_cast<double>(V));
    }
  }
}

template <class T>
void combine(const lethe_head_args &a, const std::vector<int64_t> &first, const std::vector<int64_t> &rows_of) {
  const T *dh_rows = static_cast<const T *>(a.dh_rows);
  T *dh = static_cast<T *>(a.dh);
#pragma omp parallel
  {
    std::vector<float> sum(static_cast<size_t>(a.d));
#pragma omp for schedule(static)
    for (int64_t source = 0; source < a.sources; ++source) {
      std::fill(sum.begin(), sum.end(), 0.0f);
      for (int64_t i = first[static_cast<size_t>(source)]; i < first[static_cast<size_t>(source) + 1]; ++i) {
        const int64_t row = rows_of[static_cast<size_t>(i)];
        for (int64_t j = 0; j < a.d; ++j) {
          sum[static_cast<size_t>(j)] += a.coefficient[row] * to_float(dh_rows[row * a.d + j]);
        }
      }
      for (int64_t j = 0; j < a.d; ++j) from_float(sum[static_cast<size_t>(j)], dh + source * a.d + j);
    }
  }
}

}  // namespace

int head_mean(Device *device, int32_t dtype, int64_t d, int64_t V, const void *w, float *mean) {
  return run(device, __func__, [&] {
    dtype == LETHE_BF16 ? mean_row(d, V, static_cast<const bf16 *>(w), mean)
                        : mean_row(d, V, static_cast<const float *>(w), mean);
    return static_cast<int>(LETHE_OK);
  });
}

int head_workspace(Device *device, int32_t dtype, int64_t n, int64_t d, int64_t V, int64_t *least, int64_t *most) {
  return run(device, __func__, [&] {
    const int64_t rows = std::clamp<int64_t>(kMostLogitBytes / (V * 4), 2, std::max<int64_t>(n, 2));
    *least = layout(dtype, d, V, 2, 2).bytes;
    // Half of the logits for the deltas, should every row have a reference.
    *most = std::max(*least, std::max(layout(dtype, d, V, rows, 0).bytes,
                                      layout(dtype, d, V, std::max<int64_t>(rows / 2, 2), rows / 2).bytes));
    return static_cast<int>(LETHE_OK);
  });
}

int head_forward(Device *device, const lethe_head_args *args) {
  return run(device, __func__, [&] {
    const lethe_head_args &a = *args;
    if (a.n == 0) return static_cast<int>(LETHE_OK);
    const int status = check_pass(device, a, true);
    if (status != LETHE_OK) return status;
    for (int64_t begin = 0; begin < a.n;) {
      const Chunk chunk = next_chunk(a, begin);
      Pass pass(device, a, chunk);
      const bool gradient = a.dh_rows != nullptr && any_gradient(a, chunk);
      pass.logits();
      pass.rows(gradient);
      if (gradient) {
        pass.hidden_gradient();
      } else if (a.dh_rows != nullptr) {
        zero_gradient(a, chunk);
      }
      begin = chunk.end;
    }
    return static_cast<int>(LETHE_OK);
  });
}

int head_backward(Device *device, const lethe_head_args *args) {
  return run(device, __func__, [&] {
    const lethe_head_args &a = *args;
    if (a.n == 0) return static_cast<int>(LETHE_OK);
    const int status = check_pass(device, a, false);
    if (status != LETHE_OK) return status;
    for (int64_t begin = 0; begin < a.n;) {
      const Chunk chunk = next_chunk(a, begin);
      Pass pass(device, a, chunk);
      if (any_gradient(a, chunk)) {
        pass.logits();
        pass.rows(true);
        pass.hidden_gradient();
        pass.weight_gradient();
      } else {
        zero_gradient(a, chunk);
      }
      begin = chunk.end;
    }
    return static_cast<int>(LETHE_OK);
  });
}

int head_combine(Device *device, const lethe_head_args *args) {
  return run(device, __func__, [&] {
    const lethe_head_args &a = *args;
    // The rows of each source, in their order: a counting sort.
    std::vector<int64_t> first(static_cast<size_t>(a.sources) + 1, 0);
    for (int64_t row = 0; row < a.n; ++row) {
      const int status = check_index(device, row, "source", record(a, row).source, a.sources);
      if (status != LETHE_OK) return status;
      ++first[static_cast<size_t>(record(a, row).source) + 1];
    }
    for (size_t source = 1; source < first.size(); ++source) first[source] += first[source - 1];
    std::vector<int64_t> next(first.begin(), first.end() - 1);
    std::vector<int64_t> rows_of(static_cast<size_t>(a.n));
    for (int64_t row = 0; row < a.n; ++row) {
      rows_of[static_cast<size_t>(next[static_cast<size_t>(record(a, row).source)]++)] = row;
    }
    a.dtype == LETHE_BF16 ? combine<bf16>(a, first, rows_of) : combine<float>(a, first, rows_of);
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
