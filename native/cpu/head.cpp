// The head: chunks of logits Z = H W^T, the row kernel over them, and dH = dZ W.
#include <algorithm>
#include <cstring>
#include <vector>

#include "device.h"
#include "gemm.h"
#include "head_plan.h"
#include "head_rows.h"

namespace lethe::cpu {
namespace {

// Logits of a chunk beyond this bring no speed: the weight is read once per chunk, and a chunk this size hides that.
constexpr int64_t kMostLogitBytes = int64_t{32} << 20;
// But with fewer rows a product spends its time on reading and laying out the weight (docs/performance/
// 2026-11-29-cpu-step.md): wide vocabularies get larger chunks.
constexpr int64_t kLeastRows = 128;

char *align_up(void *p) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  return static_cast<char *>(p) + (kHeadAlignment - address % kHeadAlignment) % kHeadAlignment;
}

float dot(const float *mean, const char *h, int32_t dtype, int64_t d) {
  double total = 0;
  for (int64_t i = 0; i < d; ++i) {
    total += static_cast<double>(mean[i]) * (dtype == LETHE_BF16 ? to_float(reinterpret_cast<const bf16 *>(h)[i])
                                                                 : reinterpret_cast<const float *>(h)[i]);
  }
  return static_cast<float>(total);
}

// Differences of hidden rows, in fp32, rounded to storage.
template <class T>
void delta_rows(const lethe_head_args &a, const Chunk &chunk, T *out) {
  const T *h = static_cast<const T *>(a.h);
  const int64_t deltas = static_cast<int64_t>(chunk.deltas.size());
  for (int64_t i = 0; i < gemm_rows(deltas); ++i) {
    if (i >= deltas) {
      std::memset(static_cast<void *>(out + i * a.d), 0, static_cast<size_t>(a.d) * sizeof(T));
      continue;
    }
    const Delta delta = chunk.deltas[static_cast<size_t>(i)];
    const Record r = record(a, delta.row);
    const T *from = h + (delta.second ? r.reference : r.source) * a.d;
    const T *to = h + (delta.second ? r.second : r.reference) * a.d;
    for (int64_t j = 0; j < a.d; ++j) from_float(to_float(to[j]) - to_float(from[j]), out + i * a.d + j);
  }
}

// The head's bias as fp32; its mean belongs to MEAN.
struct Bias {
  std::vector<float> values;
  double mean = 0;
  explicit Bias(const lethe_head_args &a) {
    if (a.bias == nullptr) return;
    for (int64_t v = 0; v < a.V; ++v) {
      values.push_back(a.dtype == LETHE_BF16 ? to_float(static_cast<const bf16 *>(a.bias)[v])
                                             : static_cast<const float *>(a.bias)[v]);
      mean += static_cast<double>(values.back());
    }
    mean /= static_cast<double>(a.V);
  }
  const float *data() const { return values.empty() ? nullptr : values.data(); }
};

class Pass {
 public:
  Pass(Device *device, const lethe_head_args &args, const Bias &bias, const Chunk &chunk)
      : device_(device),
        a_(args),
        bias_(bias),
        chunk_(chunk),
        rows_(gemm_rows(chunk.size())),
        deltas_(static_cast<int64_t>(chunk.deltas.size())),
        base_(align_up(args.workspace)),
        layout_(layout(args.dtype, args.d, args.V, chunk.size(), deltas_)) {}

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
    if (deltas_ == 0) return;
    char *delta_hidden = base_ + layout_.delta_hidden;
    a_.dtype == LETHE_BF16 ? delta_rows(a_, chunk_, reinterpret_cast<bf16 *>(delta_hidden))
                           : delta_rows(a_, chunk_, reinterpret_cast<float *>(delta_hidden));
    project(gemm_rows(deltas_), delta_hidden, reinterpret_cast<float *>(base_ + layout_.delta));
  }

  void rows(bool gradient) {
    const int32_t dtype = gradient ? a_.dtype : static_cast<int32_t>(LETHE_I32);
    std::vector<int64_t> delta_of(static_cast<size_t>(chunk_.size()), -1);
    std::vector<int64_t> second_of(delta_of);
    for (int64_t i = 0; i < deltas_; ++i) {
      const Delta delta = chunk_.deltas[static_cast<size_t>(i)];
      (delta.second ? second_of : delta_of)[static_cast<size_t>(delta.row - chunk_.begin)] = i;
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows_; ++i) {
      if (i < chunk_.size()) {
        row(i, delta_of[static_cast<size_t>(i)], second_of[static_cast<size_t>(i)], dtype);
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

  // Columns are shared among the threads and rows added in order.
  void bias_gradient() { a_.dtype == LETHE_BF16 ? add_columns<bf16>() : add_columns<float>(); }

 private:
  template <class T>
  void add_columns() {
#pragma omp parallel
    {
      const Range columns = share(a_.V, omp_get_thread_num(), omp_get_num_threads());
      for (int64_t i = 0; i < chunk_.size(); ++i) {
        const T *dz = reinterpret_cast<const T *>(z(i));
        for (int64_t v = columns.begin; v < columns.end; ++v) a_.db[v] += to_float(dz[v]);
      }
    }
  }

  float *z(int64_t i) { return reinterpret_cast<float *>(base_ + layout_.logits) + i * a_.V; }
  int64_t gradient_ld() const { return a_.dtype == LETHE_BF16 ? 2 * a_.V : a_.V; }

  // out[rows,V] fp32 = hidden[rows,d] W^T
  void project(int64_t rows, const char *hidden, float *out) {
    gemm(device_, {a_.dtype, LETHE_F32, rows, a_.V, a_.d, {hidden, a_.d}, {a_.w, a_.d, true}, out, a_.V});
  }

  void row(int64_t i, int64_t delta, int64_t second, int32_t gradient) {
    const int64_t index = chunk_.begin + i;
    const Record r = record(a_, index);
    const Params p = params(a_, index);
    HeadRow row = {};
    row.z = z(i);
    float *deltas = reinterpret_cast<float *>(base_ + layout_.delta);
    if (delta >= 0) row.delta = deltas + delta * a_.V;
    if (second >= 0) row.second = deltas + second * a_.V;
    row.bias = bias_.data();
    row.soft_cap = a_.soft_cap;
    float mean = 0;
    if (a_.mean != nullptr && a_.soft_cap == 0) {
      mean = dot(a_.mean, base_ + layout_.hidden + i * a_.d * element_bytes(a_.dtype), a_.dtype, a_.d) +
             static_cast<float>(bias_.mean);
      row.mean = &mean;
    }
    row.inverse_temperature = 1.0f / p.temperature;
    row.label_shift = p.label_shift;
    row.mix = p.mix;
    row.epsilon = p.epsilon;
    row.coefficient = a_.coefficient != nullptr ? a_.coefficient[index] : 1.0f;
    row.label = r.label;
    row.kind = r.kind;
    float unused[LETHE_STATISTICS];
    head_row(row, a_.V, gradient, a_.stats != nullptr ? a_.stats + index * LETHE_STATISTICS : unused);
  }

  Device *device_;
  const lethe_head_args &a_;
  const Bias &bias_;
  const Chunk &chunk_;
  int64_t rows_, deltas_;
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
    const int64_t worth = std::max(kMostLogitBytes / (V * 4), kLeastRows);
    const int64_t rows = std::min(worth, std::max<int64_t>(n, 2));
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
    const Bias bias(a);
    for (int64_t begin = 0; begin < a.n;) {
      const Chunk chunk = next_chunk(a, begin);
      Pass pass(device, a, bias, chunk);
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
    const Bias bias(a);
    for (int64_t begin = 0; begin < a.n;) {
      const Chunk chunk = next_chunk(a, begin);
      Pass pass(device, a, bias, chunk);
      if (any_gradient(a, chunk)) {
        pass.logits();
        pass.rows(true);
        pass.hidden_gradient();
        pass.weight_gradient();
        if (a.db != nullptr) pass.bias_gradient();
      } else {
        zero_gradient(a, chunk);
      }
      begin = chunk.end;
    }
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
