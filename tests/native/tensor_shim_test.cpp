// The shim's loads by the tensor memory accelerator, mbarriers and products of a warpgroup, by themselves: boxes held
// to the swizzle index by index, products of small whole numbers to a plain product, and what must be caught in kernels
// that are wrong.
#include "tensor_shim.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

namespace {

using namespace lethe::test;

// ---- loads ----

struct Copied {
  CUtensorMap map;
  int x, y, rows;
  uint16_t *seen;  // [rows,64], as they lie
  bool waits;
};
void load_kernel(Copied c) {
  const Memory m;
  m.make(1);
  if (threadIdx.x == 0) {
    mbarrier_expect(m.barrier, static_cast<unsigned>(c.rows) * 128);
    load_box(m.tiles, c.map, c.x, c.y, m.barrier);
  }
  if (c.waits) mbarrier_wait(m.barrier, 0);
  if (threadIdx.x == 0) std::memcpy(c.seen, m.tiles, static_cast<size_t>(c.rows) * 128);
  mbarrier_wait(m.barrier, 0);
}

// What stood where a load goes is not read once it has begun.
void loaded_over_kernel(CUtensorMap map, float *before) {
  const Memory m;
  m.make(1);
  for (unsigned round = 0; round < 2; ++round) {
    if (threadIdx.x == 0) {
      mbarrier_expect(m.barrier, 8 * 128);
      load_box(m.tiles, map, 0, 0, m.barrier);
      if (round == 1) std::memcpy(before, m.tiles, 4);
    }
    mbarrier_wait(m.barrier, round);
  }
}

void boxes() {
  Matrix matrix(45, 104, 5);
  const struct { int x, y; } places[] = {{0, 0}, {64, 16}, {24, 3}, {96, 40}, {-8, -5}, {200, 0}};
  for (const auto &place : places) {
    std::vector<uint16_t> seen(24 * 64);
    const Copied c = {matrix.map(24), place.x, place.y, 24, seen.data(), true};
    expect(run(1, load_kernel, c) == cudaSuccess, "a load");
    bool right = true;
    for (int r = 0; r < 24; ++r) {
      for (int column = 0; column < 64; ++column) {
        // A row is eight pieces of eight numbers: piece p of row r lies where p exclusive or r mod 8 would.
        const int lies = r * 64 + ((column / 8) ^ (r % 8)) * 8 + column % 8;
        const float got = __uint_as_float(uint32_t{seen[static_cast<size_t>(lies)]} << 16);
        right = right && got == matrix.at(place.y + r, place.x + column);
      }
    }
    expect(right, "what lies where");
  }
  std::vector<uint16_t> seen(24 * 64);
  expect(run(1, load_kernel, Copied{matrix.map(24), 0, 0, 24, seen.data(), false}) == cudaSuccess,
         "a load unwaited for");
  expect(std::isnan(__uint_as_float(uint32_t{seen[0]} << 16)), "is not there");
  float before = 0;
  expect(run(1, loaded_over_kernel, matrix.map(8), &before) == cudaSuccess && std::isnan(before),
         "a load over another");
}

// Each block of a pair loads its own part into both.
void pair_kernel(CUtensorMap map, uint16_t *seen) {
  const Memory m;
  m.make(1);
  cluster_sync();
  if (threadIdx.x == 0) {
    mbarrier_expect(m.barrier, 2 * 8 * 128);
    load_box_to(3, m.tiles + cluster_rank() * kSwizzleTile, map, 0, 8 * cluster_rank(), m.barrier);
    mbarrier_wait(m.barrier, 0);
    std::memcpy(seen + cluster_rank() * 16 * 64, m.tiles, 2 * kSwizzleTile);
  }
  __syncwarp();
  cluster_sync();
}
// The other block's barrier counts this one's arrival.
void arrive_across_kernel(int *order) {
  const Memory m;
  m.make(2);
  cluster_sync();
  if (threadIdx.x == 0) {
    for (unsigned rank = 0; rank < 2; ++rank) mbarrier_arrive_at(m.barrier, rank);
    mbarrier_wait(m.barrier, 0);
    order[cluster_rank()] = 1;
  }
  __syncwarp();
  cluster_sync();
}
void pair_end_unmet_kernel() {
  const Memory m;
  m.make(1);
  cluster_sync();
  if (threadIdx.x == 0) mbarrier_arrive_at(m.barrier, 1 - cluster_rank());
}

void pairs() {
  Matrix matrix(16, 64, 9);
  std::vector<uint16_t> seen(2 * 16 * 64);
  expect(run(2, pair_kernel, matrix.map(8), seen.data()) == cudaSuccess, "a load to two blocks");
  bool right = true;
  for (size_t i = 0; i < seen.size(); ++i) {
    const auto at = static_cast<int64_t>(i % (16 * 64)), r = at / 64;
    const float got = __uint_as_float(uint32_t{seen[i]} << 16);
    right = right && got == matrix.at(r, ((at % 64 / 8) ^ (r % 8)) * 8 + at % 8);
  }
  expect(right, "both parts in both");
  int order[2] = {};
  expect(run(2, arrive_across_kernel, &order[0]) == cudaSuccess && order[0] == 1 && order[1] == 1, "arrivals across");
  expect(run(2, pair_end_unmet_kernel) == cudaErrorLaunchFailure, "an arrival at a block that may have ended");
  expect(std::strstr(lethe_shim_message(), "may have ended") != nullptr, "is said");
  lethe_shim_fail_launch(-1, cudaSuccess);
}

// ---- products ----

struct Factors {
  CUtensorMap a, b;
  const uint16_t *a_rows;  // [64,64]
  float *c;                // [64, columns]
};

void load_factors(const Memory &m, const Factors &f, int columns, bool by_rows) {
  char *right = m.tiles + 8 * kSwizzleTile;
  m.make(1);
  if (threadIdx.x == 0) {
    mbarrier_expect(m.barrier, static_cast<unsigned>(64 + columns) * 128);
    load_box(m.tiles, f.a, 0, 0, m.barrier);
    for (int at = 0; at < columns; at += 64) {
      load_box(right + at * 128, f.b, by_rows ? at : 0, by_rows ? 0 : at, m.barrier);
    }
  }
  mbarrier_wait(m.barrier, 0);
}
template <int kColumns>
void store(const GroupTile<kColumns> &c, float *to) {
  const unsigned thread = threadIdx.x, row = thread / 32 * 16 + thread % 32 / 4;
  for (unsigned i = 0; i < kColumns / 2; ++i) {
    to[(row + i / 2 % 2 * 8) * kColumns + i / 4 * 8 + thread % 4 * 2 + i % 2] = c[i / 4][i % 4];
  }
}
template <int kColumns>
void columns_kernel(Factors f) {
  const Memory m;
  load_factors(m, f, kColumns, false);
  GroupTile<kColumns> c = {};
  wgmma_fence();
  for (uint32_t k = 0; k < 4; ++k) {
    wgmma(c, rows_descriptor(shared_address(m.tiles + 32 * k)),
          rows_descriptor(shared_address(m.tiles + 8 * kSwizzleTile + 32 * k)));
  }
  wgmma_commit();
  if (!std::isnan(c[0][0])) f.c = nullptr;  // which ends the test
  wgmma_wait<0>();
  store<kColumns>(c, f.c);
}
void rows_kernel(Factors f) {
  const Memory m;
  load_factors(m, f, 256, true);
  GroupTile<256> c = {};
  uint32_t a[4][4];
  const unsigned lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
  for (unsigned k = 0; k < 4; ++k) {
    for (unsigned i = 0; i < 4; ++i) {
      // Registers: the upper and the lower rows of the first eight of k, then of the last.
      std::memcpy(&a[k][i], f.a_rows + (row + i % 2 * 8) * 64 + k * 16 + i / 2 * 8 + lane % 4 * 2, 4);
    }
  }
  wgmma_fence();
  for (uint32_t k = 0; k < 4; ++k) {
    // Sixteen rows of B on; 64 columns on are 64 rows of 128 bytes.
    wgmma_rows(c, a[k], matrix_descriptor(shared_address(m.tiles + (8 + 2 * k) * kSwizzleTile), 8192, 1024));
  }
  wgmma_commit();
  wgmma_wait<0>();
  store<256>(c, f.c);
}

bool is_product(const Matrix &a, const Matrix &b, bool by_rows, int columns, const std::vector<float> &c) {
  for (int64_t r = 0; r < 64; ++r) {
    for (int64_t n = 0; n < columns; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < 64; ++k) sum += double{a.at(r, k)} * double{by_rows ? b.at(k, n) : b.at(n, k)};
      if (static_cast<double>(c[static_cast<size_t>(r * columns + n)]) != sum) return false;
    }
  }
  return true;
}

void products() {
  Matrix a(64, 64, 1), b(256, 64, 2), b_rows(64, 256, 3);
  std::vector<float> c(64 * 256);
  const Factors columns = {a.map(64), b.map(64), a.bits.data(), c.data()};
  expect(run(1, columns_kernel<256>, columns) == cudaSuccess && is_product(a, b, false, 256, c), "256 columns");
  expect(run(1, columns_kernel<64>, columns) == cudaSuccess && is_product(a, b, false, 64, c), "64 columns");
  const Factors rows = {a.map(64), b_rows.map(64), a.bits.data(), c.data()};
  expect(run(1, rows_kernel, rows) == cudaSuccess && is_product(a, b_rows, true, 256, c), "B by rows");
}

// ---- what must be caught ----

enum Wrong {
  kUnfenced,
  kOverwritten,
  kRegistersOverwritten,
  kSumsOverwritten,
  kUnwaited,
  kOutside,
  kUnswizzled,
  kWarpAlone,
  kUnmet,
  kDifferent,
  kUnshown,
  kShownLate,
  kOffPattern
};
void wrong_product_kernel(int wrong) {
  const Memory m;
  std::memset(m.tiles + threadIdx.x * 640, 0, 640);
  if (wrong != kShownLate && (wrong != kUnshown || threadIdx.x == 0)) show_stores();
  __syncthreads();
  if (wrong == kShownLate) show_stores();
  GroupTile<256> c = {};
  uint32_t a[4] = {}, address = shared_address(m.tiles);
  if (wrong == kOutside) address += 70 << 10;
  if (wrong == kOffPattern) address += 256;
  if (wrong == kDifferent && threadIdx.x == 7) address += 16;
  if (wrong == kUnmet && threadIdx.x == 97) m.tiles[3] = 1;  // which the first warp does not wait for
  if (wrong != kUnfenced) wgmma_fence();
  if (wrong == kWarpAlone && threadIdx.x >= 32) return;
  const uint64_t right = rows_descriptor(address), plain = uint64_t{1} << 62;
  if (wrong == kRegistersOverwritten) {
    wgmma_rows(c, a, matrix_descriptor(address, 8192, 1024));
  } else {
    wgmma(c, rows_descriptor(shared_address(m.tiles)), wrong == kUnswizzled ? right & ~plain : right);
  }
  wgmma_commit();
  if (wrong == kOverwritten && threadIdx.x == 9) m.tiles[130] = 1;
  if (wrong == kRegistersOverwritten) a[2] = 1;
  if (wrong == kSumsOverwritten) c[3][1] = 1;
  if (wrong != kUnwaited) wgmma_wait<0>();
}
void registers_kernel() {
  if (threadIdx.x < 96) take_registers<232>();
}
enum WrongBarrier {
  kUnmade,
  kNobody,
  kTooMany,
  kNone,
  kOff,
  kLeft,
  kBeyond,
  kUnencoded,
  kUnshownBarrier,
  kTooFewBytes,
  kBytesLeft
};
void wrong_barrier_kernel(CUtensorMap map, int wrong) {
  const Memory m;
  if (wrong != kUnmade && wrong != kUnshownBarrier) m.make(wrong == kNone ? 0 : 1);
  if (threadIdx.x != 0) return;
  if (wrong == kUnshownBarrier) mbarrier_init(m.barrier, 1);
  if (wrong == kUnmade || wrong == kNobody) mbarrier_wait(m.barrier, 0);
  mbarrier_expect(m.barrier, 8 * 128);
  if (wrong == kTooMany) mbarrier_arrive(m.barrier);
  if (wrong == kBytesLeft) return;
  if (wrong == kUnencoded) map = {};
  if (wrong == kTooFewBytes) load_box(m.tiles + kSwizzleTile, map, 0, 0, m.barrier);
  load_box(m.tiles + (wrong == kOff ? 64 : wrong == kBeyond ? 99 << 10 : 0), map, 0, 0, m.barrier);
  if (wrong != kLeft) mbarrier_wait(m.barrier, 0);
  if (wrong == kTooFewBytes) mbarrier_wait(m.barrier, 1);
}

void faults() {
  caught("a product without a fence", "without a fence", wrong_product_kernel, int{kUnfenced});
  caught("an operand overwritten", "operand was written", wrong_product_kernel, int{kOverwritten});
  caught("registers overwritten", "operand was written", wrong_product_kernel, int{kRegistersOverwritten});
  caught("sums overwritten", "accumulators were written", wrong_product_kernel, int{kSumsOverwritten});
  caught("a product unwaited for", "did not wait for", wrong_product_kernel, int{kUnwaited});
  caught("an operand outside", "outside of shared memory", wrong_product_kernel, int{kOutside});
  caught("another swizzle", "another swizzle", wrong_product_kernel, int{kUnswizzled});
  caught("a warp of four", "waits for its warpgroup", wrong_product_kernel, int{kWarpAlone});
  caught("an operand of another warp", "when a warp had come", wrong_product_kernel, int{kUnmet});
  caught("different operands", "different products", wrong_product_kernel, int{kDifferent});
  caught("stores that are not shown", "no fence has shown it", wrong_product_kernel, int{kUnshown});
  caught("stores that are shown too late", "no fence has shown it", wrong_product_kernel, int{kShownLate});
  caught("a pattern off its boundary", "off the boundary", wrong_product_kernel, int{kOffPattern});
  caught("registers for three warps", "waits for its warpgroup", registers_kernel);
  Matrix matrix(8, 64, 4);
  const CUtensorMap map = matrix.map(8);
  caught("a barrier that was not made", "not initialised", wrong_barrier_kernel, map, int{kUnmade});
  caught("a phase that nobody ends", "nobody is left to end", wrong_barrier_kernel, map, int{kNobody});
  caught("an arrival too many", "more arrivals", wrong_barrier_kernel, map, int{kTooMany});
  caught("a barrier of none", "of 0 arrivals", wrong_barrier_kernel, map, int{kNone});
  caught("a load off its alignment", "off 128 bytes", wrong_barrier_kernel, map, int{kOff});
  caught("a load left behind", "a load on its way", wrong_barrier_kernel, map, int{kLeft});
  caught("a load beyond the end", "beyond the end", wrong_barrier_kernel, map, int{kBeyond});
  caught("a map that is none", "not encoded", wrong_barrier_kernel, map, int{kUnencoded});
  caught("a barrier that is not shown", "that no fence has shown", wrong_barrier_kernel, map, int{kUnshownBarrier});
  caught("fewer bytes than come", "another phase", wrong_barrier_kernel, map, int{kTooFewBytes});
  caught("bytes that never come", "1024 bytes to wait for", wrong_barrier_kernel, map, int{kBytesLeft});
  lethe_shim_set_device(0, 8, 0);
  expect(run(1, wrong_product_kernel, int{kUnwaited}) == cudaErrorNoKernelImageForDevice, "another device");
  lethe_shim_set_device(0, 9, 0);
}

void maps() {
  alignas(16) static uint16_t matrix[64 * 8];
  const auto encoded = [&](const void *address, uint64_t columns, uint64_t pitch, uint32_t box_rows) {
    CUtensorMap m;
    const uint64_t sizes[] = {columns, 8};
    const uint32_t box[] = {64, box_rows}, steps[] = {1, 1};
    return cuTensorMapEncodeTiled(&m, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void *>(address), sizes, &pitch,
                                  box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
  };
  expect(encoded(matrix, 64, 128, 8) && encoded(matrix, 3, 16, 256), "maps");
  expect(!encoded(matrix + 1, 64, 128, 8) && !encoded(matrix, 64, 136, 8) && !encoded(matrix, 64, 112, 8) &&
             !encoded(matrix, 64, 128, 257) && !encoded(matrix, 0, 128, 8) && !encoded(nullptr, 64, 128, 8),
         "maps that the driver refuses");
}

}  // namespace

int main() {
  lethe_shim_set_device(0, 9, 0);
  boxes();
  pairs();
  products();
  faults();
  maps();
  std::printf("tensor_shim_test: %d passed, %d failed\n", checks - failures, failures);
  return failures == 0 ? 0 : 1;
}
