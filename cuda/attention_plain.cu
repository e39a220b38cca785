// Attention in fp32 arithmetic for fp32 storage, and for bf16 whose head_dim the tensor-core kernels do not know. The
// scores of a tile are summed over slices of head_dim; a block writes kColumns of its rows' numbers, and where
// head_dim is larger, several blocks compute the same scores.
#include "attention.cuh"

namespace lethe::cuda::attention {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 64;  // rows and keys
static_assert(kTile == kPlainRows);
constexpr int kSide = 16;             // threads in a row of the block's square
constexpr int kMine = kTile / kSide;  // rows and keys of a thread
constexpr int kSlice = 16;            // numbers of head_dim, or keys, at a time
constexpr int kMostColumns = 128;
constexpr int kPitch = kTile + 4;

// A product's operands, by k: x[k][row], y[k][column].
struct Slices {
  float x[kSlice][kPitch];
  float y[kSlice][kMostColumns + 4];
};

__device__ inline int thread_x() { return static_cast<int>(threadIdx.x) % kSide; }
__device__ inline int thread_y() { return static_cast<int>(threadIdx.x) / kSide; }

template <int kN>
__device__ void clear(float (&c)[kMine][kN]) {
#pragma unroll
  for (int i = 0; i < kMine; ++i) {
#pragma unroll
    for (int j = 0; j < kN; ++j) c[i][j] = 0.0f;
  }
}

// Columns of a thread lie kSide apart where they are many: neighbours then read neighbours.
__device__ inline int row_of(int i) { return thread_y() * kMine + i; }
__device__ inline int column_of(int j) { return thread_x() + j * kSide; }

// Slices [begin, begin + kSlice) of `rows` rows' numbers, transposed.
template <class T, int kWidth>
__device__ void load_slice(float (*to)[kWidth], const T *const *rows, int64_t begin, int64_t d) {
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kSlice; i += kThreads) {
    const int r = i / kSlice, k = i % kSlice;
    to[k][r] = rows[r] != nullptr && begin + k < d ? to_float(rows[r][begin + k]) : 0.0f;
  }
}

// c = x y^T over all of d, of rows of numbers; null rows are zeros.
template <class T>
__device__ void product_of_rows(float (&c)[kMine][kMine], const T *const *x, const T *const *y, int64_t d, Slices *s) {
  clear(c);
  for (int64_t begin = 0; begin < d; begin += kSlice) {
    __syncthreads();  // slices may be overwritten
    load_slice(s->x, x, begin, d);
    load_slice(s->y, y, begin, d);
    __syncthreads();  // slices are there
#pragma unroll
    for (int k = 0; k < kSlice; ++k) {
#pragma unroll
      for (int i = 0; i < kMine; ++i) {
#pragma unroll
        for (int j = 0; j < kMine; ++j) c[i][j] += s->x[k][row_of(i)] * s->y[k][column_of(j)];
      }
    }
  }
}

// c += a y: a[k][row] in shared memory over kTile of k, y rows of numbers of which `columns` from `begin` count.
template <class T, int kN>
__device__ void add_product(float (&c)[kMine][kN], const float (*a)[kPitch], const T *const *y, int64_t begin,
                            int64_t d, Slices *s) {
  constexpr int kColumns = kN * kSide;
  for (int slice = 0; slice < kTile; slice += kSlice) {
    __syncthreads();  // the slice may be overwritten, a is written
    for (int i = static_cast<int>(threadIdx.x); i < kSlice * kColumns; i += kThreads) {
      const int k = i / kColumns, column = i % kColumns;
      const T *row = y[slice + k];
      s->y[k][column] = row != nullptr && begin + column < d ? to_float(row[begin + column]) : 0.0f;
    }
    __syncthreads();  // the slice is there
#pragma unroll
    for (int k = 0; k < kSlice; ++k) {
#pragma unroll
      for (int i = 0; i < kMine; ++i) {
#pragma unroll
        for (int j = 0; j < kN; ++j) c[i][j] += a[slice + k][row_of(i)] * s->y[k][column_of(j)];
      }
    }
  }
}

// What a row tile's rows see, and where they stand.
template <class T>
struct Rows {
  const T *q[kTile], *dout[kTile];  // null past the end
  int64_t hidden[kTile], visible[kTile];
  float lse[kTile], delta[kTile];  // exponent of 2
};
template <class T>
struct Keys {
  const T *k[kTile], *v[kTile];  // null past the end
};

template <class T, bool kBackward>
__device__ void find_rows(Rows<T> *to, const Call &c, const Segment &s, const RowTile &tile, int64_t kv_head) {
  const int r = static_cast<int>(threadIdx.x);
  if (r >= kTile) return;
  const bool there = r < tile.rows;
  const Row at(c, s, tile, kv_head, there ? r : 0);
  const int64_t query = tile.query_of(r);
  to->q[r] = there ? static_cast<const T *>(c.a.q) + at.q : nullptr;
  to->hidden[r] = there ? s.hidden(query, c.a.window) : 0;
  to->visible[r] = there ? s.visible(query) : 0;
  if (!kBackward) return;
  to->dout[r] = there ? static_cast<const T *>(c.a.dout) + at.out : nullptr;
  to->lse[r] = there ? c.a.lse[at.lse] * kLog2E : 0.0f;
  to->delta[r] = there ? c.delta[at.lse] : 0.0f;
}
template <class T>
__device__ void find_keys(Keys<T> *to, const Call &c, const Segment &s, int64_t begin, int64_t end, int64_t kv_head) {
  const int r = static_cast<int>(threadIdx.x);
  if (r >= kTile) return;
  const bool there = begin + r < end;
  const int64_t row = s.key_row(begin + r), column = kv_head * c.a.head_dim;
  to->k[r] = there ? static_cast<const T *>(c.a.k) + row * c.a.k_stride + column : nullptr;
  to->v[r] = there ? static_cast<const T *>(c.a.v) + row * c.a.v_stride + column : nullptr;
}

// Lanes of half a warp hold a row together.
__device__ inline float row_max(float x) {
  for (unsigned step = kSide / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}
__device__ inline float row_sum(float x) {
  for (unsigned step = kSide / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

// Which tile of rows and key head a block takes, and which columns of the result.
struct Work {
  int64_t kv_head, number, column;
  bool there;
  __device__ Work(const Call &c, int columns) {
    const int64_t parts = (c.a.head_dim + columns - 1) / columns;
    column = blockIdx.x % parts * columns;
    kv_head = blockIdx.x / parts % c.a.kv_heads;
    number = blockIdx.x / parts / c.a.kv_heads;
    there = *c.closed == 0 && number < c.plan->tiles;
  }
};

template <class T, int kMyColumns>
__global__ void __launch_bounds__(kThreads) plain_forward_kernel(Call c) {
  __shared__ Slices slices;
  __shared__ float weights[kTile][kPitch];
  __shared__ Rows<T> rows;
  __shared__ Keys<T> keys;
  const Work work(c, kMyColumns * kSide);
  if (!work.there) return;
  const Tile tile = c.tiles[c.plan->tiles - 1 - work.number];
  const Segment s = Segment::read(c.a, tile.segment);
  const RowTile row_tile(s, int64_t{tile.number} * kTile, kTile, c.group);
  const Scores scores(c.a);
  find_rows<T, false>(&rows, c, s, row_tile, work.kv_head);
  const int64_t end = s.visible(row_tile.query_of(row_tile.rows - 1));
  const int64_t start = s.hidden(row_tile.query, c.a.window) / kTile * kTile;
  float out[kMine][kMyColumns], max[kMine], sum[kMine];
  clear(out);
  for (int i = 0; i < kMine; ++i) {
    max[i] = negative_infinity();
    sum[i] = 0;
  }
  for (int64_t begin = start; begin < end; begin += kTile) {
    __syncthreads();  // the last tile's keys have been read
    find_keys(&keys, c, s, begin, end, work.kv_head);
    __syncthreads();  // rows and keys are found
    float p[kMine][kMine];
    product_of_rows(p, rows.q, keys.k, c.a.head_dim, &slices);
    for (int i = 0; i < kMine; ++i) {
      const int64_t hidden = rows.hidden[row_of(i)], visible = rows.visible[row_of(i)];
      float largest = max[i];
      for (int j = 0; j < kMine; ++j) {
        const int64_t key = begin + column_of(j);
        p[i][j] = key < hidden || key >= visible ? negative_infinity() : scores.exponent(p[i][j]);
        largest = fmaxf(largest, p[i][j]);
      }
      largest = row_max(largest);
      const float base = largest == negative_infinity() ? 0.0f : largest;
      const float shrink = exp2f(max[i] - base);
      max[i] = largest;
      sum[i] *= shrink;
      for (int j = 0; j < kMyColumns; ++j) out[i][j] *= shrink;
      for (int j = 0; j < kMine; ++j) {
        const float weight = exp2f(p[i][j] - base);
        sum[i] += weight;
        weights[column_of(j)][row_of(i)] = weight;
      }
    }
    add_product(out, weights, keys.v, work.column, c.a.head_dim, &slices);
  }
  for (int i = 0; i < kMine; ++i) {
    const float total = row_sum(sum[i]), inverse = 1.0f / total;
    if (row_of(i) >= row_tile.rows) continue;
    const Row at(c, s, row_tile, work.kv_head, row_of(i));
    for (int j = 0; j < kMyColumns; ++j) {
      const int64_t column = work.column + column_of(j);
      if (column < c.a.head_dim) from_float(out[i][j] * inverse, static_cast<T *>(c.a.out) + at.out + column);
    }
    if (c.a.lse != nullptr && thread_x() == 0 && work.column == 0) c.a.lse[at.lse] = max[i] * kLn2 + logf(total);
  }
}

// From products of q and k, and of dout and v, to weights and the gradients of scale q k.
struct Gradient {
  float weight, score;
};
__device__ inline Gradient gradient_of(const Scores &scores, float product, float dweight, float lse, float delta,
                                       bool seen) {
  const float exponent = scores.exponent(product);
  const float weight = seen ? exp2f(exponent - lse) : 0.0f;
  return {weight, seen ? weight * (dweight - delta) * scores.slope(exponent) : 0.0f};
}

template <class T, int kMyColumns>
__global__ void __launch_bounds__(kThreads) plain_dq_kernel(Call c) {
  __shared__ Slices slices;
  __shared__ float ds[kTile][kPitch];  // [key][row]
  __shared__ Rows<T> rows;
  __shared__ Keys<T> keys;
  const Work work(c, kMyColumns * kSide);
  if (!work.there) return;
  const Tile tile = c.tiles[c.plan->tiles - 1 - work.number];
  const Segment s = Segment::read(c.a, tile.segment);
  const RowTile row_tile(s, int64_t{tile.number} * kTile, kTile, c.group);
  const Scores scores(c.a);
  find_rows<T, true>(&rows, c, s, row_tile, work.kv_head);
  const int64_t end = s.visible(row_tile.query_of(row_tile.rows - 1));
  const int64_t start = s.hidden(row_tile.query, c.a.window) / kTile * kTile;
  float dq[kMine][kMyColumns];
  clear(dq);
  for (int64_t begin = start; begin < end; begin += kTile) {
    __syncthreads();  // the last tile's keys have been read
    find_keys(&keys, c, s, begin, end, work.kv_head);
    __syncthreads();  // rows and keys are found
    float p[kMine][kMine], dp[kMine][kMine];
    product_of_rows(p, rows.q, keys.k, c.a.head_dim, &slices);
    product_of_rows(dp, rows.dout, keys.v, c.a.head_dim, &slices);
    for (int i = 0; i < kMine; ++i) {
      const int r = row_of(i);
      for (int j = 0; j < kMine; ++j) {
        const int64_t key = begin + column_of(j);
        const bool seen = key >= rows.hidden[r] && key < rows.visible[r];
        ds[column_of(j)][r] = gradient_of(scores, p[i][j], dp[i][j], rows.lse[r], rows.delta[r], seen).score;
      }
    }
    add_product(dq, ds, keys.k, work.column, c.a.head_dim, &slices);
  }
  for (int i = 0; i < kMine; ++i) {
    if (row_of(i) >= row_tile.rows) continue;
    const Row at(c, s, row_tile, work.kv_head, row_of(i));
    for (int j = 0; j < kMyColumns; ++j) {
      const int64_t column = work.column + column_of(j);
      if (column < c.a.head_dim) from_float(dq[i][j] * c.a.scale, static_cast<T *>(c.a.dq) + at.q + column);
    }
  }
}

// The gradients of kTile key rows wherever they stand in a segment's list: rows and keys change places.
template <class T, int kMyColumns>
struct KeyBlock {
  const Call &c;
  const Work &work;
  Rows<T> *rows;
  Keys<T> *keys;
  Slices *slices;
  float (*by_row)[kPitch];  // [row][key]
  float dk[kMine][kMyColumns], dv[kMine][kMyColumns];

  // `list`: where the tile's first key row would stand in the segment's list; those of [from, to) are meant.
  __device__ void add(const Segment &s, int64_t list, int64_t from, int64_t to) {
    const SeenBy seen_by(s, from, to, c.a.window, c.group, kTile);
    const Scores scores(c.a);
    for (int64_t number = seen_by.first; number < seen_by.end; ++number) {
      const RowTile row_tile(s, number * kTile, kTile, c.group);
      __syncthreads();  // the last tile's rows have been read
      find_rows<T, true>(rows, c, s, row_tile, work.kv_head);
      __syncthreads();  // rows are found
      float p[kMine][kMine], dp[kMine][kMine];
      product_of_rows(p, keys->k, rows->q, c.a.head_dim, slices);
      product_of_rows(dp, keys->v, rows->dout, c.a.head_dim, slices);
      for (int i = 0; i < kMine; ++i) {
        const int64_t key = list + row_of(i);
        for (int j = 0; j < kMine; ++j) {
          const int r = column_of(j);
          const bool seen = key >= from && key < to && key >= rows->hidden[r] && key < rows->visible[r];
          const Gradient g = gradient_of(scores, p[i][j], dp[i][j], rows->lse[r], rows->delta[r], seen);
          by_row[r][row_of(i)] = g.weight;
          dp[i][j] = g.score;
        }
      }
      add_product(dv, by_row, rows->dout, work.column, c.a.head_dim, slices);
      __syncthreads();  // weights have been read
      for (int i = 0; i < kMine; ++i) {
        for (int j = 0; j < kMine; ++j) by_row[column_of(j)][row_of(i)] = dp[i][j];
      }
      add_product(dk, by_row, rows->q, work.column, c.a.head_dim, slices);
    }
  }
};

// One block: for sm_120 ptxas would keep registers free for a second one, and spill.
template <class T, int kMyColumns>
__global__ void __launch_bounds__(kThreads, 1) plain_dkv_kernel(Call c) {
  __shared__ Slices slices;
  __shared__ float by_row[kTile][kPitch];
  __shared__ Rows<T> rows;
  __shared__ Keys<T> keys;
  if (*c.closed != 0) return;
  const Work work(c, kMyColumns * kSide);
  const int64_t begin = work.number * kTile, end = smaller(begin + kTile, c.a.k_rows);
  {
    const Segment all = {0, 0, 0, c.a.k_rows, 0, 0};
    find_keys(&keys, c, all, begin, end, work.kv_head);
  }
  KeyBlock<T, kMyColumns> block = {c, work, &rows, &keys, &slices, by_row, {}, {}};
  clear(block.dk);
  clear(block.dv);
  for_segments_of_keys(c.a, begin, end,
                       [&](const Segment &s, int64_t list, int64_t from, int64_t to) { block.add(s, list, from, to); });
  for (int i = 0; i < kMine; ++i) {
    const int64_t row = begin + row_of(i);
    if (row >= end) continue;
    for (int j = 0; j < kMyColumns; ++j) {
      const int64_t column = work.column + column_of(j);
      if (column >= c.a.head_dim) continue;
      const int64_t at = work.kv_head * c.a.head_dim + column;
      from_float(block.dk[i][j] * c.a.scale, static_cast<T *>(c.a.dk) + row * c.a.k_stride + at);
      from_float(block.dv[i][j], static_cast<T *>(c.a.dv) + row * c.a.v_stride + at);
    }
  }
}

Shape shape_of(const char *name, const lethe_attention_args &a, int64_t tiles, int columns, int64_t bytes) {
  const int64_t blocks = tiles * a.kv_heads * ceil_div(a.head_dim, columns);
  return {name, {static_cast<unsigned>(blocks)}, static_cast<unsigned>(kThreads), 0, bytes};
}

template <class T, int kMyColumns>
int forward(Device *device, const Call &call) {
  const lethe_attention_args &a = call.a;
  const Shape shape = shape_of("attention_plain", a, most_tiles(a, kTile), kMyColumns * kSide, least_bytes(a, 2, 2));
  return launch(device, shape, plain_forward_kernel<T, kMyColumns>, call);
}

template <class T, int kMyColumns>
int backward(Device *device, const Call &call) {
  const lethe_attention_args &a = call.a;
  constexpr int kColumns = kMyColumns * kSide;
  const Shape dq = shape_of("attention_plain_dq", a, most_tiles(a, kTile), kColumns, least_bytes(a, 3, 2));
  LETHE_CUDA_TRY(launch(device, dq, plain_dq_kernel<T, kMyColumns>, call));
  const Shape dkv = shape_of("attention_plain_dkv", a, ceil_div(a.k_rows, kTile), kColumns, least_bytes(a, 2, 4));
  return launch(device, dkv, plain_dkv_kernel<T, kMyColumns>, call);
}

// bf16 comes here with many numbers only.
constexpr int kFew = 4, kMany = kMostColumns / kSide;

}  // namespace

int plain_forward(Device *device, const Call &call) {
  if (call.a.dtype == LETHE_BF16) return forward<bf16, kMany>(device, call);
  return call.a.head_dim <= kFew * kSide ? forward<float, kFew>(device, call) : forward<float, kMany>(device, call);
}

int plain_backward(Device *device, const Call &call) {
  if (call.a.dtype == LETHE_BF16) return backward<bf16, kMany>(device, call);
  return call.a.head_dim <= kFew * kSide ? backward<float, kFew>(device, call) : backward<float, kMany>(device, call);
}

}  // namespace lethe::cuda::attention
