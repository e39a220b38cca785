#include <string>
#include <utility>
#include <vector>

#include "fibers.h"

namespace lethe::cuda::shim {
namespace {

bool all(unsigned begin, unsigned end, State state) {
  for (unsigned t = begin; t < end; ++t) {
    if (block.fibers[t].state != state) return false;
  }
  return true;
}

[[noreturn]] void diverged(unsigned begin, unsigned end) {
  const unsigned threads = current.block_size.x;
  const auto states = [&](unsigned t) {
    return std::to_string(t % threads) + " " + kStateNames[static_cast<int>(block.fibers[t].state)];
  };
  for (unsigned t = begin + 1; t < end; ++t) {
    if (block.fibers[t].state != block.fibers[begin].state) {
      throw ShimError("block " + std::to_string(current.block.x) + ": thread " + states(begin) + ", thread " +
                      states(t));
    }
  }
  throw ShimError("block " + std::to_string(current.block.x) + ": lanes of a warp meet for different things");
}

void meet(unsigned begin) {
  void *brought[kLanes];
  const Meeting meeting = block.fibers[begin].meeting;
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    if (block.fibers[begin + lane].meeting != meeting) diverged(begin, begin + kLanes);
    brought[lane] = block.fibers[begin + lane].brought;
  }
  block.running = begin;  // for the meeting
  meeting(brought);
  for (unsigned lane = 0; lane < kLanes; ++lane) block.fibers[begin + lane].state = State::kReady;
}

bool ready(Fiber *fiber) {
  if (fiber->state == State::kMbarrier && passed(*fiber)) fiber->state = State::kReady;
  return fiber->state == State::kReady;
}
bool same(unsigned begin, unsigned end) { return all(begin + 1, end, block.fibers[begin].state); }
// Whether some wait for what need not be a thread's doing: then the others may wait for them.
bool asleep(unsigned begin, unsigned end) {
  for (unsigned t = begin; t < end; ++t) {
    if (block.fibers[t].state == State::kMbarrier || block.fibers[t].state == State::kProducts) return true;
  }
  return false;
}

// Warps and lanes come first to last in one block, last to first in the next: no order is relied upon.
bool backwards() { return current.block.x % 2 == 1; }

// Runs a warp until no lane can go on; whether any could.
bool run_warp(unsigned begin) {
  const unsigned end = begin + kLanes;
  bool went = false;
  for (bool more = true; more;) {
    more = false;
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      const unsigned t = backwards() ? end - 1 - lane : begin + lane;
      if (!ready(&block.fibers[t])) continue;
      resume(t);
      more = true;
    }
    if (all(begin, end, State::kMeeting)) {
      meet(begin);
      more = true;
    }
    went |= more;
  }
  if (!same(begin, end) && !asleep(begin, end)) diverged(begin, end);
  return went;
}

// Runs a block until no thread can go on: all wait at a barrier of the cluster, have returned, or some are asleep.
bool run_block(unsigned first, unsigned threads) {
  const unsigned end = first + threads;
  bool went = false;
  for (bool more = true; more;) {
    more = false;
    for (unsigned at = 0; at < threads; at += kLanes) more |= run_warp(backwards() ? end - kLanes - at : first + at);
    for (unsigned begin = first; begin + kGroupLanes <= end; begin += kGroupLanes) {
      if (!all(begin, begin + kGroupLanes, State::kGroupMeeting)) continue;
      meet_group(begin);
      for (unsigned t = begin; t < begin + kGroupLanes; ++t) block.fibers[t].state = State::kReady;
      more = true;
    }
    if (all(first, end, State::kBarrier)) {
      block.barrier_or = false;
      for (unsigned t = first; t < end; ++t) block.barrier_or |= block.fibers[t].barrier_value;
      for (unsigned t = first; t < end; ++t) block.fibers[t].state = State::kReady;
      barrier_passed(current.cluster_rank);
      more = true;
    }
    went |= more;
  }
  if (!same(first, end) && !asleep(first, end)) diverged(first, end);
  return went;
}

void end_block(unsigned rank, unsigned first, unsigned threads) {
  for (unsigned t = first; t < first + threads; ++t) {
    if (!block.fibers[t].copies.empty()) {
      throw ShimError("thread " + std::to_string(t - first) + " has returned with a copy that it did not wait for");
    }
  }
  check_loads(rank);
  check_products(first, threads);
  if (block.maps[rank]) {
    throw ShimError("block " + std::to_string(current.block.x) +
                    " used another's shared memory, which may have ended, and has returned without a barrier of the "
                    "cluster behind it");
  }
  block.ended[rank] = true;
  if (current.cluster_size > 1) (*block.shared)[rank].forget(true);  // others may have its address
}

// Runs the next part of one of a cluster's blocks, whose first is at `base`; whether there was any.
bool run_part(unsigned base, unsigned rank, unsigned threads) {
  if (block.ended[rank]) return false;
  current.block.x = base + rank;
  current.cluster_rank = rank;
  const unsigned first = rank * threads;
  const bool went = run_block(first, threads);
  if (all(first, first + threads, State::kDone)) end_block(rank, first, threads);
  return went;
}

// No thread of the cluster can go on, nothing else goes on, and not all wait at its barrier.
[[noreturn]] void stalled(unsigned base, unsigned threads, unsigned size) {
  for (unsigned rank = 0; rank < size; ++rank) {
    if (block.ended[rank]) {
      throw ShimError("block " + std::to_string(base + rank) +
                      " has returned, another one of its cluster waits at a barrier of the cluster");
    }
  }
  for (unsigned t = 0; t < size * threads; ++t) {
    if (block.fibers[t].state != State::kMbarrier) continue;
    throw ShimError("block " + std::to_string(base + t / threads) + ": thread " + std::to_string(t % threads) +
                    " waits for an mbarrier whose phase nobody is left to end");
  }
  diverged(0, size * threads);
}

// Whoever begins changes from part to part: an order that only luck gives is not relied upon. So does what lasts
// longer, loads or products, from block to block and from launch to launch.
void run_cluster(unsigned base, unsigned threads, unsigned size) {
  static unsigned clusters = 0;
  const bool loads_first = ++clusters % 2 == 0;
  for (unsigned t = 0; t < size * threads; ++t) {
    Fiber &fiber = block.fibers[t];
    fiber.state = State::kReady;
    fiber.copies.clear();
    fiber.copy_groups = fiber.product_groups = 0;
    fiber.fenced = false;
    fiber.made.clear();
  }
  clear_loads();
  clear_products();
  block.ended.assign(size, false);
  block.phase = 0;
  block.maps.assign(size, false);
  for (;;) {
    bool went = false;
    for (unsigned i = 0; i < size; ++i) went |= run_part(base, (block.phase + i) % size, threads);
    if (all(0, size * threads, State::kDone)) return;
    if (all(0, size * threads, State::kCluster)) {
      for (unsigned t = 0; t < size * threads; ++t) block.fibers[t].state = State::kReady;
      for (unsigned rank = 0; rank < size; ++rank) barrier_passed(rank);
      ++block.phase;
      block.maps.assign(size, false);
    } else if (!went && !(loads_first ? end_load() || end_products() : end_products() || end_load())) {
      stalled(base, threads, size);
    }
  }
}

// Why a block may not use the memory of another one of its cluster; "" if it may.
std::string why_not(const DynamicShared &own, const void *mine, unsigned rank) {
  std::string why;
  if (rank >= current.cluster_size) {
    why = " of " + std::to_string(current.cluster_size);
  } else if (!own.has(mine)) {
    why = " at an address that is not the block's own dynamic shared memory";
  } else if (rank != current.cluster_rank && block.phase == 0) {
    why = " in front of any barrier of the cluster: it may not have begun";
  } else if (block.ended[rank]) {
    why = ", which has returned";
  }
  if (why.empty()) return why;
  return "shared memory of the cluster's block " + std::to_string(rank) + why;
}

}  // namespace

void barrier() {
  block.fibers[block.running].barrier_value = false;
  wait(State::kBarrier);
}

bool barrier_or(bool mine) {
  block.fibers[block.running].barrier_value = mine;
  wait(State::kBarrier);
  return block.barrier_or;
}

void cluster_barrier() { wait(State::kCluster); }

void *cluster_shared(void *mine, unsigned rank) {
  const DynamicShared &own = (*block.shared)[current.cluster_rank];
  std::string why = why_not(own, mine, rank);
  if (!why.empty()) fault(std::move(why));
  if (rank == current.cluster_rank) return mine;
  block.maps[current.cluster_rank] = true;
  return (*block.shared)[rank].start() + (static_cast<char *>(mine) - own.start());
}

void warp_meet(void *mine, Meeting meeting) {
  Fiber &fiber = block.fibers[block.running];
  fiber.brought = mine;
  fiber.meeting = meeting;
  wait(State::kMeeting);
}

void group_meet(void *mine, GroupMeeting meeting) {
  Fiber &fiber = block.fibers[block.running];
  fiber.brought = mine;
  fiber.group_meeting = meeting;
  wait(State::kGroupMeeting);
}

void shuffle(void *(&brought)[kLanes]) {
  uint32_t bits[kLanes];
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    const auto *mine = static_cast<const Shuffle *>(brought[lane]);
    if (mine->from >= kLanes) throw ShimError("a shuffle with a lane outside the warp");
    bits[lane] = static_cast<const Shuffle *>(brought[mine->from])->bits;
  }
  for (unsigned lane = 0; lane < kLanes; ++lane) static_cast<Shuffle *>(brought[lane])->bits = bits[lane];
}

void copy_async(void *to, const void *from, int bytes) {
  Fiber &fiber = block.fibers[block.running];
  fiber.copies.push_back({to, from, bytes, fiber.copy_groups});
  // From now on it may be written.
  constexpr uint64_t kNaNs[2] = {~uint64_t{0}, ~uint64_t{0}};
  std::memcpy(to, kNaNs, sizeof kNaNs);
}

void copy_commit() { ++block.fibers[block.running].copy_groups; }

void copy_wait(int groups_left) {
  Fiber &fiber = block.fibers[block.running];
  const int done = fiber.copy_groups - groups_left;
  size_t kept = 0;
  for (const AsyncCopy &copy : fiber.copies) {
    if (copy.group >= done) {
      fiber.copies[kept++] = copy;
    } else if (copy.from == nullptr) {
      std::memset(copy.to, 0, static_cast<size_t>(copy.bytes));
    } else {
      std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
    }
  }
  fiber.copies.resize(kept);
}

void *dynamic_shared() { return (*block.shared)[current.cluster_rank].start(); }

void launch(Dim3 grid, unsigned threads, size_t dynamic_shared_bytes, size_t most_shared_bytes, unsigned cluster,
            const std::function<void()> &kernel) {
  if (threads == 0 || threads > 1024 || threads % kLanes != 0) {
    throw ShimError("a block of " + std::to_string(threads) + " threads: the shim runs whole warps, 32 at most");
  }
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535) {
    throw ShimError("a grid of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " +
                    std::to_string(grid.z) + " blocks");
  }
  if (cluster == 0 || cluster > kMostCluster || grid.x % cluster != 0) {
    throw ShimError("clusters of " + std::to_string(cluster) + " in " + std::to_string(grid.x) + " blocks");
  }
  if (dynamic_shared_bytes > most_shared_bytes) {
    throw ShimError(std::to_string(dynamic_shared_bytes) + " bytes of shared memory exceed the " +
                    std::to_string(most_shared_bytes) + " of the smallest device");
  }
  if (block.fibers.size() < cluster * threads) make_fibers(cluster * threads);
  block.kernel = &kernel;
  current.block_size = {threads, 1, 1};
  current.grid = grid;
  current.cluster_size = cluster;
  std::vector<DynamicShared> shared;
  for (unsigned rank = 0; rank < cluster; ++rank) shared.emplace_back(dynamic_shared_bytes);
  block.shared = &shared;
  try {
    for (current.block.z = 0; current.block.z < grid.z; ++current.block.z) {
      for (current.block.y = 0; current.block.y < grid.y; ++current.block.y) {
        for (unsigned base = 0; base < grid.x; base += cluster) {
          for (const DynamicShared &memory : shared) memory.forget(false);
          run_cluster(base, threads, cluster);
        }
      }
    }
  } catch (const ShimError &) {
    block.fibers.clear();  // they stand in the middle of a kernel
    throw;
  }
}

}  // namespace lethe::cuda::shim
