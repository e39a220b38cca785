// One look at each row of logits in global memory: the row is kept in shared memory, of one block or of a cluster's
// blocks, each of which has a part of it; both looks are at that. head_rows.cu is the same without.
#include "cluster.cuh"
#include "head_look.cuh"
#include "mma.cuh"

namespace lethe::cuda {
namespace {

constexpr unsigned kMostBlocks = 8;  // of a cluster, on every device that has them

// What a block brings to a meeting of its cluster, and what all have brought.
template <class T>
struct Meeting {
  T mine;
  T all[kMostBlocks];
};
struct Pair {
  float values[2];
};
// In front of a block's part of the row: the meetings. Each has memory of its own, as some may read what was brought to
// the first when others are at the second.
struct alignas(16) Exchange {
  Meeting<Running> sums;
  Meeting<Pair> pairs;
};
// The static shared memory of the reductions, and a little more.
constexpr int64_t kStaticBytes = 2048;

// Of a row's groups, however it is aligned, those of one block.
__host__ __device__ constexpr int64_t part_groups(int64_t V, unsigned blocks) {
  return ((V + 2 * (kGroup - 1)) / kGroup + blocks - 1) / blocks;
}
__host__ __device__ constexpr int64_t shared_bytes(int64_t V, bool deltas, unsigned blocks) {
  return static_cast<int64_t>(sizeof(Exchange)) +
         (deltas ? 2 : 1) * part_groups(V, blocks) * kGroup * static_cast<int64_t>(sizeof(float));
}

// This block's part of a row, to stand at `z` and `delta`.
__device__ inline Columns own_part(const float *row, float *z, float *delta, int64_t V) {
  Columns c(row, z, delta, V);
  const int each = static_cast<int>(part_groups(V, cluster_size())), groups = c.end;
  const int begin = static_cast<int>(cluster_rank()) * each;
  c.begin = begin < groups ? begin : groups;
  c.end = groups - c.begin < each ? groups : c.begin + each;
  c.origin = c.column(c.begin);
  return c;
}

// Starts to bring the block's part of a row. Each thread brings what it later looks at itself, so nobody has to meet.
__device__ inline void fetch(const float *row, const Columns &c, float *part) {
  for (int group = c.begin + static_cast<int>(threadIdx.x); group < c.end; group += static_cast<int>(blockDim.x)) {
    const int begin = c.column(group);
    const float *from = row + begin;
    float *to = part + (begin - c.origin);
    if (begin >= 0 && begin + kGroup <= c.V && reinterpret_cast<uintptr_t>(from) % sizeof(float4) == 0) {
      copy_16_async(to, from, true);
    } else {
      for (int i = 0; i < kGroup; ++i) {
        if (begin + i >= 0 && begin + i < c.V) to[i] = from[i];
      }
    }
  }
}

// All blocks of the cluster meet; gives what each has brought, by rank.
template <class T>
__device__ const T *meet_all(Meeting<T> *meeting, const T &mine) {
  if (threadIdx.x == 0) meeting->mine = mine;
  cluster_sync();  // all blocks' sums are there
  if (threadIdx.x < cluster_size()) meeting->all[threadIdx.x] = cluster_shared(meeting, threadIdx.x)->mine;
  __syncthreads();  // all blocks' sums are here
  return meeting->all;
}

// A pair's sums over the cluster, in the order of ranks.
__device__ inline void sum_all(Exchange *x, Pair *sums) {
  if (cluster_size() == 1) return;
  const Pair *all = meet_all(&x->pairs, *sums);
  *sums = all[0];
  for (unsigned rank = 1; rank < cluster_size(); ++rank) {
    sums->values[0] += all[rank].values[0];
    sums->values[1] += all[rank].values[1];
  }
}

// The row's sums of its parts', in the order of ranks. Behind it all blocks have read all that they will read of the
// row in global memory.
template <bool kReference>
__device__ Running sum_parts(Exchange *x, const Running &part, float beta) {
  if (cluster_size() == 1) return part;
  const Running *all = meet_all(&x->sums, part);
  Largest largest = {all[0].max, all[0].argmax};
  Largest reference_largest = {all[0].reference_max, all[0].reference_argmax};
  for (unsigned rank = 1; rank < cluster_size(); ++rank) {
    largest = larger(largest, {all[rank].max, all[rank].argmax});
    if (kReference)
      reference_largest = larger(reference_largest, {all[rank].reference_max, all[rank].reference_argmax});
  }
  Running sum = {};
  for (unsigned rank = 0; rank < cluster_size(); ++rank) {
    Running r = all[rank];
    r.rescale(largest.value, beta);
    sum.e += r.e;
    sum.ez += r.ez;
    sum.ezz += r.ezz;
    sum.z += r.z;
    sum.above += r.above;
    if (!kReference) continue;
    r.rescale_reference(reference_largest.value, beta);
    sum.shift += r.shift;
    sum.e_delta += r.e_delta;
    sum.reference += r.reference;
    sum.reference_ez += r.reference_ez;
  }
  sum.max = largest.value;
  sum.argmax = largest.index;
  sum.reference_max = reference_largest.value;
  sum.reference_argmax = reference_largest.index;
  return sum;
}

template <bool kReference>
__device__ void row_on_chip(const HeadRows &a, int64_t index, const float *delta) {
  auto *x = dynamic_shared<Exchange>();
  auto *part = reinterpret_cast<float *>(x + 1);
  float *row = a.z + index * a.ld;
  const Columns c = own_part(row, part, part + part_groups(a.V, cluster_size()) * kGroup, a.V);
  fetch(row, c, c.z);
  if (kReference) fetch(delta, c, c.delta);
  copies_commit();
  const int64_t record = a.order == nullptr ? index : a.order[index];
  const SoftCap cap = {a.soft_cap, a.soft_cap > 0 ? 1.0f / a.soft_cap : 0.0f};
  const Finish<kReference> finish(a, index, record, cap);
  Softmax m = row_of(a, record, cap);
  // Whichever block has the label's column, all need it.
  float z_label = m.label >= 0 ? row[m.label] : 0.0f;
  float delta_label = kReference && m.label >= 0 ? delta[m.label] : 0.0f;
  copies_wait<0>();
  if (finishes<kReference>(a)) {
    if (m.label >= 0) finish(m.label, &z_label, &delta_label);
    finish_logits<kReference>(finish, c);
  }
  Running r = first_look<kReference>(c, m.label, z_label, m.beta);
  r = sum_parts<kReference>(x, r, m.beta);
  const Others apart = take_sums<kReference>(&m, &r, a.V, z_label, delta_label);
  Pair kl = {};
  if (!kReference && m.kind == LETHE_ROW_UNIFORM_KL_EPS) {
    smoothed_look(c, m, kl.values);
    sum_all(x, &kl);
    kl.values[0] = take_smoothed(&m, kl.values, a.V);
  }
  if (kReference || a.gradient != LETHE_I32) {
    const float share = second_look<kReference, false>(c, m, row, a.gradient);
    if (kReference) kl.values[0] = share;
  }
  if (kReference) {
    block_sum(kl.values);
    sum_all(x, &kl);
    kl.values[0] = kl.values[0] < 0.0f ? 0.0f : kl.values[0];
  }
  if (threadIdx.x == 0 && cluster_rank() == 0 && a.stats != nullptr) {
    const float mean = a.means == nullptr ? r.z / static_cast<float>(a.V) : a.means[index];
    write_stats<kReference>(m, r, z_label, apart, mean, kl.values[0], a.stats + record * LETHE_STATISTICS);
  }
  if (cluster_size() > 1) cluster_sync();  // all have read what this block brought: it may end
}

__global__ void __launch_bounds__(kHeadThreads, 2) head_rows_onchip_kernel(HeadRows a) {
  const int64_t index = blockIdx.x / cluster_size();
  if (a.closed != nullptr && *a.closed != 0) {
    const unsigned threads = cluster_size() * blockDim.x;
    for (int64_t v = cluster_rank() * blockDim.x + threadIdx.x; v < a.V; v += threads) a.z[index * a.ld + v] = 0.0f;
    return;
  }
  const int64_t delta = a.delta_of == nullptr ? -1 : a.delta_of[index];
  if (delta >= 0) {
    row_on_chip<true>(a, index, a.delta + delta * a.ld);
  } else {
    row_on_chip<false>(a, index, nullptr);
  }
}

}  // namespace

unsigned head_rows_cluster(int64_t V, bool deltas, int64_t shared, int major) {
  // What the system keeps of a multiprocessor's shared memory for each block that it runs.
  constexpr int64_t kReserved = 1024;
  const int64_t of_two = (shared + kReserved) / 2 - kReserved;
  unsigned fits = 0;
  for (unsigned cluster = 1; cluster <= (major >= 9 ? kMostBlocks : 1); cluster *= 2) {
    const int64_t bytes = kStaticBytes + shared_bytes(V, deltas, cluster);
    if (bytes <= of_two) return cluster;
    if (bytes <= shared && fits == 0) fits = cluster;
  }
  return fits;
}

Shape head_rows_onchip_shape(const HeadRows &args, unsigned threads, unsigned cluster) {
  Shape shape = head_rows_shape(args, threads);
  shape.name = "head_rows_onchip";
  shape.grid.x *= cluster;
  shape.shared = static_cast<size_t>(shared_bytes(args.V, args.delta != nullptr, cluster));
  shape.cluster = cluster;
  return shape;
}

Status head_rows_onchip(const HeadRows &args, unsigned threads, unsigned cluster, Stream stream) {
  if (args.rows == 0) return Status{};
  return launch_on(stream, head_rows_onchip_shape(args, threads, cluster), head_rows_onchip_kernel, args);
}

}  // namespace lethe::cuda
