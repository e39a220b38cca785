// Attention forward: softmax row by row as the tiles of keys come, and queries that stand alone by attention_decode.h.
#include <cmath>

#include "attention.h"
#include "attention_decode.h"
#include "vector_math.h"

namespace lethe::cpu {
namespace {

template <class T>
void pack_transposed(const Unit<T> &unit, float *block, float *columns) {
  const int64_t keys = unit.segment.keys();
  const int64_t padded = unit.shape.padded;
  for (int64_t j = 0; j < keys; j += kLanes) {
    const int64_t n = std::min(kLanes, keys - j);
    for (int64_t i = 0; i < n; ++i) {
      prefetch_row(unit.k(std::min(j + i + kRowsAhead, keys - 1)), unit.a.head_dim);
      pack_row(unit.k(j + i), unit.a.head_dim, padded, 1.0f, block + i * padded);
    }
    std::fill(block + n * padded, block + kLanes * padded, 0.0f);
    float *tile = columns + j / kKeyTile * kKeyTile * padded + j % kKeyTile;
    for (int64_t d = 0; d < padded; d += kLanes) {
      transpose_block(block + d, padded, tile + d * kKeyTile, kKeyTile);
    }
  }
}

struct ForwardScratch {
  float *columns, *values, *block, *queries, *scores, *out;
  static ForwardScratch carve(Carver *c, int64_t keys, int64_t padded) {
    ForwardScratch s;
    s.columns = c->take(tiles_of(keys) * kKeyTile * padded);
    s.values = c->take(round_up(keys, kLanes) * padded);
    s.block = c->take(kLanes * padded);
    s.queries = c->take(kTileRows * padded);
    s.scores = c->take(kTileRows * kKeyTile);
    s.out = c->take(kTileRows * padded);
    return s;
  }
};

struct RowState {
  float max;
  vec sum;
};

// scores[0, n) -> exp(scores - max), with keys outside [hidden, visible) as 0; what stands in `out` moves to the new
// maximum.
void softmax_row(float *scores, int64_t hidden, int64_t visible, int64_t n, int64_t padded, float *out,
                 RowState *state) {
  if (hidden >= visible) {
    std::fill(scores, scores + n, 0.0f);
    return;
  }
  std::fill(scores, scores + hidden, -kInfinity);
  std::fill(scores + visible, scores + n, -kInfinity);
  vec largest = vload(scores);
  for (int64_t j = kVec; j < n; j += kVec) {
    largest = vmax(largest, vload(scores + j));
  }
  const float max = std::max(state->max, fold_max(largest));
  if (max != state->max && state->max != -kInfinity) {
    const float shrink = exp(f32x8{} + (state->max - max))[0];
    state->sum *= shrink;
    for (int64_t d = 0; d < padded; d += kVec) vstore(out + d, vload(out + d) * shrink);
  }
  state->max = max;
  for (int64_t j = 0; j < n; j += kVec) {
    const vec p = vector_math::exp_of_score(vload(scores + j) - max);
    state->sum += p;
    vstore(scores + j, p);
  }
}

// Up to kTileRows query rows from `first`.
template <class T>
void forward_rows(const Unit<T> &unit, const ForwardScratch &s, int64_t first) {
  const int64_t padded = unit.shape.padded;
  const int64_t n = std::min(kTileRows, unit.rows() - first);
  RowState state[kTileRows];
  for (int64_t i = 0; i < n; ++i) {
    state[i] = {-kInfinity, vec{}};
    const T *q = static_cast<const T *>(unit.a.q);
    prefetch_row(q + unit.q_at(std::min(first + i + kTileRows, unit.rows() - 1)), unit.a.head_dim);
    pack_row(q + unit.q_at(first + i), unit.a.head_dim, padded, unit.a.scale, s.queries + i * padded);
  }
  const int64_t visible = unit.visible(first + n - 1), start = first_tile(unit.hidden(first));
  for (int64_t begin = start; begin < visible; begin += kKeyTile) {
    const int64_t keys = visible_in_tile(visible, begin);
    const int64_t columns = round_up(keys, kLanes);
    product({unit.a.head_dim, s.queries, padded, 1, s.columns + begin * padded, kKeyTile, s.scores, kKeyTile, false}, n,
            columns);
    for (int64_t i = 0; i < n; ++i) {
      cap_scores(s.scores + i * kKeyTile, columns, unit.a.soft_cap);
      softmax_row(s.scores + i * kKeyTile, visible_in_tile(unit.hidden(first + i), begin),
                  visible_in_tile(unit.visible(first + i), begin), columns, padded, s.out + i * padded, state + i);
    }
    product({keys, s.scores, kKeyTile, 1, s.values + begin * padded, padded, s.out, padded, begin > start}, n, padded);
  }
  for (int64_t i = 0; i < n; ++i) {
    const float sum = fold_sum(state[i].sum);
    unpack_row(s.out + i * padded, unit.a.head_dim, 1.0f / sum, static_cast<T *>(unit.a.out) + unit.out_at(first + i));
    if (unit.a.lse != nullptr) unit.a.lse[unit.lse_at(first + i)] = state[i].max + std::log(sum);
  }
}

template <class T>
void forward_unit(const Unit<T> &unit, const ForwardScratch &s) {
  pack_transposed(unit, s.block, s.columns);
  pack_keys(unit, v_of<T>, s.values);
  for (int64_t row = 0; row < unit.rows(); row += kTileRows) forward_rows(unit, s, row);
}

// What one thread takes at a time: a key head of a segment, or, of a segment with one query, a range of them.
struct Task {
  int64_t segment;
  KeyHeads heads;
};

// A query alone reads each key once: packing would cost more than it saves, and all heads together read whole rows.
bool decodes(const Segment &segment) { return segment.queries.size() == 1; }

std::vector<Task> forward_tasks(const std::vector<Segment> &segments, int64_t kv_heads, int threads) {
  std::vector<Task> tasks;
  const bool split = static_cast<int64_t>(segments.size()) < threads;
  for (size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].queries.size() == 0) continue;
    const int64_t step = decodes(segments[i]) && !split ? kv_heads : 1;
    for (int64_t h = 0; h < kv_heads; h += step) tasks.push_back({static_cast<int64_t>(i), {h, h + step}});
  }
  return tasks;
}

template <class T>
void forward_task(const lethe_attention_args &a, const Segment &segment, KeyHeads heads, Shape shape, Carver carver) {
  if (decodes(segment)) {
    const DecodeScratch s =
        DecodeScratch::carve(&carver, (heads.end - heads.begin) * shape.group, segment.keys(), shape.padded);
    Decode<T>{a, segment, heads, s}.run();
    return;
  }
  forward_unit(Unit<T>{a, segment, shape, heads.begin}, ForwardScratch::carve(&carver, segment.keys(), shape.padded));
}

template <class T>
int forward(Device *device, const lethe_attention_args &a) {
  std::vector<Segment> segments;
  const int status = read_segments(device, a, &segments);
  if (status != LETHE_OK) return status;
  const Shape shape = {a.heads / a.kv_heads, round_up(a.head_dim, kLanes)};
  int64_t per_thread = 0;
  for (const Segment &s : segments) {
    Carver count(nullptr);
    if (decodes(s)) {
      DecodeScratch::carve(&count, a.heads, s.keys(), shape.padded);
    } else {
      ForwardScratch::carve(&count, s.keys(), shape.padded);
    }
    per_thread = std::max(per_thread, count.used());
  }
  float *scratch = device->attention_scratch.of<float>(per_thread * device->threads);
  const std::vector<Task> tasks = forward_tasks(segments, a.kv_heads, device->threads);
#pragma omp parallel for schedule(dynamic)
  for (size_t i = 0; i < tasks.size(); ++i) {
    forward_task<T>(a, segments[static_cast<size_t>(tasks[i].segment)], tasks[i].heads, shape,
                    Carver(scratch + omp_get_thread_num() * per_thread));
  }
  return LETHE_OK;
}

}  // namespace

int attention_forward(Device *device, const lethe_attention_args *args) {
  return run(device, __func__,
             [&] { return args->dtype == LETHE_BF16 ? forward<bf16>(device, *args) : forward<float>(device, *args); });
}

}  // namespace lethe::cpu
