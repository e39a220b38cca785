// Attention backward: a block of query rows passes over the tiles of keys that it sees, and both sides' gradients are
// added up in fp32.
#include <cstring>

#include "attention.h"
#include "vector_math.h"

namespace lethe::cpu {
namespace {

constexpr int64_t kRowBlock = 48;  // query rows that one pass over dk and dv adds up
static_assert(kRowBlock % kTileRows == 0);

// Tile t of columns[tiles][padded][kKeyTile] is the transpose of its rows.
void transpose_keys(const float *rows, int64_t keys, int64_t padded, float *columns) {
  for (int64_t j = 0; j < keys; j += kLanes) {
    float *tile = columns + j / kKeyTile * kKeyTile * padded + j % kKeyTile;
    for (int64_t d = 0; d < padded; d += kLanes) {
      transpose_block(rows + j * padded + d, padded, tile + d * kKeyTile, kKeyTile);
    }
  }
}

struct BackwardScratch {
  float *keys, *key_columns, *value_columns;  // packed operands
  float *dkeys, *dvalues;                     // the segment's gradients, by key of its list
  float *queries, *douts, *dqueries;          // a block of rows
  float *p, *ds, *lse, *delta;
  static BackwardScratch carve(Carver *c, int64_t keys, int64_t padded) {
    BackwardScratch s;
    s.key_columns = c->take(tiles_of(keys) * kKeyTile * padded);
    s.value_columns = c->take(tiles_of(keys) * kKeyTile * padded);
    for (float **rows : {&s.keys, &s.dkeys, &s.dvalues}) *rows = c->take(round_up(keys, kLanes) * padded);
    for (float **rows : {&s.queries, &s.douts, &s.dqueries}) *rows = c->take(kRowBlock * padded);
    for (float **tile : {&s.p, &s.ds}) *tile = c->take(kRowBlock * kKeyTile);
    for (float **column : {&s.lse, &s.delta}) *column = c->take(kRowBlock);
    return s;
  }
};

template <class T>
void load_block(const Unit<T> &unit, const BackwardScratch &s, int64_t first, int64_t rows) {
  const int64_t padded = unit.shape.padded;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t at = unit.out_at(first + i);
    float *dout = s.douts + i * padded;
    float *out = s.dqueries + i * padded;  // a free place until the products begin
    pack_row(static_cast<const T *>(unit.a.q) + unit.q_at(first + i), unit.a.head_dim, padded, unit.a.scale,
             s.queries + i * padded);
    pack_row(static_cast<const T *>(unit.a.dout) + at, unit.a.head_dim, padded, 1.0f, dout);
    pack_row(static_cast<const T *>(unit.a.out) + at, unit.a.head_dim, padded, 1.0f, out);
    vec sum = {};
    for (int64_t d = 0; d < padded; d += kVec) sum += vload(dout + d) * vload(out + d);
    s.delta[i] = fold_sum(sum);
    s.lse[i] = unit.a.lse[unit.lse_at(first + i)];
  }
}

// p and ds of one row against one tile, zeros outside [hidden, visible) to `end`.
void probabilities_row(const BackwardScratch &s, int64_t i, int64_t hidden, int64_t visible, int64_t end,
                       float soft_cap) {
  float *p = s.p + i * kKeyTile;
  float *ds = s.ds + i * kKeyTile;
  const int64_t n = round_up(visible, kVec);
  for (int64_t j = 0; j < n; j += kVec) {
    vec score = vload(p + j), slope = vec{} + 1.0f;
    if (soft_cap > 0) {
      const vec t = tanh(score * (1.0f / soft_cap));
      score = t * soft_cap;
      slope = (1.0f - t) * (t + 1.0f);
    }
    const vec weight = vector_math::exp_of_score(score - s.lse[i]);
    vstore(p + j, weight);
    vstore(ds + j,
           soft_cap > 0 ? weight * (vload(ds + j) - s.delta[i]) * slope : weight * (vload(ds + j) - s.delta[i]));
  }
  std::fill(p, p + hidden, 0.0f);
  std::fill(ds, ds + hidden, 0.0f);
  std::fill(p + visible, p + end, 0.0f);
  std::fill(ds + visible, ds + end, 0.0f);
}

// Rows [first, first + rows) of the unit against the keys from `begin`; `opens`: the first tile that they see.
template <class T>
void backward_tile(const Unit<T> &unit, const BackwardScratch &s, int64_t first, int64_t rows, int64_t begin,
                   bool opens) {
  const int64_t padded = unit.shape.padded;
  const int64_t d = unit.a.head_dim;
  const int64_t tile_keys = visible_in_tile(unit.visible(first + rows - 1), begin);
  const int64_t end = round_up(tile_keys, kLanes);
  const float *key_columns = s.key_columns + begin * padded;
  const float *value_columns = s.value_columns + begin * padded;
  for (int64_t i = 0; i < rows; i += kTileRows) {
    const int64_t n = std::min(kTileRows, rows - i);
    const int64_t keys = visible_in_tile(unit.visible(first + i + n - 1), begin);
    if (keys == 0) continue;
    const int64_t columns = round_up(keys, kLanes);
    float *p = s.p + i * kKeyTile;
    float *ds = s.ds + i * kKeyTile;
    if (visible_in_tile(unit.hidden(first + i), begin) >= keys) {
      // All of the tile lies before these rows' windows; keys sum over them nevertheless.
      std::fill(p, p + n * kKeyTile, 0.0f);
      std::fill(ds, ds + n * kKeyTile, 0.0f);
      if (opens) std::fill(s.dqueries + i * padded, s.dqueries + (i + n) * padded, 0.0f);
      continue;
    }
    product({d, s.queries + i * padded, padded, 1, key_columns, kKeyTile, p, kKeyTile, false}, n, columns);
    product({d, s.douts + i * padded, padded, 1, value_columns, kKeyTile, ds, kKeyTile, false}, n, columns);
    for (int64_t r = i; r < i + n; ++r) {
      probabilities_row(s, r, visible_in_tile(unit.hidden(first + r), begin),
                        visible_in_tile(unit.visible(first + r), begin), end, unit.a.soft_cap);
    }
    product({keys, ds, kKeyTile, 1, s.keys + begin * padded, padded, s.dqueries + i * padded, padded, !opens}, n,
            padded);
  }
  for (int64_t j = 0; j < tile_keys; j += kTileRows) {
    // The first row that sees key j.
    int64_t from = 0;
    while (unit.visible(first + from) - begin <= j) ++from;
    const int64_t n = std::min(kTileRows, tile_keys - j);
    const int64_t at = (begin + j) * padded;
    product({rows - from, s.p + from * kKeyTile + j, 1, kKeyTile, s.douts + from * padded, padded, s.dvalues + at,
             padded, true},
            n, padded);
    product({rows - from, s.ds + from * kKeyTile + j, 1, kKeyTile, s.queries + from * padded, padded, s.dkeys + at,
             padded, true},
            n, padded);
  }
}

// dq of the unit, and dk, dv into s.dkeys, s.dvalues.
template <class T>
void backward_unit(const Unit<T> &unit, const BackwardScratch &s) {
  const int64_t padded = unit.shape.padded;
  const int64_t keys = unit.segment.keys();
  std::fill(s.dkeys, s.dkeys + keys * padded, 0.0f);
  std::fill(s.dvalues, s.dvalues + keys * padded, 0.0f);
  if (unit.rows() == 0) return;
  pack_keys(unit, v_of<T>, s.keys);
  transpose_keys(s.keys, keys, padded, s.value_columns);
  pack_keys(unit, k_of<T>, s.keys);
  transpose_keys(s.keys, keys, padded, s.key_columns);
  for (int64_t first = 0; first < unit.rows(); first += kRowBlock) {
    const int64_t rows = std::min(kRowBlock, unit.rows() - first);
    load_block(unit, s, first, rows);
    const int64_t visible = unit.visible(first + rows - 1), start = first_tile(unit.hidden(first));
    for (int64_t begin = start; begin < visible; begin += kKeyTile) {
      backward_tile(unit, s, first, rows, begin, begin == start);
    }
    for (int64_t i = 0; i < rows; ++i) {
      unpack_row(s.dqueries + i * padded, unit.a.head_dim, unit.a.scale,
                 static_cast<T *>(unit.a.dq) + unit.q_at(first + i));
    }
  }
}

template <class T>
void write_key(const lethe_attention_args &a, int64_t kv_head, int64_t row, const float *dk, const float *dv) {
  unpack_row(dk, a.head_dim, 1.0f, static_cast<T *>(a.dk) + row * a.k_stride + kv_head * a.head_dim);
  unpack_row(dv, a.head_dim, 1.0f, static_cast<T *>(a.dv) + row * a.v_stride + kv_head * a.head_dim);
}

void add_rows(const float *from, int64_t n, float *to) {
  for (int64_t i = 0; i < n; i += kVec) vstore(to + i, vload(to + i) + vload(from + i));
}

// A segment that shares no key, not even with itself, needs no sum of its own.
bool alone(const SegmentGroup &group, const std::vector<Segment> &segments) {
  return group.segments.size() == 1 && group.key_count == segments[static_cast<size_t>(group.segments.front())].keys();
}

template <class T>
void backward_group(const lethe_attention_args &a, const std::vector<Segment> &segments, const SegmentGroup &group,
                    Shape shape, int64_t kv_head, Carver carver) {
  const int64_t padded = shape.padded;
  if (alone(group, segments)) {
    const Segment &segment = segments[static_cast<size_t>(group.segments.front())];
    const BackwardScratch s = BackwardScratch::carve(&carver, segment.keys(), padded);
    backward_unit(Unit<T>{a, segment, shape, kv_head}, s);
    for (int64_t j = 0; j < segment.keys(); ++j) {
      write_key<T>(a, kv_head, segment.key_row(j), s.dkeys + j * padded, s.dvalues + j * padded);
    }
    return;
  }
  float *dkeys = carver.take(group.key_count * padded);
  float *dvalues = carver.take(group.key_count * padded);
  std::fill(dkeys, dkeys + group.key_count * padded, 0.0f);
  std::fill(dvalues, dvalues + group.key_count * padded, 0.0f);
  for (const int64_t index : group.segments) {
    const Segment &segment = segments[static_cast<size_t>(index)];
    Carver inner = carver;
    const BackwardScratch s = BackwardScratch::carve(&inner, segment.keys(), padded);
    backward_unit(Unit<T>{a, segment, shape, kv_head}, s);
    int64_t j = 0;
    for (const Rows &range : {segment.parent, segment.own}) {
      const int64_t to = range.size() == 0 ? 0 : group.offset_of(range.begin) * padded;
      add_rows(s.dkeys + j * padded, range.size() * padded, dkeys + to);
      add_rows(s.dvalues + j * padded, range.size() * padded, dvalues + to);
      j += range.size();
    }
  }
  int64_t j = 0;
  for (const Rows &range : group.keys) {
    for (int64_t row = range.begin; row < range.end; ++row, ++j) {
      write_key<T>(a, kv_head, row, dkeys + j * padded, dvalues + j * padded);
    }
  }
}

template <class T>
void zero_rows(const std::vector<Rows> &ranges, void *rows, int64_t width, int64_t stride) {
  for (const Rows &range : ranges) {
    for (int64_t row = range.begin; row < range.end; ++row) {
      std::memset(static_cast<T *>(rows) + row * stride, 0, static_cast<size_t>(width) * sizeof(T));
    }
  }
}

template <class T>
void zero_uncovered(const lethe_attention_args &a, const std::vector<Segment> &segments) {
  std::vector<Rows> queries, keys;
  for (const Segment &s : segments) {
    queries.push_back(s.queries);
    keys.push_back(s.own);
    keys.push_back(s.parent);
  }
  zero_rows<T>(uncovered(queries, a.q_rows), a.dq, a.heads * a.head_dim, a.q_stride);
  const std::vector<Rows> gaps = uncovered(keys, a.k_rows);
  zero_rows<T>(gaps, a.dk, a.kv_heads * a.head_dim, a.k_stride);
  zero_rows<T>(gaps, a.dv, a.kv_heads * a.head_dim, a.v_stride);
}

template <class T>
int backward(Device *device, const lethe_attention_args &a) {
  std::vector<Segment> segments;
  const int status = read_segments(device, a, &segments);
  if (status != LETHE_OK) return status;
  zero_uncovered<T>(a, segments);
  const std::vector<SegmentGroup> groups = group_by_keys(segments);
  const Shape shape = {a.heads / a.kv_heads, round_up(a.head_dim, kLanes)};
  int64_t most_keys = 0, most_shared = 0;
  for (const Segment &s : segments) most_keys = std::max(most_keys, s.keys());
  for (const SegmentGroup &g : groups) {
    if (!alone(g, segments)) most_shared = std::max(most_shared, g.key_count);
  }
  Carver count(nullptr);
  count.take(most_shared * shape.padded);
  count.take(most_shared * shape.padded);
  BackwardScratch::carve(&count, most_keys, shape.padded);
  float *scratch = device->attention_scratch.of<float>(count.used() * device->threads);
  const int64_t units = static_cast<int64_t>(groups.size()) * a.kv_heads;
#pragma omp parallel for schedule(dynamic)
  for (int64_t u = 0; u < units; ++u) {
    backward_group<T>(a, segments, groups[static_cast<size_t>(u / a.kv_heads)], shape, u % a.kv_heads,
                      Carver(scratch + omp_get_thread_num() * count.used()));
  }
  return LETHE_OK;
}

}  // namespace

int attention_backward(Device *device, const lethe_attention_args *args) {
  return run(device, __func__, [&] {
    return args->dtype == LETHE_BF16 ? backward<bf16>(device, *args) : backward<float>(device, *args);
  });
}

}  // namespace lethe::cpu
