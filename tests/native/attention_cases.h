// The shapes that attention is tested with.
#pragma once

#include <string>
#include <vector>

#include "attention_twin.h"

namespace attention_twin {

struct Case {
  const char *name;
  Problem problem;
  bool one_buffer;  // q, k and v are slices of one matrix, as a fused projection leaves them
  float spread;     // of q and k
  float peak;       // when not 0: the first key's score for every query of head 0, above the others' by about this
};

inline Problem problem(int64_t heads, int64_t kv_heads, int64_t head_dim, std::vector<std::vector<int32_t>> segments,
                       int64_t q_rows, int64_t k_rows) {
  return {
      heads,  kv_heads, head_dim, static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim))), std::move(segments),
      q_rows, k_rows};
}

inline Problem with(Problem p, int64_t window, double soft_cap) {
  p.window = window;
  p.soft_cap = soft_cap;
  return p;
}

// One query each, every second over the keys of the one before, the last first.
inline Problem many_segments(int32_t count) {
  std::vector<std::vector<int32_t>> segments;
  for (int32_t i = count - 1; i >= 0; --i) {
    segments.push_back({i, 1, 2 * i, 2, i % 2 == 0 ? 0 : 2 * i - 2, i % 2 == 0 ? 0 : 2});
  }
  return problem(2, 1, 8, segments, count, 2 * count);
}

inline std::vector<Case> cases() {
  return {
      {"one token", problem(1, 1, 8, {{0, 1, 0, 1, 0, 0}}, 1, 1), false, 1, 0},
      {"unequal segments with gaps",
       problem(2, 2, 64, {{1, 5, 1, 5, 0, 0}, {7, 33, 7, 33, 0, 0}, {40, 1, 40, 1, 0, 0}}, 43, 43), true, 2, 0},
      {"shared parents",
       problem(4, 2, 40, {{0, 19, 0, 19, 0, 0}, {19, 7, 19, 7, 0, 19}, {26, 22, 26, 22, 0, 19}, {50, 3, 50, 3, 4, 9}},
               54, 54),
       true, 2, 0},
      // As a batch shares prefixes: the first sequence is whole, others see as much of it as they begin with.
      {"five behind one of several tiles",
       problem(4, 2, 64,
               {{0, 170, 0, 170, 0, 0},
                {170, 40, 170, 40, 0, 150},
                {210, 2, 210, 2, 0, 129},
                {212, 33, 212, 33, 0, 64},
                {245, 1, 245, 1, 0, 150},
                {246, 90, 246, 90, 0, 17}},
               336, 336),
       true, 2, 0},
      {"three behind one in a window, head_dim 128",
       with(problem(2, 1, 128,
                    {{0, 70, 0, 70, 0, 0}, {70, 30, 70, 30, 0, 65}, {100, 20, 100, 20, 0, 33}, {120, 9, 120, 9, 0, 65}},
                    129, 129),
            40, 20),
       true, 2, 0},
      {"a chain of parents",
       problem(2, 1, 16, {{0, 6, 0, 6, 0, 0}, {6, 6, 6, 6, 0, 6}, {12, 6, 12, 6, 6, 6}, {20, 4, 20, 4, 0, 0}}, 24, 24),
       false, 2, 0},
      {"parent that is its own keys", problem(2, 1, 8, {{0, 9, 0, 9, 2, 4}}, 9, 9), false, 2, 0},
      {"parents without queries", problem(2, 2, 32, {{0, 3, 20, 3, 0, 18}, {3, 4, 23, 4, 0, 18}}, 7, 30), false, 2, 0},
      {"grouped 4:1", problem(4, 1, 64, {{0, 31, 0, 31, 0, 0}, {31, 65, 31, 65, 0, 0}}, 96, 96), true, 2, 0},
      {"grouped 6:2, one query", problem(6, 2, 64, {{0, 1, 0, 1, 0, 0}, {1, 1, 5, 1, 0, 0}}, 2, 7), false, 2, 0},
      {"head_dim 128", problem(2, 1, 128, {{0, 50, 0, 50, 0, 0}}, 50, 50), true, 2, 0},
      {"head_dim 1", problem(2, 1, 1, {{0, 20, 0, 20, 0, 0}}, 20, 20), false, 2, 0},
      {"several tiles", problem(2, 1, 40, {{0, 150, 0, 150, 0, 0}, {150, 131, 150, 131, 3, 140}}, 281, 281), true, 2,
       0},
      {"decode", problem(4, 2, 64, {{0, 1, 0, 300, 0, 0}, {1, 1, 300, 17, 0, 0}, {2, 1, 320, 40, 0, 129}}, 3, 360),
       false, 2, 0},
      {"some queries, more keys", problem(2, 1, 64, {{0, 10, 0, 137, 0, 0}, {10, 3, 140, 20, 2, 130}}, 13, 160), false,
       2, 0},
      {"peaked", problem(2, 1, 64, {{0, 140, 0, 140, 0, 0}}, 140, 140), true, 0.5f, 80},
      {"peaked from below", problem(2, 1, 64, {{0, 140, 0, 140, 0, 0}}, 140, 140), true, 0.5f, -80},
      {"large scores", problem(2, 2, 64, {{0, 60, 0, 60, 0, 0}}, 60, 60), false, 30, 0},
      {"window 1", with(problem(2, 1, 16, {{0, 20, 0, 20, 0, 0}}, 20, 20), 1, 0), true, 2, 0},
      {"window of one tile and one",
       with(problem(2, 1, 40, {{0, 150, 0, 150, 0, 0}, {150, 131, 150, 131, 3, 140}}, 281, 281), 129, 0), true, 2, 0},
      {"window over a parent's end", with(problem(4, 2, 24, {{0, 9, 0, 9, 0, 0}, {9, 30, 9, 30, 0, 9}}, 39, 39), 11, 0),
       true, 2, 0},
      {"small window, many tiles", with(problem(4, 1, 64, {{0, 420, 0, 420, 0, 0}}, 420, 420), 37, 0), true, 2, 0},
      {"window as long as the keys", with(problem(2, 1, 16, {{0, 33, 0, 33, 0, 0}}, 33, 33), 33, 0), true, 2, 0},
      {"decode in a window",
       with(problem(4, 2, 64, {{0, 1, 0, 300, 0, 0}, {1, 1, 300, 17, 0, 0}, {2, 1, 320, 40, 0, 129}}, 3, 360), 45, 0),
       false, 2, 0},
      {"some queries in a window", with(problem(2, 1, 64, {{0, 10, 0, 337, 0, 0}}, 10, 337), 150, 0), false, 2, 0},
      {"soft cap", with(problem(4, 2, 40, {{0, 150, 0, 150, 0, 0}, {150, 7, 150, 7, 3, 140}}, 157, 157), 0, 20), true,
       4, 0},
      {"soft cap that saturates", with(problem(2, 2, 64, {{0, 60, 0, 60, 0, 0}}, 60, 60), 0, 5), false, 30, 0},
      {"soft cap in a window", with(problem(4, 1, 64, {{0, 260, 0, 260, 0, 0}}, 260, 260), 70, 50), true, 6, 0},
      {"decode under a soft cap",
       with(problem(4, 2, 64, {{0, 1, 0, 300, 0, 0}, {1, 1, 320, 40, 0, 129}}, 2, 360), 100, 10), false, 6, 0},
      // Every size the CUDA kernels are made for, and sizes between them; no row or start on 16 bytes in some.
      {"head_dim 16, grouped 8:1", problem(8, 1, 16, {{1, 30, 1, 30, 0, 0}}, 33, 40), false, 2, 0},
      {"head_dim 48, grouped 3:1", problem(3, 1, 48, {{0, 50, 0, 70, 0, 0}}, 50, 70), true, 2, 0},
      {"head_dim 80", with(problem(2, 1, 80, {{0, 70, 0, 70, 0, 0}, {70, 20, 70, 20, 5, 60}}, 90, 90), 50, 0), true, 2,
       0},
      {"head_dim 96", problem(2, 2, 96, {{0, 70, 0, 90, 0, 0}}, 70, 90), true, 2, 0},
      {"head_dim 97", problem(2, 1, 97, {{0, 40, 0, 40, 0, 0}}, 40, 40), false, 2, 0},
      {"head_dim 128, several tiles",
       with(problem(2, 1, 128, {{0, 80, 0, 80, 0, 0}, {80, 40, 80, 40, 0, 80}}, 120, 120), 0, 30), true, 2, 0},
      {"head_dim 200", problem(2, 1, 200, {{2, 35, 1, 40, 0, 0}}, 37, 43), false, 2, 0},
      {"head_dim 256", problem(2, 1, 256, {{0, 40, 0, 40, 0, 0}, {40, 30, 40, 30, 3, 37}}, 72, 72), true, 2, 0},
      {"head_dim 260", problem(2, 1, 260, {{0, 20, 0, 70, 0, 0}}, 20, 70), false, 2, 0},
      {"decode in rounds", problem(4, 1, 64, {{0, 1, 0, 1100, 0, 0}, {1, 3, 1100, 20, 0, 600}}, 4, 1120), false, 2, 0},
      {"decode in rounds beside a longer segment",
       with(problem(2, 1, 128, {{0, 1, 0, 700, 0, 0}, {1, 40, 700, 40, 0, 0}, {45, 7, 740, 9, 1, 650}}, 52, 749), 640,
            20),
       true, 2, 0},
      // Few queries over many keys in a pass over whole sequences, and own keys that two segments share.
      {"short behind long",
       problem(2, 1, 16, {{0, 560, 0, 560, 0, 0}, {560, 3, 560, 3, 0, 550}, {563, 1, 563, 1, 0, 560}}, 564, 564), true,
       2, 0},
      {"no more keys than queries, own ones shared",
       problem(1, 1, 4, {{0, 1, 0, 516, 0, 0}, {1, 2, 0, 515, 510, 6}}, 516, 516), false, 2, 0},
      {"decode, head_dim 96", problem(3, 1, 96, {{0, 5, 0, 80, 0, 0}}, 5, 80), true, 2, 0},
      {"decode, head_dim 256", problem(2, 2, 256, {{0, 2, 0, 90, 0, 0}, {2, 1, 90, 600, 0, 0}}, 3, 690), false, 2, 0},
      {"many segments out of order", many_segments(150), true, 2, 0},
      {"no segments", problem(2, 1, 64, {}, 5, 6), true, 1, 0},
      {"no rows", problem(2, 1, 64, {}, 0, 0), false, 1, 0},
      {"an empty segment", problem(2, 1, 64, {{3, 0, 2, 2, 0, 0}, {0, 2, 0, 2, 0, 0}, {1, 0, 0, 0, 0, 0}}, 4, 4), false,
       1, 0},
  };
}

}  // namespace attention_twin
