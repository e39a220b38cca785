// The head's passes as a whole, on each backend: many chunks with references among plain rows, operands of any
// alignment, calls at fault that change nothing, and what an asynchronous backend does not do: wait or allocate.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "head_problem.h"
#include "tolerance.h"

namespace {

using namespace lethe::test;

bool says(const char *what) { return std::strstr(lethe_error_trace(), what) != nullptr; }

// What one forward pass is given besides the problem.
struct Call {
  std::vector<int32_t> records;
  std::vector<float> params;
  int64_t workspace_bytes;
  int64_t offset;  // elements that h, w and dh_rows, and bytes that the workspace, stand off an allocation's start
};

struct Result {
  int status;
  std::vector<float> stats, dh_rows;
};

constexpr float kBefore = -3.0f;
// What a sanitizer has no time for: fewer rows, and fewer chunks of many, take the same ways.
#if defined(LETHE_SMALL)
constexpr int64_t kManyRows = 100, kMostChunks = 100;
#else
constexpr int64_t kManyRows = 300, kMostChunks = INT64_MAX;
#endif

// A copy of a matrix, `offset` elements into an allocation.
lethe_ref shifted(Engine *e, int32_t dtype, lethe_ref from, size_t count, int64_t offset, lethe_ref *buffer) {
  const int64_t bytes = dtype == LETHE_BF16 ? 2 : 4;
  *buffer = e->put(std::vector<char>((count + static_cast<size_t>(offset)) * static_cast<size_t>(bytes)));
  const lethe_ref at = *buffer + static_cast<lethe_ref>(offset * bytes);
  EXPECT(lethe_copy(e->engine, at, from, static_cast<int64_t>(count) * bytes) == LETHE_OK);
  return at;
}

Result forward(Engine *e, const Problem &p, const Call &call) {
  const auto n = static_cast<int64_t>(call.records.size()) / LETHE_ROW_FIELDS;
  const Counts counts(call.records, call.params);
  const auto floats = static_cast<size_t>(n * p.d);
  const lethe_ref rows = e->put(call.records), row_params = e->put(call.params);
  const lethe_ref stats = e->put(std::vector<float>(static_cast<size_t>(n * LETHE_STATISTICS), kBefore));
  const Stored before = store(e, p.dtype, std::vector<float>(floats, kBefore));
  lethe_ref buffers[3];
  const lethe_ref h = shifted(e, p.dtype, p.h.ref, p.h.values.size(), call.offset, &buffers[0]);
  const lethe_ref w = shifted(e, p.dtype, p.w.ref, p.w.values.size(), call.offset, &buffers[1]);
  const lethe_ref dh = shifted(e, p.dtype, before.ref, floats, call.offset, &buffers[2]);
  const lethe_ref workspace = e->put(std::vector<char>(static_cast<size_t>(call.workspace_bytes + call.offset)));
  const int status = lethe_head_forward(e->engine, p.dtype, n, p.sources, p.d, p.V, counts.references, counts.seconds,
                                        h, w, p.bias.ref, p.soft_cap, p.mean, rows, row_params, stats, dh,
                                        workspace + static_cast<lethe_ref>(call.offset), call.workspace_bytes);
  const int answer = settled(e->engine, status);
  const lethe_ref aligned = e->put(std::vector<char>(floats * 4));
  EXPECT(lethe_copy(e->engine, aligned, dh, n * p.d * (p.dtype == LETHE_BF16 ? 2 : 4)) == LETHE_OK);
  Result result = {answer, e->get<float>(stats, static_cast<size_t>(n * LETHE_STATISTICS)),
                   load(e, p.dtype, aligned, floats)};
  e->drop({rows, row_params, stats, before.ref, buffers[0], buffers[1], buffers[2], workspace, aligned});
  return result;
}

bool same_bits(const std::vector<float> &a, const std::vector<float> &b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// A result whose row i is another's row map(i).
template <class Map>
std::vector<float> permuted(const std::vector<float> &from, size_t width, Map &&map) {
  std::vector<float> to(from.size());
  for (size_t i = 0; i < from.size() / width; ++i) {
    std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(map(i) * width), width,
                to.begin() + static_cast<std::ptrdiff_t>(i * width));
  }
  return to;
}

// Rows of all kinds in any order and any chunks have the same results, to the bit. `library`: products are a device
// library's, whose algorithm is another one beyond so many rows (cuda/gemm.h), counted with their references, and for
// operands of another alignment.
void chunks_change_nothing(Engine *e, int32_t dtype, int64_t n, int64_t V, Variant variant, bool library) {
  constexpr int64_t kSameAlgorithm = 128;
  const int64_t d = 24;
  const Problem p = make_problem(e, dtype, n, d, V, true, variant);
  int64_t least = 0, most = 0;
  EXPECT(lethe_head_workspace(e->engine, dtype, n, d, V, &least, &most) == LETHE_OK);
  const Result all = forward(e, p, {p.records, p.params, most, 0});
  EXPECT(all.status == LETHE_OK);
  const auto same = [&](const Result &other, int64_t offset) {
    EXPECT(other.status == LETHE_OK);
    if (!library || (offset == 0 && 3 * n <= kSameAlgorithm)) {
      EXPECT(same_bits(other.stats, all.stats) && same_bits(other.dh_rows, all.dh_rows));
    } else {
      const std::vector<double> expected(all.dh_rows.begin(), all.dh_rows.end());
      EXPECT(distance(other.dh_rows, expected) <= 4 * lethe::tolerance::kBf16Unit);
    }
  };
  for (const int64_t bytes : {least, 9 * least, 44 * least, std::max(least, most / 2), most + 7}) {
    for (const int64_t offset : {int64_t{0}, 1 + bytes % 2}) {
      // The least holds two rows. A lost device says 0.
      if (bytes == 0 || n * least / (2 * bytes) > kMostChunks) continue;
      if (bytes <= most + 7) same(forward(e, p, {p.records, p.params, bytes, offset}), offset);
    }
  }
  const auto backwards = [n](size_t i) { return static_cast<size_t>(n) - 1 - i; };
  std::vector<int32_t> records(p.records.size());
  for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
    std::copy_n(p.records.data() + backwards(i) * LETHE_ROW_FIELDS, LETHE_ROW_FIELDS,
                records.data() + i * LETHE_ROW_FIELDS);
  }
  Result turned = forward(e, p, {records, permuted(p.params, LETHE_ROW_PARAMS, backwards), 9 * least, 0});
  turned.stats = permuted(turned.stats, LETHE_STATISTICS, backwards);
  turned.dh_rows = permuted(turned.dh_rows, static_cast<size_t>(d), backwards);
  same(turned, 0);
  for (int64_t i = 0; i < n; ++i) {
    if (p.records[static_cast<size_t>(i * LETHE_ROW_FIELDS + 2)] != LETHE_ROW_STATISTICS) continue;
    const auto row = all.dh_rows.begin() + i * d;
    EXPECT(std::all_of(row, row + d, [](float x) { return x == 0; }));
  }
}

// The first row at fault is named, wherever it stands and whatever else is wrong, and nothing is written.
void faults_change_nothing(Engine *e, int32_t dtype) {
  const int64_t n = 70, d = 16, V = 37;
  const Problem p = make_problem(e, dtype, n, d, V, true, kPlain);
  int64_t least = 0, most = 0;
  EXPECT(lethe_head_workspace(e->engine, dtype, n, d, V, &least, &most) == LETHE_OK);
  const auto unchanged = [](const std::vector<float> &x) {
    return std::all_of(x.begin(), x.end(), [](float v) { return v == kBefore; });
  };
  for (const int64_t at : {int64_t{0}, int64_t{33}, n - 1}) {
    Call call = {p.records, p.params, 5 * least, 0};
    call.records[static_cast<size_t>(at * LETHE_ROW_FIELDS)] = static_cast<int32_t>(p.sources);
    if (at + 1 < n) call.records[static_cast<size_t>((n - 1) * LETHE_ROW_FIELDS)] = -1;
    const Result result = forward(e, p, call);
    EXPECT(result.status == LETHE_OUT_OF_BOUNDS);
    EXPECT(unchanged(result.stats) && unchanged(result.dh_rows));
    const Counts counts(call.records, call.params);
    const lethe_ref rows = e->put(call.records), workspace = e->put(std::vector<char>(static_cast<size_t>(most)));
    EXPECT(settled(e->engine, lethe_head_forward(e->engine, dtype, n, p.sources, d, V, counts.references,
                                                 counts.seconds, p.h.ref, p.w.ref, 0, 0, 0, rows, p.row_params,
                                                 e->put(std::vector<float>(static_cast<size_t>(n * LETHE_STATISTICS))),
                                                 0, workspace, most)) == LETHE_OUT_OF_BOUNDS &&
           says(("row " + std::to_string(at) + ": source " + std::to_string(p.sources) + " is not in [0, ").c_str()));
    e->drop({rows, workspace});
  }
  // A call that follows is sound again.
  EXPECT(forward(e, p, {p.records, p.params, most, 0}).status == LETHE_OK);
}

// Nor does a trained head's second pass, whose rows may have no reference.
void trained_faults_change_nothing(Engine *e, int32_t dtype) {
  const int64_t n = 20, d = 16, V = 37;
  const Problem p = make_problem(e, dtype, n, d, V, false, {true, 0, false});
  int64_t least = 0, most = 0;
  EXPECT(lethe_head_workspace(e->engine, dtype, n, d, V, &least, &most) == LETHE_OK);
  std::vector<int32_t> records = p.records;
  records[13 * LETHE_ROW_FIELDS + 2] = LETHE_ROW_REFERENCE_KL;
  const std::vector<float> gradients(static_cast<size_t>(V * d), 2.0f);
  const lethe_ref rows = e->put(records), coefficient = e->put(std::vector<float>(static_cast<size_t>(n), 1.0f)),
                  workspace = e->put(std::vector<char>(static_cast<size_t>(least))), dw = e->put(gradients),
                  db = e->put(std::vector<float>(gradients.begin(), gradients.begin() + V));
  const Stored dh = store(e, dtype, std::vector<float>(static_cast<size_t>(n * d), kBefore));
  EXPECT(settled(e->engine, lethe_head_backward(e->engine, dtype, n, p.sources, d, V, p.h.ref, p.w.ref, p.bias.ref, 0,
                                                rows, p.row_params, coefficient, dh.ref, dw, db, workspace, least)) ==
             LETHE_UNSUPPORTED &&
         says("row 13: a trained head"));
  EXPECT(e->get<float>(dw, gradients.size()) == gradients);
  EXPECT(e->get<float>(db, static_cast<size_t>(V)) == std::vector<float>(gradients.begin(), gradients.begin() + V));
  EXPECT(load(e, dtype, dh.ref, dh.values.size()) == dh.values);
  EXPECT(settled(e->engine, lethe_head_combine(e->engine, dtype, n, n - 1, d,
                                               e->put(std::vector<int32_t>(static_cast<size_t>(n * LETHE_ROW_FIELDS),
                                                                           static_cast<int32_t>(n - 1))),
                                               coefficient, p.h.ref, dh.ref)) == LETHE_OUT_OF_BOUNDS &&
         says("row 0: source 19 is not in [0, 19)"));
  EXPECT(load(e, dtype, dh.ref, dh.values.size()) == dh.values);
}

void mean_is_the_mean(Engine *e, int32_t dtype) {
  Random random(11);
  for (const auto &[d, V] :
       std::vector<std::pair<int64_t, int64_t>>{{24, 600}, {5, 257}, {1031, 70}, {1, 1}, {8, 256}}) {
    const auto count = static_cast<size_t>(d * V);
    const Stored w = store(e, dtype, normal(&random, d * V, 1.0));
    for (const int64_t offset : {0, 1}) {
      lethe_ref buffer = 0;
      const lethe_ref at = shifted(e, dtype, w.ref, count, offset, &buffer);
      const lethe_ref mean = e->put(std::vector<float>(static_cast<size_t>(d)));
      EXPECT(lethe_head_mean(e->engine, dtype, d, V, at, mean) == LETHE_OK);
      const std::vector<float> seen = e->get<float>(mean, static_cast<size_t>(d));
      for (int64_t j = 0; j < d; ++j) {
        double sum = 0, size = 0;
        for (int64_t v = 0; v < V; ++v) {
          sum += static_cast<double>(w.values[static_cast<size_t>(v * d + j)]);
          size += std::fabs(static_cast<double>(w.values[static_cast<size_t>(v * d + j)]));
        }
        // A chain of sixty-four in fp32, and the rounding of the mean.
        EXPECT(std::fabs(seen[static_cast<size_t>(j)] - sum / static_cast<double>(V)) <=
               65 * lethe::tolerance::kUnit * size / static_cast<double>(V));
      }
      e->drop({buffer, mean});
    }
  }
}

// Rows of many sources, several of one, and of none: sums in row order.
void combine_sums_by_source(Engine *e, int32_t dtype) {
  Random random(5);
  struct Sizes {
    int64_t n, sources, d;
  };
  for (const auto &[n, sources, d] : {Sizes{300, 700, 24}, Sizes{257, 1, 5}, Sizes{2100, 600, 3}, Sizes{3, 5, 300}}) {
    std::vector<int32_t> records;
    for (int64_t i = 0; i < n; ++i) {
      const auto source = static_cast<int32_t>(i % 3 == 0 ? sources - 1 : random.below(sources));
      records.insert(records.end(), {source, -1, LETHE_ROW_UNIFORM_KL, -1, -1});
    }
    const std::vector<float> coefficients = normal(&random, n, 1.0);
    const Stored dh_rows = store(e, dtype, normal(&random, n * d, 1.0));
    std::vector<float> sums(static_cast<size_t>(sources * d)), sizes(sums);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < d; ++j) {
        const auto at = static_cast<size_t>(records[static_cast<size_t>(i * LETHE_ROW_FIELDS)] * d + j);
        const float term = coefficients[static_cast<size_t>(i)] * dh_rows.values[static_cast<size_t>(i * d + j)];
        sums[at] += term;
        sizes[at] += std::fabs(sums[at]) + std::fabs(term);
      }
    }
    const lethe_ref rows = e->put(records), coefficient = e->put(coefficients);
    const Stored dh = store(e, dtype, std::vector<float>(sums.size(), kBefore));
    EXPECT(lethe_head_combine(e->engine, dtype, n, sources, d, rows, coefficient, dh_rows.ref, dh.ref) == LETHE_OK);
    const std::vector<float> seen = load(e, dtype, dh.ref, sums.size());
    const double storage = dtype == LETHE_BF16 ? lethe::tolerance::kBf16Unit : 0;
    bool close = true;
    for (size_t i = 0; i < sums.size(); ++i) {
      // The same chain: a product's and a sum's rounding may be one.
      close = close &&
              std::fabs(seen[i] - sums[i]) <= 2 * lethe::tolerance::kUnit * sizes[i] + storage * std::fabs(sums[i]);
    }
    EXPECT(close);
    e->drop({rows, coefficient, dh_rows.ref, dh.ref});
  }
}

// What one step asks of the head: no wait and, after the first time, no memory.
void nothing_waits(Engine *e, int32_t dtype) {
  const int64_t n = 40, d = 24, V = 131;
  const Problem p = make_problem(e, dtype, n, d, V, true, {true, 0, true});
  int64_t least = 0, most = 0;
  EXPECT(lethe_head_workspace(e->engine, dtype, n, d, V, &least, &most) == LETHE_OK);
  const Counts counts(p.records, p.params);
  const auto put = [e](int64_t floats) { return e->put(std::vector<float>(static_cast<size_t>(floats), 1.0f)); };
  const lethe_ref stats = put(n * LETHE_STATISTICS), dh = put(n * d), workspace = put(9 * least / 4 + 1),
                  coefficient = put(n), norm = put(d), rstd = put(p.sources), dx = put(p.sources * d), dw = put(d);
  std::string written;
  for (int time = 0; time < 2; ++time) {
    EXPECT(lethe_record_launches(e->engine, 1) == LETHE_OK);
    EXPECT(lethe_head_forward(e->engine, dtype, n, p.sources, d, V, counts.references, counts.seconds, p.h.ref, p.w.ref,
                              p.bias.ref, 0, p.mean, p.rows, p.row_params, stats, dh, workspace,
                              9 * least) == LETHE_OK);
    EXPECT(lethe_head_norm_backward(e->engine, dtype, LETHE_NORM_RMS, n, p.sources, d, 0, p.rows, coefficient, dh,
                                    p.h.ref, norm, 0, rstd, dx, dw, 0) == LETHE_OK);
    int64_t needed = 0;
    EXPECT(lethe_launches(e->engine, nullptr, 0, &needed) == LETHE_OK);
    written.assign(static_cast<size_t>(needed), '\0');
    EXPECT(lethe_launches(e->engine, &written[0], needed, &needed) == LETHE_OK);
  }
  EXPECT(lethe_record_launches(e->engine, 0) == LETHE_OK);
  EXPECT(written.find("head_rows") != std::string::npos && written.find("gemm") != std::string::npos &&
         written.find("head_norm") != std::string::npos);
  for (const char *kind : {"\"wait\"", "\"alloc\"", "to_host", "to_device"}) {
    EXPECT(written.find(kind) == std::string::npos);
  }
  EXPECT(lethe_synchronize(e->engine) == LETHE_OK);
}

}  // namespace

int main(int argc, char **argv) {
  const CommandLine line(argc, argv);
  for (const std::string &name : line.backends) {
    Engine e(name.c_str(), line.plugins);
    if (e.status == LETHE_NO_DEVICE && name == "cpu_avx512") continue;
    EXPECT(e.status == LETHE_OK);
    if (e.status != LETHE_OK) return 1;
    const bool device_library = e.cuda && name != "cuda_shim";
    // More rows than a block orders at a time.
    chunks_change_nothing(&e, LETHE_F32, 1500, 3, kVariants[1], !device_library);
    for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
      for (const Variant variant : kVariants) {
        chunks_change_nothing(&e, dtype, 33, 50, variant, device_library);
        chunks_change_nothing(&e, dtype, 1, 7, variant, device_library);
      }
      chunks_change_nothing(&e, dtype, kManyRows, 131, kVariants[3], device_library);
      faults_change_nothing(&e, dtype);
      trained_faults_change_nothing(&e, dtype);
      mean_is_the_mean(&e, dtype);
      combine_sums_by_source(&e, dtype);
      if (e.cuda) nothing_waits(&e, dtype);
    }
  }
  std::printf("head: %d of %d checks failed\n", failures, checks);
  return failures == 0 ? 0 : 1;
}
