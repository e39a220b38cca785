#include "tensor_host.h"

#include <utility>

#include "fibers.h"

namespace lethe::cuda::shim {
namespace {

// ---- mbarriers: the 64 bits of the object ----

constexpr uint64_t kMost = (uint64_t{1} << 20) - 1;  // arrivals, and bytes to wait for

// Memory that nobody wrote has all bits set, which is none of the stages.
enum Stage : uint64_t { kMade = 1, kShown = 2 };
struct Mbarrier {
  uint64_t places, arrivals_left;
  int64_t bytes_left;
  unsigned phase;
  uint64_t stage;
  bool made() const { return stage == kMade || stage == kShown; }
};
Mbarrier unpack(uint64_t bits) {
  return {bits & kMost, bits >> 20 & kMost, static_cast<int64_t>(bits << 3) >> 43,
          static_cast<unsigned>(bits >> 61 & 1), bits >> 62};
}
uint64_t pack(const Mbarrier &b) {
  return b.places | b.arrivals_left << 20 | (static_cast<uint64_t>(b.bytes_left) & (2 * kMost + 1)) << 40 |
         uint64_t{b.phase} << 61 | b.stage << 62;
}
// Those that a cluster has made, and in which block.
struct Made {
  uint64_t *barrier;
  unsigned rank;
};
std::vector<Made> all_made;

// Changes a barrier, and ends its phase where nothing is left to wait for; "" or what is wrong.
template <class Change>
std::string change(uint64_t *barrier, Change &&body) {
  Mbarrier b = unpack(*barrier);
  if (!b.made()) return "an mbarrier that was not initialised";
  body(&b);
  if (b.arrivals_left > b.places) return "an mbarrier has more arrivals than it was initialised for";
  const auto most = static_cast<int64_t>(kMost);
  if (b.bytes_left > most || b.bytes_left < -most) return "an mbarrier with too many bytes to wait for";
  if (b.arrivals_left == 0 && b.bytes_left == 0) {
    b.phase ^= 1u;
    b.arrivals_left = b.places;
  }
  *barrier = pack(b);
  return "";
}
template <class Change>
void change_here(uint64_t *barrier, Change &&body) {
  std::string why = change(barrier, body);
  if (!why.empty()) fault(std::move(why));
}

// ---- loads ----

// What a CUtensorMap says.
struct Map {
  uint64_t sign;
  const char *base;
  uint64_t columns, rows, pitch;  // numbers, rows, bytes from row to row
  uint32_t box_columns, box_rows;
};
constexpr uint64_t kMapSign = 0x6c65746865746d61;
static_assert(sizeof(Map) <= sizeof(CUtensorMap), "a map fits");

struct Load {
  Map map;
  int64_t x, y;
  char *to;
  uint32_t address;  // of it
  uint64_t *barrier;
  unsigned rank;   // whose memory it goes to
  unsigned phase;  // the barrier's
};
std::vector<Load> loads;
unsigned delivered = 0;

// What the asynchronous proxy sees of each block's memory: what loads bring, and the ordinary stores that were shown in
// front of a barrier; `next`: with those that were shown since.
struct View {
  std::vector<char> bytes, next;
  bool begun = false;
};
std::vector<View> views;

View *view_of(unsigned rank) {
  View &view = views[rank];
  if (!view.begun) view.bytes.assign((*block.shared)[rank].bytes(), '\xff');
  if (!view.begun) view.next = view.bytes;
  view.begun = true;
  return &view;
}
// A place in a block's memory, and in what the proxy sees of it.
struct Places {
  char *all[3];

  Places(char *at, unsigned rank) {
    View *view = view_of(rank);
    const auto offset = static_cast<size_t>(at - (*block.shared)[rank].start());
    all[0] = at;
    all[1] = view->bytes.data() + offset;
    all[2] = view->next.data() + offset;
  }
};

void deliver(const Load &load) {
  const Places places(load.to, load.rank);
  for (uint32_t r = 0; r < load.map.box_rows; ++r) {
    for (uint32_t c = 0; c < load.map.box_columns; c += 8) {
      uint16_t piece[8] = {};
      for (uint32_t i = 0; i < 8; ++i) {
        const int64_t x = load.x + c + i, y = load.y + r;
        if (x < 0 || y < 0 || x >= static_cast<int64_t>(load.map.columns) || y >= static_cast<int64_t>(load.map.rows)) {
          continue;
        }
        std::memcpy(&piece[i], load.map.base + static_cast<uint64_t>(y) * load.map.pitch + 2 * x, 2);
      }
      const uint32_t address = swizzled(load.address + r * kRowBytes + 2 * c);
      for (char *place : places.all) {
        std::memcpy(place + (static_cast<int64_t>(address) - load.address), piece, sizeof piece);
      }
    }
  }
  if (unpack(*load.barrier).phase != load.phase) {
    throw ShimError("a load ends in another phase than it began in: too few bytes were expected");
  }
  const int64_t bytes = int64_t{load.map.box_rows} * kRowBytes;
  const std::string why = change(load.barrier, [&](Mbarrier *b) { b->bytes_left -= bytes; });
  if (!why.empty()) throw ShimError("a load ends at " + why);
}

}  // namespace

// The newest and the oldest in turn: they have no order.
bool end_load() {
  if (loads.empty()) return false;
  const size_t at = ++delivered % 2 == 0 ? 0 : loads.size() - 1;
  const Load load = loads[at];
  loads.erase(loads.begin() + static_cast<std::ptrdiff_t>(at));
  deliver(load);
  return true;
}

void clear_loads() {
  loads.clear();
  all_made.clear();
  views.resize(current.cluster_size);
  for (View &view : views) view.begun = false;
}

void check_loads(unsigned rank) {
  for (const Load &load : loads) {
    if (load.rank != rank) continue;
    throw ShimError("block " + std::to_string(current.block.x) + " has returned with a load on its way");
  }
  for (const Made &made : all_made) {
    if (made.rank != rank || unpack(*made.barrier).bytes_left == 0) continue;
    throw ShimError("block " + std::to_string(current.block.x) + " has returned, and an mbarrier has " +
                    std::to_string(unpack(*made.barrier).bytes_left) + " bytes to wait for");
  }
}

const char *shown_memory() { return view_of(current.cluster_rank)->bytes.data(); }

void barrier_passed(unsigned rank) {
  if (rank < views.size() && views[rank].begun) views[rank].bytes = views[rank].next;
}

bool passed(const Fiber &fiber) { return unpack(*fiber.mbarrier).phase != fiber.parity; }

uint32_t shared_address(const void *at) {
  const DynamicShared &memory = own_memory();
  if (!memory.has(at)) fault("an address outside of the block's dynamic shared memory");
  return kSharedStart + static_cast<uint32_t>(static_cast<const char *>(at) - memory.start());
}

void mbarrier_init(uint64_t *barrier, unsigned arrivals) {
  if (reinterpret_cast<uintptr_t>(barrier) % 8 != 0) fault("an mbarrier off 8 bytes");
  if (arrivals == 0 || arrivals > kMost) fault("an mbarrier of " + std::to_string(arrivals) + " arrivals");
  if (!own_memory().has(barrier)) fault("an mbarrier outside of dynamic shared memory");
  *barrier = pack({arrivals, arrivals, 0, 0, kMade});
  all_made.push_back({barrier, current.cluster_rank});
  block.fibers[block.running].made.push_back(barrier);
}

void mbarriers_shown() {
  std::vector<uint64_t *> &made = block.fibers[block.running].made;
  for (uint64_t *barrier : made) {
    Mbarrier b = unpack(*barrier);
    b.stage = kShown;
    *barrier = pack(b);
  }
  made.clear();
}

void stores_shown() {
  const DynamicShared &memory = own_memory();
  std::memcpy(view_of(current.cluster_rank)->next.data(), memory.start(), memory.bytes());
}

void mbarrier_arrive(uint64_t *barrier) {
  if (!own_memory().has(barrier) && unpack(*barrier).stage == kMade) {
    fault("an arrival at another block's mbarrier that no fence has shown");
  }
  change_here(barrier, [](Mbarrier *b) { --b->arrivals_left; });
}

void mbarrier_expect(uint64_t *barrier, unsigned bytes) {
  change_here(barrier, [&](Mbarrier *b) {
    b->bytes_left += bytes;
    --b->arrivals_left;
  });
}

void mbarrier_wait(const uint64_t *barrier, unsigned parity) {
  if (!unpack(*barrier).made()) fault("a wait for an mbarrier that was not initialised");
  Fiber &fiber = block.fibers[block.running];
  fiber.mbarrier = barrier;
  fiber.parity = parity;
  while (!passed(fiber)) wait(State::kMbarrier);
}

void load_tile(void *to, const CUtensorMap *map, int x, int y, uint64_t *barrier, unsigned blocks) {
  Load load = {};
  std::memcpy(&load.map, map, sizeof load.map);
  if (load.map.sign != kMapSign) fault("a load by a tensor map that was not encoded");
  load.x = x;
  load.y = y;
  load.address = shared_address(to);
  const uint32_t bytes = load.map.box_rows * kRowBytes;
  if (load.address % 128 != 0) fault("a load to an address off 128 bytes");
  if (load.address + bytes > kSharedStart + own_memory().bytes()) fault("a load beyond the end of shared memory");
  if (!own_memory().has(barrier)) fault("a load's mbarrier outside of dynamic shared memory");
  if (blocks == 0 || blocks >> current.cluster_size != 0) fault("a load to blocks outside of the cluster");
  for (unsigned rank = 0; rank < current.cluster_size; ++rank) {
    if ((blocks >> rank & 1) == 0) continue;
    load.rank = rank;
    const bool alone = rank == current.cluster_rank;
    load.to = static_cast<char *>(alone ? to : cluster_shared(to, rank));
    load.barrier = static_cast<uint64_t *>(alone ? barrier : cluster_shared(barrier, rank));
    const Mbarrier ends_at = unpack(*load.barrier);
    if (ends_at.stage == kMade) fault("a load to an mbarrier that no fence has shown");
    load.phase = ends_at.phase;
    // From now on the memory may be written.
    for (char *place : Places(load.to, rank).all) std::memset(place, 0xff, bytes);
    loads.push_back(load);
  }
}

}  // namespace lethe::cuda::shim

CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, uint32_t rank, void *address,
                                const uint64_t *sizes, const uint64_t *strides, const uint32_t *box,
                                const uint32_t *element_strides, CUtensorMapInterleave interleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill fill) {
  namespace shim = lethe::cuda::shim;
  constexpr uint64_t kMostNumbers = uint64_t{1} << 32, kMostPitch = uint64_t{1} << 40;
  const bool emulated = type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 && rank == 2 &&
                        interleave == CU_TENSOR_MAP_INTERLEAVE_NONE && swizzle == CU_TENSOR_MAP_SWIZZLE_128B &&
                        fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE && 2 * box[0] == shim::kRowBytes;
  const bool sound = map != nullptr && address != nullptr && reinterpret_cast<uintptr_t>(address) % 16 == 0 &&
                     sizes[0] > 0 && sizes[0] <= kMostNumbers && sizes[1] > 0 && sizes[1] <= kMostNumbers &&
                     strides[0] % 16 == 0 && strides[0] < kMostPitch && strides[0] >= 2 * sizes[0] && box[1] > 0 &&
                     box[1] <= 256 && element_strides[0] == 1 && element_strides[1] == 1;
  if (!emulated || !sound) return CUDA_ERROR_INVALID_VALUE;
  const shim::Map content = {shim::kMapSign, static_cast<const char *>(address), sizes[0], sizes[1], strides[0], box[0],
                             box[1]};
  std::memcpy(map, &content, sizeof content);
  return CUDA_SUCCESS;
}
