// How the CPU's head cuts its rows: as few chunks as the workspace allows, about equal, references with their rows.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "head_plan.h"

namespace {

using namespace lethe::cpu;

int passed = 0, failed = 0;

void expect(bool condition, const char *what) {
  condition ? ++passed : ++failed;
  if (!condition) std::fprintf(stderr, "FAILED %s\n", what);
}
#define EXPECT(condition) expect(condition, #condition)

struct Rows {
  std::vector<int32_t> records;
  std::vector<float> params;
  lethe_head_args args = {};

  // Every `stride`-th row has a reference, and every second one of those two; 0: none.
  Rows(int64_t n, int64_t stride)
      : records(static_cast<size_t>(n * LETHE_ROW_FIELDS), -1), params(static_cast<size_t>(n * LETHE_ROW_PARAMS)) {
    for (int64_t i = 0; i < n; ++i) {
      int32_t *r = records.data() + i * LETHE_ROW_FIELDS;
      const bool reference = stride > 0 && i % stride == 0;
      r[0] = static_cast<int32_t>(i);
      r[1] = 0;
      r[2] = reference ? LETHE_ROW_REFERENCE_KL : LETHE_ROW_NLL;
      params[static_cast<size_t>(i * LETHE_ROW_PARAMS)] = 1.0f;
      if (reference && i % (2 * stride) == 0) params[static_cast<size_t>(i * LETHE_ROW_PARAMS + 2)] = 0.5f;
    }
    args.dtype = LETHE_F32;
    args.d = 24;
    args.V = 96;
    args.n = n;
    args.rows = records.data();
    args.row_params = params.data();
  }

  std::vector<Chunk> cut(int64_t workspace) {
    args.workspace_bytes = workspace;
    std::vector<Chunk> chunks;
    for (int64_t begin = 0; begin < args.n; begin = chunks.back().end) {
      chunks.push_back(next_chunk(args, begin));
      if (chunks.back().end <= begin) break;
    }
    return chunks;
  }
};

void plain_rows_are_cut_evenly() {
  for (const int64_t n : {1, 2, 7, 262, 263, 344, 345, 860, 1376}) {
    for (const int64_t most : {2, 3, 128, 262, 2000}) {
      Rows rows(n, 0);
      const auto chunks = rows.cut(layout(LETHE_F32, rows.args.d, rows.args.V, most, 0).bytes);
      EXPECT(static_cast<int64_t>(chunks.size()) == (n + most - 1) / most);
      EXPECT(chunks.front().begin == 0 && chunks.back().end == n);
      for (const Chunk &chunk : chunks) {
        EXPECT(chunk.size() <= most && chunk.deltas.empty());
        EXPECT(chunks.front().size() - chunk.size() <= 1);
      }
    }
  }
}

void references_stay_with_their_rows() {
  for (const int64_t stride : {1, 3, 10}) {
    Rows rows(200, stride);
    const int64_t workspace = layout(LETHE_F32, rows.args.d, rows.args.V, 30, 20).bytes;
    int64_t end = 0;
    for (const Chunk &chunk : rows.cut(workspace)) {
      EXPECT(chunk.begin == end && chunk.end > chunk.begin);
      end = chunk.end;
      std::vector<Delta> expected;
      for (int64_t row = chunk.begin; row < chunk.end; ++row) {
        if (row % stride == 0) expected.push_back({row, false});
        if (row % (2 * stride) == 0) expected.push_back({row, true});
      }
      EXPECT(chunk.deltas.size() == expected.size());
      for (size_t i = 0; i < expected.size() && i < chunk.deltas.size(); ++i) {
        EXPECT(chunk.deltas[i].row == expected[i].row && chunk.deltas[i].second == expected[i].second);
      }
      const auto deltas = static_cast<int64_t>(chunk.deltas.size());
      EXPECT(layout(LETHE_F32, rows.args.d, rows.args.V, chunk.size(), deltas).bytes <= workspace);
    }
    EXPECT(end == rows.args.n);
  }
}

}  // namespace

int main() {
  plain_rows_are_cut_evenly();
  references_stay_with_their_rows();
  std::printf("head_chunks_test: %d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
