// The head's passes: chunks of logits Z = H W^T, the row kernel over them, and dH = dZ W. native/cpu/head.cpp is the
// same on the host.
#include <algorithm>

#include "gemm.h"
#include "head_fused.cuh"
#include "head_plan.cuh"
#include "head_rows.cuh"
#include "head_sums.cuh"
#include "vector.cuh"

namespace lethe::cuda {
namespace {

// More workspace brings no speed: the weight is read once per chunk, and a chunk this size hides that. On the shim it
// is little, so that tests meet several chunks.
#if defined(LETHE_CUDA_SHIM)
constexpr int64_t kMostBytes = int64_t{32} << 20;
#else
constexpr int64_t kMostBytes = 600000000;
#endif
constexpr unsigned kRowThreads = 256;

template <class T>
unsigned row_threads(int64_t d) {
  const int64_t wanted = ceil_div(ceil_div(d, kVector<T>), kWarp) * kWarp;
  return static_cast<unsigned>(std::min<int64_t>(kRowThreads, wanted));
}

// ---- the hidden rows of a chunk ----

struct Gather {
  const void *h;
  void *hidden;  // [rows + deltas + seconds, d]
  int64_t d;
  int rows, deltas, seconds;
  const int32_t *records, *order;  // order: the chunk's part, or null
  const float *mean;               // [d] or null: no means are wanted
  const float *bias_mean;          // or null
  float *means;                    // [rows]
  int32_t *delta_of, *second_of;   // [rows] or null
  const int *closed;
};

// Block i writes row i: first the rows themselves, then what deltas are the logits of: h at the reference minus h at
// the source; then h at the second reference minus h at the first. Differences are rounded to storage. Behind a closed
// gate the rows are 0.
template <class T, bool kWhole>
__global__ void __launch_bounds__(kRowThreads) head_gather_kernel(Gather g) {
  const int index = static_cast<int>(blockIdx.x);
  const bool delta = index >= g.rows, second = index >= g.rows + g.deltas, open = *g.closed == 0;
  const int at = second  ? index - g.deltas - g.seconds
                 : delta ? index - g.deltas
                         : index;  // in the chunk: deltas are those of its last rows
  const int64_t row = !open ? 0 : g.order == nullptr ? at : g.order[at];
  const HeadRecord r = open ? head_record(g.records, row) : HeadRecord{};
  const T *h = static_cast<const T *>(g.h);
  const T *from = h + (second ? r.reference : r.source) * g.d;
  const T *to = h + (second ? r.second : r.reference) * g.d;
  T *out = static_cast<T *>(g.hidden) + index * g.d;
  float sum[1] = {0.0f};
  for (int64_t column = threadIdx.x * int64_t{kVector<T>}; column < g.d; column += blockDim.x * int64_t{kVector<T>}) {
    const int n = in_piece<T>(g.d - column);
    Vector<T> x = {};
    if (open) x = load_vector<kWhole>(from + column, n);
    if (delta && open) {
      const Vector<T> other = load_vector<kWhole>(to + column, n);
      float difference[kVector<T>];
#pragma unroll
      for (int k = 0; k < kVector<T>; ++k) difference[k] = other.at(k) - x.at(k);
      x = packed<T>(difference);
    }
    if (!delta && g.mean != nullptr) {
#pragma unroll
      for (int k = 0; k < kVector<T>; ++k) sum[0] = __fmaf_rn(k < n ? g.mean[column + k] : 0.0f, x.at(k), sum[0]);
    }
    store_vector<kWhole>(x, out + column, n);
  }
  if (delta || !open) return;
  if (g.mean != nullptr) block_sum(sum);
  if (threadIdx.x != 0) return;
  if (g.mean != nullptr) g.means[index] = sum[0] + (g.bias_mean == nullptr ? 0.0f : *g.bias_mean);
  if (g.delta_of == nullptr) return;
  const int first_delta = g.rows - g.deltas, first_second = g.rows - g.seconds;
  g.delta_of[index] = index >= first_delta ? index - first_delta : -1;
  g.second_of[index] = index >= first_second ? index - first_second : -1;
}

// ---- the gradient of hidden rows, from the chunk's order to the rows' own ----

struct Scatter {
  const void *product;  // [rows, d]
  void *dh_rows;
  int64_t d, begin;
  const int32_t *records, *order;  // order: the chunk's part, or null: rows from `begin` on
  const int *closed;
};

// Rows without a gradient are 0 whatever the weight holds.
template <class T, bool kWhole>
__global__ void __launch_bounds__(kRowThreads) head_scatter_kernel(Scatter s) {
  if (*s.closed != 0) return;
  const int64_t index = blockIdx.x, row = s.order == nullptr ? s.begin + index : s.order[index];
  const bool none = head_record(s.records, row).kind == LETHE_ROW_STATISTICS;
  const T *from = static_cast<const T *>(s.product) + index * s.d;
  T *to = static_cast<T *>(s.dh_rows) + row * s.d;
  for (int64_t column = threadIdx.x * int64_t{kVector<T>}; column < s.d; column += blockDim.x * int64_t{kVector<T>}) {
    const int n = in_piece<T>(s.d - column);
    store_vector<kWhole>(none ? Vector<T>{} : load_vector<kWhole>(from + column, n), to + column, n);
  }
}

// ---- a pass ----

class Pass {
 public:
  Pass(Device *device, const lethe_head_args &args, bool forward)
      : device_(device), a_(args), forward_(forward), fused_(forward && takes_fused(device, args)) {}

  int run() {
    LETHE_CUDA_TRY(check_workspace(device_, a_, forward_));
    LETHE_CUDA_TRY(check_form());
    LETHE_CUDA_TRY(take_scratch());
    LETHE_CUDA_TRY(plan_head(device_, a_, order_, fused_));
    if (a_.bias != nullptr) LETHE_CUDA_TRY(widen_bias(device_, a_.dtype, a_.V, a_.bias, bias_, bias_mean_));
    int64_t begin = 0;
    if (fused_) LETHE_CUDA_TRY(fused_chunks(&begin));
    while (begin < a_.n) {
      chunk_ = next_chunk(device_, a_, begin);
      layout_ = head_layout(a_.dtype, a_.d, a_.V, chunk_);
      LETHE_CUDA_TRY(gather(base_ + layout_.hidden));
      LETHE_CUDA_TRY(logits());
      LETHE_CUDA_TRY(rows());
      if (a_.dh_rows != nullptr) LETHE_CUDA_TRY(hidden_gradient());
      if (!forward_) LETHE_CUDA_TRY(weight_gradient());
      if (a_.db != nullptr) LETHE_CUDA_TRY(bias_gradient());
      begin += chunk_.rows;
    }
    return LETHE_OK;
  }

 private:
  // Blocks that keep a row on chip, its reference's beside it where it has one; 0: two looks.
  unsigned row_blocks(bool references) const {
    const cudaDeviceProp &p = device_->properties;
    if (device_->rows_form == RowsForm::kTwoLooks) return 0;
    return head_rows_cluster(a_.V, references, static_cast<int64_t>(p.sharedMemPerBlockOptin), p.major);
  }
  int check_form() const {
    if (device_->rows_form != RowsForm::kOnChip || row_blocks(a_.references > 0) > 0) return LETHE_OK;
    const cudaDeviceProp &p = device_->properties;
    return LETHE_CUDA_FAIL(device_, LETHE_UNSUPPORTED,
                           "the environment has LETHE_HEAD_ROWS=on_chip, and a row of " + std::to_string(a_.V) +
                               (a_.references > 0 ? " logits with its reference's" : " logits") +
                               " does not fit into shared memory: " + std::to_string(p.sharedMemPerBlockOptin) +
                               " bytes a block, " + (p.major >= 9 ? "8 blocks" : "one block") +
                               " for a row on this device; give auto or two_looks, or unset it");
  }

  int take_scratch() {
    Pieces pieces;
    const int64_t order = pieces.add<int32_t>(forward_ ? a_.n : 0);
    const int64_t delta_of = pieces.add<int32_t>(a_.references > 0 ? a_.n : 0);
    const int64_t second_of = pieces.add<int32_t>(a_.references > 0 ? a_.n : 0);
    const int64_t means = pieces.add<float>(a_.n);
    const int64_t bias = pieces.add<float>(a_.bias != nullptr ? a_.V : 0);
    const int64_t bias_mean = pieces.add<float>(1);
    const int64_t fused_rows = pieces.add<fused::Row>(fused_ ? a_.n - a_.references : 0);
    char *memory = nullptr;
    LETHE_CUDA_TRY(scratch(device_, pieces.bytes(), &memory));
    const auto at = [memory](int64_t offset) { return static_cast<void *>(memory + offset); };
    if (forward_) order_ = static_cast<int32_t *>(at(order));
    if (a_.references > 0) {
      delta_of_ = static_cast<int32_t *>(at(delta_of));
      second_of_ = static_cast<int32_t *>(at(second_of));
    }
    means_ = static_cast<float *>(at(means));
    fused_rows_ = static_cast<fused::Row *>(at(fused_rows));
    if (a_.bias != nullptr) {
      bias_ = static_cast<float *>(at(bias));
      bias_mean_ = static_cast<float *>(at(bias_mean));
    }
    const auto address = reinterpret_cast<uintptr_t>(a_.workspace);
    base_ = static_cast<char *>(a_.workspace) + (kHeadAlignment - address % kHeadAlignment) % kHeadAlignment;
    return LETHE_OK;
  }

  // The chunk's part of the order; of a pass without one, of the rows.
  const int32_t *order() const { return order_ == nullptr ? nullptr : order_ + chunk_.begin; }
  const int32_t *records() const { return a_.rows + (order_ == nullptr ? chunk_.begin * LETHE_ROW_FIELDS : 0); }
  int64_t ld() const { return logit_stride(a_.V); }
  // Row `i` of the chunk's logits.
  float *z(int64_t i) const { return reinterpret_cast<float *>(base_) + i * ld(); }
  int64_t gradient_ld() const { return a_.dtype == LETHE_BF16 ? 2 * ld() : ld(); }

  int logits() {
    return tiled(kLogits, {a_.dtype,
                           LETHE_F32,
                           chunk_.logit_rows(),
                           a_.V,
                           a_.d,
                           {base_ + layout_.hidden, a_.d},
                           {a_.w, a_.d, true},
                           z(0),
                           ld()});
  }

  // A product by the algorithm that was set for it, and how many there are.
  int tiled(HeadProduct product, Gemm g) {
    HeadChoice &choice = device_->head_choices[{a_.dtype, a_.d, a_.V}];
    g.tiles = choice.tiles[product];
    int64_t choices = 0;
    LETHE_CUDA_TRY(gemm(device_, g, &choices));
    choice.choices[product] = std::max(choice.choices[product], choices);
    return LETHE_OK;
  }

  int gather(void *hidden) { return a_.dtype == LETHE_BF16 ? gather_rows<bf16>(hidden) : gather_rows<float>(hidden); }

  template <class T>
  int gather_rows(void *hidden) {
    Gather g = {};
    g.h = a_.h;
    g.hidden = hidden;
    g.d = a_.d;
    g.rows = static_cast<int>(chunk_.rows);
    g.deltas = static_cast<int>(chunk_.deltas);
    g.seconds = static_cast<int>(chunk_.seconds);
    g.records = records();
    g.order = order();
    g.mean = a_.soft_cap == 0 ? a_.mean : nullptr;
    g.bias_mean = bias_mean_;
    g.means = means_;
    g.delta_of = delta_of_;
    g.second_of = second_of_;
    g.closed = device_->fault.closed;
    const int64_t moved = (2 * chunk_.rows + 3 * (chunk_.deltas + chunk_.seconds)) * a_.d * int64_t{sizeof(T)};
    const Shape shape = {"head_gather", {static_cast<unsigned>(chunk_.logit_rows())}, row_threads<T>(a_.d), 0, moved};
    return with_bool(whole_rows<T>({a_.h, g.hidden}, {a_.d}),
                     [&](auto is) { return launch(device_, shape, head_gather_kernel<T, decltype(is)::value>, g); });
  }

  int rows() {
    const int64_t at = order_ == nullptr ? chunk_.begin : 0;
    HeadRows r = {};
    r.rows = chunk_.rows;
    r.V = a_.V;
    r.ld = ld();
    r.z = z(0);
    if (chunk_.deltas > 0) {
      r.delta = z(chunk_.rows);
      r.second = z(chunk_.rows + chunk_.deltas);
      r.delta_of = delta_of_;
      r.second_of = second_of_;
    }
    r.records = records();
    r.row_params = a_.row_params == nullptr ? nullptr : a_.row_params + at * LETHE_ROW_PARAMS;
    r.bias = bias_;
    r.soft_cap = a_.soft_cap;
    r.means = a_.mean != nullptr && a_.soft_cap == 0 ? means_ : nullptr;
    r.coefficient = a_.coefficient == nullptr ? nullptr : a_.coefficient + at;
    r.stats = a_.stats;
    r.gradient = a_.dh_rows != nullptr ? a_.dtype : static_cast<int32_t>(LETHE_I32);
    r.order = order();
    r.closed = device_->fault.closed;
    const int64_t plain = chunk_.rows - chunk_.deltas;
    const unsigned of_plain = row_blocks(false), of_references = row_blocks(true);
    if (plain == 0 || chunk_.deltas == 0 || of_plain + of_references == 0) {
      return launch_rows(r, chunk_.deltas > 0 ? of_references : of_plain);
    }
    // Each kind has a launch of its own: a row's bits depend on its cluster, which must not depend on who is in its
    // chunk.
    HeadRows first = r, last = r;
    first.rows = plain;
    first.delta = nullptr;
    first.delta_of = nullptr;
    last.rows = chunk_.deltas;
    last.z += plain * r.ld;
    last.delta_of += plain;
    last.second_of += plain;
    last.order += plain;
    if (r.means != nullptr) last.means += plain;
    LETHE_CUDA_TRY(launch_rows(first, of_plain));
    return launch_rows(last, of_references);
  }

  int launch_rows(const HeadRows &r, unsigned blocks) {
    const int64_t groups = ceil_div(a_.V, 4 * std::max(blocks, 1u)) + 1;
    const auto threads = static_cast<unsigned>(std::min<int64_t>(kHeadThreads, ceil_div(groups, kWarp) * kWarp));
    Shape shape = blocks == 0 ? head_rows_shape(r, threads) : head_rows_onchip_shape(r, threads, blocks);
    if (r.delta != nullptr) shape.bytes += (chunk_.deltas + chunk_.seconds) * a_.V * 4;
    if (device_->recording) record_launch(device_, shape);
    const Status status =
        blocks == 0 ? head_rows(r, threads, device_->stream) : head_rows_onchip(r, threads, blocks, device_->stream);
    return status == cudaSuccess ? static_cast<int>(LETHE_OK)
                                 : fail_cuda(device_, status, __FILE__, __LINE__, shape.name);
  }

  // Through a buffer of its own: a product does not look at the gate, and the order is not the rows'.
  int hidden_gradient() {
    LETHE_CUDA_TRY(tiled(kHiddenGradient, {a_.dtype,
                                           a_.dtype,
                                           chunk_.rows,
                                           a_.d,
                                           a_.V,
                                           {z(0), gradient_ld()},
                                           {a_.w, a_.d},
                                           base_ + layout_.product,
                                           a_.d}));
    return a_.dtype == LETHE_BF16 ? scatter<bf16>() : scatter<float>();
  }

  template <class T>
  int scatter() {
    const Scatter s = {
        base_ + layout_.product, a_.dh_rows, a_.d, order_ == nullptr ? chunk_.begin : 0, a_.rows, order(),
        device_->fault.closed};
    const int64_t moved = 2 * chunk_.rows * a_.d * int64_t{sizeof(T)};
    const Shape shape = {"head_scatter", {static_cast<unsigned>(chunk_.rows)}, row_threads<T>(a_.d), 0, moved};
    return with_bool(whole_rows<T>({a_.dh_rows, base_ + layout_.product}, {a_.d}),
                     [&](auto is) { return launch(device_, shape, head_scatter_kernel<T, decltype(is)::value>, s); });
  }

  // Behind a closed gate both factors are 0.
  int weight_gradient() {
    return gemm(device_, {a_.dtype,
                          LETHE_F32,
                          a_.V,
                          a_.d,
                          chunk_.rows,
                          {z(0), gradient_ld(), true},
                          {base_ + layout_.hidden, a_.d},
                          a_.dw,
                          a_.d,
                          1.0f,
                          1.0f});
  }

  // The rows without a reference, which stand first in the order.
  int fused_chunks(int64_t *begin) {
    const int64_t end = a_.n - a_.references;
    const auto *h = static_cast<const bf16 *>(a_.h), *w = static_cast<const bf16 *>(a_.w);
    LETHE_CUDA_TRY(fused::labels(
        device_, {end, a_.d, a_.V, h, w, bias_, a_.rows, a_.row_params, order_, fused_rows_, device_->fault.closed}));
    for (; *begin < end; *begin += chunk_.rows) {
      chunk_ = next_fused_chunk(device_, a_, *begin);
      const FusedLayout l = fused_layout(a_.d, a_.V, chunk_.rows);
      LETHE_CUDA_TRY(gather(base_ + l.hidden));
      const fused::Chunk c = fused_chunk(l);
      LETHE_CUDA_TRY(fused::logits(device_, c));
      LETHE_CUDA_TRY(fused::rows(device_, c));
      if (a_.dh_rows != nullptr) LETHE_CUDA_TRY(fused::gradient(device_, c));
    }
    return LETHE_OK;
  }

  fused::Chunk fused_chunk(const FusedLayout &l) const {
    fused::Chunk c = {};
    c.rows = static_cast<int32_t>(chunk_.rows);
    c.tiles = static_cast<int32_t>(fused::tiles_of(a_.V));
    c.d = a_.d;
    c.V = a_.V;
    c.hidden = reinterpret_cast<const bf16 *>(base_ + l.hidden);
    c.w = static_cast<const bf16 *>(a_.w);
    c.bias = bias_;
    c.mean = a_.mean;
    c.means = means_;
    c.row = fused_rows_ + chunk_.begin;
    if (a_.dh_rows != nullptr) c.weights = reinterpret_cast<bf16 *>(base_);
    c.parts = reinterpret_cast<fused::Part *>(base_ + l.parts);
    c.powers = reinterpret_cast<uint32_t *>(base_ + l.powers);
    c.power_ld = ceil_div(chunk_.rows, fused::kRows) * fused::kRows;
    c.ends = reinterpret_cast<fused::Ends *>(base_ + l.ends);
    c.order = order();
    c.stats = a_.stats;
    c.dh_rows = a_.dh_rows;
    c.closed = device_->fault.closed;
    return c;
  }

  int bias_gradient() { return add_columns(device_, a_.dtype, chunk_.rows, a_.V, z(0), gradient_ld(), a_.db); }

  Device *device_;
  const lethe_head_args &a_;
  bool forward_, fused_;
  HeadChunk chunk_ = {};
  HeadLayout layout_ = {};
  char *base_ = nullptr;
  int32_t *order_ = nullptr, *delta_of_ = nullptr, *second_of_ = nullptr;
  fused::Row *fused_rows_ = nullptr;
  float *means_ = nullptr, *bias_ = nullptr, *bias_mean_ = nullptr;
};

}  // namespace

int head_workspace(Device *device, int32_t dtype, int64_t n, int64_t d, int64_t V, int64_t *least, int64_t *most) {
  return run(device, __func__, [&] {
    // A row and its reference's difference each, should every row have one.
    int64_t rows = std::clamp<int64_t>(kMostBytes / (logit_stride(V) * 4) / 2, 2, std::max<int64_t>(n, 2));
    while (rows > 2 && head_layout(dtype, d, V, {0, rows, rows, 0}).bytes > kMostBytes) rows -= (rows + 63) / 64;
    rows = std::max<int64_t>(rows, 2);
    *least = head_layout(dtype, d, V, {0, 2, 2, 0}).bytes;
    *most = head_layout(dtype, d, V, {0, rows, rows, 0}).bytes;
    // A row of few columns takes more in the fused form.
    if (device->head_form != HeadForm::kPlain) {
      *least = std::max(*least, fused_layout(d, V, 1).bytes);
      *most = std::max({*least, *most, std::min(kMostBytes, fused_layout(d, V, rows).bytes)});
    }
    return static_cast<int>(LETHE_OK);
  });
}

int head_forward(Device *device, const lethe_head_args *args) {
  return run(device, __func__,
             [&] { return args->n == 0 ? static_cast<int>(LETHE_OK) : Pass(device, *args, true).run(); });
}

int head_backward(Device *device, const lethe_head_args *args) {
  return run(device, __func__,
             [&] { return args->n == 0 ? static_cast<int>(LETHE_OK) : Pass(device, *args, false).run(); });
}

}  // namespace lethe::cuda
