// Attention on the device: what its kernels share. native/cpu/attention.h has the formulas.
//
// A unit of work is a key head and a tile of its segment's rows, where row r is query r / group with the group's head
// r % group: a group shares the keys that are loaded. Keys are the list of the parent's, then the own ones; tiles of
// keys begin at multiples of their size in it, whatever else the call holds, so that a query's bits are its segment's
// alone. No host knows the table: a plan kernel checks it and lists the row tiles.
#pragma once

#include "device.cuh"
#include "mma.cuh"

namespace lethe::cuda::attention {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

__host__ __device__ constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
__host__ __device__ constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
__device__ inline float negative_infinity() { return __int_as_float(static_cast<int>(0xff800000u)); }

struct Tile {
  int32_t segment, number;
};
struct PlanHeader {
  int32_t tiles;    // row tiles there are
  int32_t covered;  // whether every query row belongs to a segment
};

// What every kernel is given.
struct Call {
  lethe_attention_args a;
  const int *closed;  // the gate
  const PlanHeader *plan;
  const Tile *tiles;
  unsigned group;   // query heads of a key head
  int decode_rows;  // segments of so few rows are left to the decode kernels: they have no tile
  float *delta;     // backward: rowsum(dout out), [q_rows, heads]
  // 16 bytes at a time; fast_out: of dout, too.
  bool fast_q, fast_k, fast_v, fast_out, fast_dq, fast_dk, fast_dv;
};

struct Segment {
  int64_t query, queries, own, own_keys, parent, parent_keys;

  static __device__ Segment read(const lethe_attention_args &a, int64_t index) {
    const int32_t *f = a.segment_table + index * LETHE_SEGMENT_FIELDS;
    return {f[0], f[1], f[2], f[3], f[4], f[5]};
  }
  __device__ int64_t keys() const { return parent_keys + own_keys; }
  __device__ int64_t key_row(int64_t j) const { return j < parent_keys ? parent + j : own + (j - parent_keys); }
  // Query i sees the keys [hidden(i), visible(i)) of the list.
  __device__ int64_t visible(int64_t i) const { return keys() - queries + i + 1; }
  __device__ int64_t hidden(int64_t i, int64_t window) const {
    return window == 0 ? 0 : larger(visible(i) - window, 0);
  }
};

// `rows` rows of a segment from `first`, and where they stand.
struct RowTile {
  int64_t query;  // of row 0, counted in the segment
  unsigned head;  // of row 0, counted in the group
  unsigned group;
  int rows;

  __device__ RowTile(const Segment &s, int64_t first, int most, unsigned heads)
      : query(first / heads),
        head(static_cast<unsigned>(first - query * heads)),
        group(heads),
        rows(static_cast<int>(smaller(most, s.queries * heads - first))) {}
  __device__ int64_t query_of(int r) const { return query + (head + static_cast<unsigned>(r)) / group; }
  __device__ unsigned head_of(int r) const { return (head + static_cast<unsigned>(r)) % group; }
};

// The place of a row in q and dq, in out and dout, and in lse.
struct Row {
  int64_t q, out, lse;
  __device__ Row(const Call &c, const Segment &s, const RowTile &tile, int64_t kv_head, int r) {
    const int64_t token = s.query + tile.query_of(r);
    const int64_t head = kv_head * c.group + tile.head_of(r);
    lse = token * c.a.heads + head;
    q = token * c.a.q_stride + head * c.a.head_dim;
    out = lse * c.a.head_dim;
  }
};

// The tiles of `tile` rows that see a key of [from, to) of the list.
struct SeenBy {
  int64_t first, end;
  __device__ SeenBy(const Segment &s, int64_t from, int64_t to, int64_t window, unsigned group, int tile)
      : first(0), end(0) {
    // Query i sees key j where j < lead + i + 1 and, in a window, lead + i + 1 - window <= j.
    const int64_t lead = s.keys() - s.queries;
    const int64_t low = larger(from - lead, 0);
    const int64_t high = window == 0 ? s.queries : smaller(s.queries, to - lead - 1 + window);
    if (from >= to || low >= high) return;
    first = low * group / tile;
    end = (high * group + tile - 1) / tile;
  }
};

// Calls body(segment, place of row `begin` in its list, list's places [from, to) that lie in the key rows [begin, end))
// for every segment that sees any of the rows, in the order of the table, its own keys first. By all threads of a
// block together, who see the same.
template <class Body>
__device__ void for_segments_of_keys(const lethe_attention_args &a, int64_t begin, int64_t end, Body &&body) {
  constexpr int kAtOnce = 128;
  __shared__ int meets[kAtOnce];
  const auto overlap = [&](int64_t first, int64_t rows) { return smaller(first + rows, end) > larger(first, begin); };
  for (int64_t first = 0; first < a.segments; first += kAtOnce) {
    const int64_t index = first + threadIdx.x;
    __syncthreads();  // meets has been read
    if (threadIdx.x < kAtOnce) {
      const Segment s = index < a.segments ? Segment::read(a, index) : Segment{};
      meets[threadIdx.x] = s.queries > 0 && (overlap(s.own, s.own_keys) || overlap(s.parent, s.parent_keys));
    }
    __syncthreads();  // meets is written
    for (int i = 0; i < kAtOnce; ++i) {
      if (!meets[i]) continue;
      const Segment s = Segment::read(a, first + i);
      for (int own = 1; own >= 0; --own) {
        const int64_t row = own ? s.own : s.parent, rows = own ? s.own_keys : s.parent_keys;
        const int64_t place = own ? s.parent_keys : 0;  // of `row` in the list
        if (!overlap(row, rows)) continue;
        body(s, place + begin - row, place + larger(begin - row, 0), place + smaller(end - row, rows));
      }
    }
  }
}

// Scores as exponents of 2: a product of q and k becomes scale s, or cap tanh(scale s / cap), times log2 e.
struct Scores {
  float scale, cap;
  __device__ explicit Scores(const lethe_attention_args &a)
      : scale(a.soft_cap > 0 ? a.scale / a.soft_cap : a.scale * kLog2E), cap(a.soft_cap * kLog2E) {}
  __device__ float exponent(float product) const { return cap > 0 ? cap * tanhf(product * scale) : product * scale; }
  // d exponent / d (scale s log2 e), from the exponent.
  __device__ float slope(float exponent) const {
    if (!(cap > 0)) return 1.0f;
    const float t = exponent / cap;
    return (1.0f - t) * (1.0f + t);
  }
};

// Of rows of queries and of keys that are read or written so many times.
inline int64_t least_bytes(const lethe_attention_args &a, int64_t queries, int64_t keys) {
  return element_bytes(a.dtype) * a.head_dim * (queries * a.q_rows * a.heads + keys * a.k_rows * a.kv_heads);
}

// ---- the plan (attention_plan.cu) ----
struct PlanMemory {
  PlanHeader *header;
  Tile *tiles;
  int32_t *ends;  // [segments]
};
// Most row tiles of `rows` rows that a call can have.
inline int64_t most_tiles(const lethe_attention_args &a, int rows) {
  return ceil_div(a.q_rows * (a.heads / a.kv_heads), rows) + a.segments;
}
int plan(Device *device, const Call &call, int tile_rows, const PlanMemory &memory);
// delta = rowsum(dout out), and zeros in dq where a query row may belong to no segment.
int prepare_backward(Device *device, const Call &call);

// ---- tensor cores: bf16, head_dim up to kMostMmaDim (attention_forward.cu, attention_backward.cu) ----
constexpr int64_t kMostMmaDim = 256;
constexpr int kBackwardRows = 64;
int mma_tile_rows(int64_t head_dim, bool backward);
int mma_forward(Device *device, const Call &call);
int mma_backward(Device *device, const Call &call);

// ---- decoding: segments of few rows, whose keys are split (attention_decode.cu) ----
constexpr int kDecodeRows = 16;
// Bytes of scratch for what the splits find out.
int64_t decode_bytes(const lethe_attention_args &a);
// Whether segments are of so few rows on average: what the host can tell of who does the work.
inline bool mostly_decodes(const lethe_attention_args &a) {
  return a.q_rows * (a.heads / a.kv_heads) <= a.segments * kDecodeRows;
}
int decode_forward(Device *device, const Call &call, float *found);

// ---- fp32 arithmetic, any head_dim (attention_plain.cu) ----
constexpr int kPlainRows = 64;
int plain_forward(Device *device, const Call &call);
int plain_backward(Device *device, const Call &call);

}  // namespace lethe::cuda::attention
