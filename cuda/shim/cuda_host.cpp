#include "cuda_host.h"

#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "shared_memory.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

// Saves what a call must keep on the stack that runs, leaves that stack at *from, and goes on where another was left.
// By hand: ucontext asks the kernel at each switch, and the sanitizer's wrapper of it goes over the whole stack.
#if !defined(__x86_64__)
#error "the shim switches stacks as the System V ABI of x86-64 has them"
#endif
extern "C" __attribute__((visibility("hidden"))) void lethe_shim_switch(void **from, void *to);
__asm__(R"(
  .text
  .p2align 4
  .type lethe_shim_switch, @function
lethe_shim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size lethe_shim_switch, . - lethe_shim_switch
)");

namespace lethe::cuda::shim {

Indices current;

namespace {

constexpr size_t kStackBytes = size_t{64} << 10;

enum class State { kReady, kMeeting, kBarrier, kCluster, kDone };
constexpr const char *kStateNames[] = {"runs", "waits for its warp", "waits at a barrier",
                                       "waits at a barrier of the cluster", "has returned"};

struct AsyncCopy {
  void *to;
  const void *from;
  int bytes;
  int group;  // counted from the kernel's start
};

struct Fiber {
  std::unique_ptr<char[]> stack;
  void *left = nullptr;  // where on it
  State state = State::kReady;
  void *brought = nullptr;
  Meeting meeting = nullptr;
  bool barrier_value = false;
  std::vector<AsyncCopy> copies;
  int copy_groups = 0;
#if defined(__SANITIZE_ADDRESS__)
  void *fake_stack = nullptr;
#endif
};

// The threads of one cluster's blocks, block after block, and who runs.
struct Block {
  std::vector<Fiber> fibers;
  unsigned running = 0;
  bool barrier_or = false;
  std::vector<DynamicShared> *shared = nullptr;  // of each block
  std::string fault;                             // what the fiber that ran found
  unsigned phase = 0;                            // barriers of the cluster that are behind
  std::vector<bool> ended, maps;                 // each block: has returned; uses another's memory in this phase
  const std::function<void()> *kernel = nullptr;
  void *scheduler = nullptr;  // where its stack was left
#if defined(__SANITIZE_ADDRESS__)
  void *scheduler_fake_stack = nullptr;
  const void *scheduler_stack = nullptr;
  size_t scheduler_stack_bytes = 0;
#endif
};
Block block;

// Switches are announced to the sanitizer.
void to_scheduler() {
  Fiber &fiber = block.fibers[block.running];
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fiber.fake_stack, block.scheduler_stack, block.scheduler_stack_bytes);
#endif
  lethe_shim_switch(&fiber.left, block.scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &block.scheduler_stack, &block.scheduler_stack_bytes);
#endif
}
void to_fiber(Fiber *fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&block.scheduler_fake_stack, fiber->stack.get(), kStackBytes);
#endif
  lethe_shim_switch(&block.scheduler, fiber->left);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(block.scheduler_fake_stack, nullptr, nullptr);
#endif
}

void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack, &block.scheduler_stack_bytes);
#endif
  // A fiber serves block after block.
  for (;;) {
    (*block.kernel)();
    block.fibers[block.running].state = State::kDone;
    to_scheduler();
  }
}

void wait(State state) {
  block.fibers[block.running].state = state;
  to_scheduler();
}

void resume(unsigned thread) {
  block.running = thread;
  current.thread.x = thread % current.block_size.x;
  to_fiber(&block.fibers[thread]);
  if (!block.fault.empty()) throw ShimError(std::exchange(block.fault, ""));
}

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
  meeting(brought);
  for (unsigned lane = 0; lane < kLanes; ++lane) block.fibers[begin + lane].state = State::kReady;
}

// Runs a warp until its lanes all wait at the same barrier or have all returned.
void run_warp(unsigned begin) {
  const unsigned end = begin + kLanes;
  for (;;) {
    for (unsigned t = begin; t < end; ++t) {
      if (block.fibers[t].state == State::kReady) resume(t);
    }
    if (all(begin, end, State::kBarrier) || all(begin, end, State::kCluster) || all(begin, end, State::kDone)) return;
    if (!all(begin, end, State::kMeeting)) diverged(begin, end);
    meet(begin);
  }
}

void make_fibers(unsigned threads) {
  block.fibers = std::vector<Fiber>(threads);
  for (Fiber &fiber : block.fibers) {
    fiber.stack.reset(new char[kStackBytes]);
    // As if fiber_main had been called from nowhere: a return address of 0, then what the switch takes off the stack.
    const auto top = (reinterpret_cast<uintptr_t>(fiber.stack.get()) + kStackBytes) / 16 * 16;
    auto *words = reinterpret_cast<uint64_t *>(top);
    *--words = 0;
    *--words = reinterpret_cast<uint64_t>(&fiber_main);
    for (int i = 0; i < 6; ++i) *--words = 0;
    fiber.left = words;
  }
}

// Runs a block until its threads all wait at a barrier of the cluster or have all returned.
void run_block(unsigned first, unsigned threads) {
  const unsigned end = first + threads;
  for (;;) {
    for (unsigned begin = first; begin < end; begin += kLanes) run_warp(begin);
    if (all(first, end, State::kCluster)) return;
    if (all(first, end, State::kDone)) break;
    if (!all(first, end, State::kBarrier)) diverged(first, end);
    block.barrier_or = false;
    for (unsigned t = first; t < end; ++t) block.barrier_or |= block.fibers[t].barrier_value;
    for (unsigned t = first; t < end; ++t) block.fibers[t].state = State::kReady;
  }
  for (unsigned t = first; t < end; ++t) {
    if (!block.fibers[t].copies.empty()) {
      throw ShimError("thread " + std::to_string(t - first) + " has returned with a copy that it did not wait for");
    }
  }
}

// Runs the next part of one of a cluster's blocks, whose first is at `base`.
void run_part(unsigned base, unsigned rank, unsigned threads) {
  current.block.x = base + rank;
  current.cluster_rank = rank;
  const unsigned first = rank * threads;
  if (block.ended[rank]) return;
  run_block(first, threads);
  if (block.fibers[first].state != State::kDone) return;
  if (block.maps[rank]) {
    throw ShimError("block " + std::to_string(current.block.x) +
                    " used another's shared memory, which may have ended, and has returned without a barrier of the "
                    "cluster behind it");
  }
  block.ended[rank] = true;
  if (current.cluster_size > 1) (*block.shared)[rank].forget(true);  // others may have its address
}

// Whoever begins changes from part to part: an order that only luck gives is not relied upon.
void run_cluster(unsigned base, unsigned threads, unsigned size) {
  for (unsigned t = 0; t < size * threads; ++t) {
    Fiber &fiber = block.fibers[t];
    fiber.state = State::kReady;
    fiber.copies.clear();
    fiber.copy_groups = 0;
  }
  block.ended.assign(size, false);
  for (block.phase = 0;; ++block.phase) {
    block.maps.assign(size, false);
    for (unsigned i = 0; i < size; ++i) run_part(base, (block.phase + i) % size, threads);
    if (all(0, size * threads, State::kDone)) return;
    for (unsigned rank = 0; rank < size; ++rank) {
      if (block.ended[rank]) {
        throw ShimError("block " + std::to_string(base + rank) +
                        " has returned, another one of its cluster waits at a barrier of the cluster");
      }
    }
    for (unsigned t = 0; t < size * threads; ++t) block.fibers[t].state = State::kReady;
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
  return "block " + std::to_string(current.block.x) + ": shared memory of the cluster's block " + std::to_string(rank) +
         why;
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
  block.fault = why_not(own, mine, rank);
  if (!block.fault.empty()) to_scheduler();  // which throws it
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

void launch(Dim3 grid, unsigned threads, size_t dynamic_shared_bytes, unsigned cluster,
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
  if (dynamic_shared_bytes > kMostSharedBytes) {
    throw ShimError(std::to_string(dynamic_shared_bytes) + " bytes of shared memory exceed the " +
                    std::to_string(kMostSharedBytes) + " of the smallest device");
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
