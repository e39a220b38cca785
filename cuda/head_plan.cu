#include <algorithm>

#include "head_fused.cuh"
#include "head_plan.cuh"
#include "prefix.cuh"
#include "vector.cuh"

namespace lethe::cuda {
namespace {

constexpr unsigned kMostThreads = 1024;
constexpr unsigned long long kNone = ~0ull;

struct Plan {
  const int32_t *rows;
  const float *params;
  int64_t n, sources, V, references, seconds;
  int32_t *order;  // null: no references
  bool fused, gradient;
  Gate gate;
};

struct Finding {
  int problem;
  int64_t value, bound;
};

struct Params {
  float temperature, label_shift, mix, epsilon;
};
__device__ Params params_of(const Plan &p, int64_t row) {
  if (p.params == nullptr) return {1.0f, 0.0f, 0.0f, 0.0f};
  const float *of = p.params + row * LETHE_ROW_PARAMS;
  return {of[0], of[1], of[2], of[3]};
}

__device__ bool has_reference(int32_t kind) { return kind == LETHE_ROW_REFERENCE_KL || kind == LETHE_ROW_KL_REFERENCE; }
// The kinds whose gradient is more than a softmax, a mean row and a row, or whose value asks for a second look.
__device__ bool has_no_fused_form(int32_t kind, bool gradient) {
  return kind == LETHE_ROW_UNIFORM_KL_EPS || (gradient && kind == LETHE_ROW_KL_UNIFORM);
}
__device__ bool finite(float x) { return fabsf(x) <= 3.402823466e38f; }
__device__ bool outside(int32_t index, int64_t bound) { return index < 0 || index >= bound; }

__device__ Finding check_reference(const Plan &p, const HeadRecord &r, const Params &q) {
  if (p.order == nullptr) return {kHeadTrained, 0, 0};
  if (r.reference == -1) return {kHeadNoReference, 0, 0};
  if (outside(r.reference, p.sources)) return {kHeadReference, r.reference, p.sources};
  if (!(q.mix >= 0 && finite(q.mix) && finite(q.label_shift))) return {kHeadMixRange, 0, 0};
  if (q.label_shift != 0 && r.label == -1) return {kHeadShiftLabel, 0, 0};
  if (q.mix == 0) return {kHeadSound, 0, 0};
  if (r.second == -1) return {kHeadNoSecond, 0, 0};
  if (outside(r.second, p.sources)) return {kHeadSecond, r.second, p.sources};
  return {kHeadSound, 0, 0};
}

// In the order of native/cpu/head_plan.cpp, so that a row with several faults has the same answer.
__device__ Finding check_row(const Plan &p, int64_t row) {
  const HeadRecord r = head_record(p.rows, row);
  const Params q = params_of(p, row);
  if (outside(r.source, p.sources)) return {kHeadSource, r.source, p.sources};
  if (r.label != -1 && outside(r.label, p.V)) return {kHeadLabel, r.label, p.V};
  if (r.kind < LETHE_ROW_STATISTICS || r.kind > LETHE_ROW_UNIFORM_KL_EPS) return {kHeadKind, r.kind, 0};
  if (r.kind == LETHE_ROW_NLL && r.label == -1) return {kHeadNoLabel, 0, 0};
  if (has_reference(r.kind)) {
    const Finding found = check_reference(p, r, q);
    if (found.problem != kHeadSound) return found;
  }
  if (!(q.temperature > 0 && finite(q.temperature))) return {kHeadTemperature, 0, 0};
  if (!has_reference(r.kind) && (q.label_shift != 0 || q.mix != 0)) return {kHeadNoneToMove, 0, 0};
  const bool smoothed = r.kind == LETHE_ROW_UNIFORM_KL_EPS;
  if (smoothed && !(q.epsilon >= 1.175494351e-38f && finite(q.epsilon))) return {kHeadEpsilonNeeded, 0, 0};
  if (!smoothed && q.epsilon != 0) return {kHeadEpsilonAlien, 0, 0};
  if (p.fused && has_no_fused_form(r.kind, p.gradient)) return {kHeadForm, r.kind, 0};
  return {kHeadSound, 0, 0};
}

// A row's class in two counts of 16 bits: 1 where it has a reference, and 2^16 where it also mixes.
__device__ uint32_t class_of(const Plan &p, int64_t row) {
  if (!has_reference(p.rows[row * LETHE_ROW_FIELDS + 2])) return 0;
  return params_of(p, row).mix != 0 ? 0x10001u : 1u;
}

// Whether all rows are sound and as many as the call says; the first one that is not closes the gate.
__device__ bool check_rows(const Plan &p) {
  __shared__ unsigned long long first;
  __shared__ int references, seconds;
  if (threadIdx.x == 0) {
    first = kNone;
    references = seconds = 0;
  }
  __syncthreads();
  int own_references = 0, own_seconds = 0;
  for (int64_t row = threadIdx.x; row < p.n; row += blockDim.x) {
    if (check_row(p, row).problem != kHeadSound) {
      atomicMin(&first, static_cast<unsigned long long>(row));
      break;  // a thread's later ones come after it
    }
    const uint32_t counts = class_of(p, row);
    own_references += static_cast<int>(counts & 0xffff);
    own_seconds += static_cast<int>(counts >> 16);
  }
  atomicAdd(&references, own_references);
  atomicAdd(&seconds, own_seconds);
  __syncthreads();  // all rows are looked at
  if (first != kNone) {
    if (threadIdx.x == 0) {
      const auto row = static_cast<int64_t>(first);
      const Finding found = check_row(p, row);
      p.gate.close(row * kHeadProblems + found.problem, found.value, found.bound);
    }
    return false;
  }
  if (p.order == nullptr || (references == p.references && seconds == p.seconds)) return true;
  if (threadIdx.x == 0) {
    p.gate.close(kHeadCounts, p.references << 32 | p.seconds, int64_t{references} << 32 | seconds);
  }
  return false;
}

// One block: the first fault and a stable order, whatever the order of the threads.
__global__ void __launch_bounds__(kMostThreads) head_plan_kernel(Plan p) {
  if (!check_rows(p) || p.order == nullptr) return;
  int64_t plain = 0, reference = p.n - p.references, second = p.n - p.seconds;
  for (int64_t begin = 0; begin < p.n; begin += blockDim.x) {
    const int64_t row = begin + threadIdx.x;
    const uint32_t own = row < p.n ? class_of(p, row) : 0;
    uint32_t total = 0;
    const uint32_t before = block_prefix(own, &total);
    const int64_t seconds = before >> 16, references = (before & 0xffff) - seconds;
    if (row < p.n) {
      const int64_t at = own == 0   ? plain + threadIdx.x - references - seconds
                         : own == 1 ? reference + references
                                    : second + seconds;
      p.order[at] = static_cast<int32_t>(row);
    }
    const int64_t all_seconds = total >> 16, all_references = (total & 0xffff) - all_seconds;
    plain += blockDim.x - all_references - all_seconds;
    reference += all_references;
    second += all_seconds;
  }
}

std::string index_text(const char *name, const Fault &f) {
  return std::string(name) + " " + std::to_string(f.value) + " is not in [0, " + std::to_string(f.bound) + ")";
}

std::string problem_text(int problem, const Fault &f) {
  switch (problem) {
    case kHeadSource:
      return index_text("source", f);
    case kHeadLabel:
      return index_text("label", f);
    case kHeadReference:
      return index_text("reference source", f);
    case kHeadSecond:
      return index_text("second reference source", f);
    case kHeadKind:
      return "unknown kind " + std::to_string(f.value);
    case kHeadNoLabel:
      return "LETHE_ROW_NLL needs a label";
    case kHeadTrained:
      return "a trained head has no reference to compare with";
    case kHeadNoReference:
      return "a reference kind needs a reference source";
    case kHeadMixRange:
      return "label_shift must be finite, mix finite and not negative";
    case kHeadShiftLabel:
      return "a label_shift needs a label";
    case kHeadNoSecond:
      return "a mix needs a second reference source";
    case kHeadTemperature:
      return "the temperature must be finite and above 0";
    case kHeadNoneToMove:
      return "label_shift and mix act on a reference; this kind has none";
    case kHeadForm:
      return std::string(f.value == LETHE_ROW_KL_UNIFORM ? "LETHE_ROW_KL_UNIFORM" : "LETHE_ROW_UNIFORM_KL_EPS") +
             " has no fused form; unset LETHE_HEAD_FORM";
    case kHeadEpsilonNeeded:
      return "LETHE_ROW_UNIFORM_KL_EPS needs an epsilon above 0 that is no subnormal number";
    default:
      return "an epsilon belongs to LETHE_ROW_UNIFORM_KL_EPS alone";
  }
}

HeadChunk chunk_of(const lethe_head_args &a, int64_t begin, int64_t rows) {
  const int64_t end = begin + rows;
  const auto from = [&](int64_t first) { return std::max<int64_t>(0, end - std::max(begin, first)); };
  return {begin, rows, from(a.n - a.references), from(a.n - a.seconds)};
}

// The most of `left` rows for which fits(rows); at least one.
template <class Fits>
int64_t most_rows(int64_t left, Fits &&fits) {
  int64_t least = 1, most = left;
  while (least < most) {
    const int64_t middle = (least + most + 1) / 2;
    fits(middle) ? least = middle : most = middle - 1;
  }
  return least;
}

// Whole tiles, at least half of `most` rows, with which the product dH leaves the fewest multiprocessors idle in its
// last wave.
int64_t whole_waves(const Device *device, int64_t most, int64_t d) {
  constexpr int64_t kTileRows = 128, kTileColumns = 256;
  const int64_t across = ceil_div(d, kTileColumns);
  const int64_t wave = std::max<int64_t>(1, device->properties.multiProcessorCount);
  int64_t best = 0;
  double best_share = 0;
  for (int64_t rows = most / kTileRows * kTileRows; rows >= std::max(kTileRows, most / 2); rows -= kTileRows) {
    const int64_t tiles = rows / kTileRows * across;
    const double share = static_cast<double>(tiles) / static_cast<double>(ceil_div(tiles, wave) * wave);
    if (share > best_share) {
      best = rows;
      best_share = share;
    }
  }
  return best;
}

// Of the `most` of `left` rows that fit.
int64_t rows_of_chunk(const Device *device, const lethe_head_args &a, int64_t most, int64_t left) {
  const auto chosen = device->head_choices.find({a.dtype, a.d, a.V});
  if (chosen != device->head_choices.end() && chosen->second.rows > 0) return std::min(most, chosen->second.rows);
  const int64_t whole = most < left ? whole_waves(device, most, a.d) : 0;
  return whole > 0 ? whole : most;
}

}  // namespace

int head_fault(const Fault &f, std::string *message) {
  const int64_t row = f.at / kHeadProblems;
  const auto problem = static_cast<int>(f.at % kHeadProblems);
  if (problem == kHeadCounts) {
    const auto pair = [](int64_t counts, const char *between) {
      return std::to_string(counts >> 32) + between + std::to_string(counts & 0xffffffff);
    };
    *message = "references is " + pair(f.value, " and seconds ") + ", the rows have " + pair(f.bound, " and ");
    return LETHE_INVALID_ARGUMENT;
  }
  *message = "row " + std::to_string(row) + ": " + problem_text(problem, f);
  return problem <= kHeadSecond                            ? LETHE_OUT_OF_BOUNDS
         : problem == kHeadTrained || problem == kHeadForm ? LETHE_UNSUPPORTED
                                                           : LETHE_INVALID_ARGUMENT;
}

int plan_head(Device *device, const lethe_head_args &a, int32_t *order, bool fused) {
  const Plan plan = {a.rows,
                     a.row_params,
                     a.n,
                     a.sources,
                     a.V,
                     a.references,
                     a.seconds,
                     order,
                     fused,
                     a.dh_rows != nullptr,
                     device->fault.gate("rows", head_fault)};
  const auto threads = static_cast<unsigned>(std::min<int64_t>(kMostThreads, ceil_div(a.n, kWarp) * kWarp));
  const int64_t params = a.row_params == nullptr ? 0 : LETHE_ROW_PARAMS;
  const Shape shape = {"head_plan", {}, threads, 0, a.n * 4 * (LETHE_ROW_FIELDS + params + (order != nullptr ? 1 : 0))};
  return launch(device, shape, head_plan_kernel, plan);
}

HeadLayout head_layout(int32_t dtype, int64_t d, int64_t V, const HeadChunk &chunk) {
  const auto aligned = [](int64_t bytes) { return ceil_div(bytes, kHeadAlignment) * kHeadAlignment; };
  const int64_t width = d * element_bytes(dtype);
  HeadLayout l = {};
  l.hidden = aligned(chunk.logit_rows() * logit_stride(V) * 4);
  l.product = l.hidden + aligned(chunk.logit_rows() * width);
  l.bytes = l.product + aligned(chunk.rows * width) + kHeadAlignment;
  return l;
}

FusedLayout fused_layout(int64_t d, int64_t V, int64_t rows) {
  const auto aligned = [](int64_t bytes) { return ceil_div(bytes, kHeadAlignment) * kHeadAlignment; };
  const int64_t tiles = fused::tiles_of(V);
  FusedLayout l = {};
  l.hidden = rows * tiles * fused::kColumns * 2;
  l.parts = l.hidden + aligned(rows * d * 2);
  l.powers = l.parts + aligned(rows * tiles * int64_t{sizeof(fused::Part)});
  l.ends = l.powers + tiles * ceil_div(rows, fused::kRows) * fused::kRows * 4;
  l.bytes = l.ends + aligned(rows * int64_t{sizeof(fused::Ends)}) + kHeadAlignment;
  return l;
}

bool takes_fused(const Device *device, const lethe_head_args &a) {
  return device->head_form != HeadForm::kPlain && a.dtype == LETHE_BF16 && a.soft_cap == 0 && a.mean != nullptr &&
         whole_rows<bf16>({a.h, a.w}, {a.d}) && fused_layout(a.d, a.V, 1).bytes <= a.workspace_bytes;
}

HeadChunk next_fused_chunk(const Device *device, const lethe_head_args &a, int64_t begin) {
  const int64_t left = a.n - a.references - begin;
  const int64_t most =
      most_rows(left, [&](int64_t rows) { return fused_layout(a.d, a.V, rows).bytes <= a.workspace_bytes; });
  return {begin, rows_of_chunk(device, a, most, left), 0, 0};
}

HeadChunk next_chunk(const Device *device, const lethe_head_args &a, int64_t begin) {
  const int64_t left = a.n - begin;
  const int64_t most = most_rows(left, [&](int64_t rows) {
    return head_layout(a.dtype, a.d, a.V, chunk_of(a, begin, rows)).bytes <= a.workspace_bytes;
  });
  return chunk_of(a, begin, rows_of_chunk(device, a, most, left));
}

int check_workspace(const Device *device, const lethe_head_args &a, bool allow_reference) {
  const int64_t least = head_layout(a.dtype, a.d, a.V, {0, 2, allow_reference ? 2 : 0, 0}).bytes;
  if (a.workspace_bytes >= least) return LETHE_OK;
  return LETHE_CUDA_FAIL(
      device, LETHE_INVALID_ARGUMENT,
      "the workspace has " + std::to_string(a.workspace_bytes) + " bytes, the head needs " + std::to_string(least));
}

}  // namespace lethe::cuda
