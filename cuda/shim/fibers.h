// The threads of a cluster's blocks as fibers: what the parts of the shim know of them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda_host.h"
#include "shared_memory.h"

namespace lethe::cuda::shim {

// kMbarrier and kProducts wait for what may go on beside the threads (tensor_host.cpp).
enum class State { kReady, kMeeting, kGroupMeeting, kBarrier, kCluster, kMbarrier, kProducts, kDone };
constexpr const char *kStateNames[] = {"runs",
                                       "waits for its warp",
                                       "waits for its warpgroup",
                                       "waits at a barrier",
                                       "waits at a barrier of the cluster",
                                       "waits for an mbarrier",
                                       "waits for tensor cores",
                                       "has returned"};

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
  GroupMeeting group_meeting = nullptr;
  bool barrier_value = false;
  std::vector<AsyncCopy> copies;
  int copy_groups = 0;
  const uint64_t *mbarrier = nullptr;  // that it waits for, until a phase of this parity is over
  unsigned parity = 0;
  int product_groups = 0;        // committed since the kernel's start
  bool fenced = false;           // registers, against the products that come
  std::vector<uint64_t *> made;  // mbarriers that no fence has shown
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
extern Block block;

void make_fibers(unsigned threads);
// Runs a fiber until it waits.
void resume(unsigned thread);
// The running fiber leaves off.
void wait(State state);

// ---- tensor_host.cpp, products_host.cpp ----

constexpr int kRowBytes = 128;  // of a box, and of a tile of a product's operand: the span of the swizzle
// Bits 4 to 6 of an address, exclusive or bits 7 to 9: pieces of 16 bytes change places inside rows of 128.
inline uint32_t swizzled(uint32_t address) { return address ^ (address >> 3 & 0x70); }
inline const DynamicShared &own_memory() { return (*block.shared)[current.cluster_rank]; }

// Forgets what a launch has left behind.
void clear_loads();
// What products see of the running block's memory: loads, and stores that a fence has shown in front of a barrier.
const char *shown_memory();
void barrier_passed(unsigned rank);
void clear_products();
// What goes on beside the threads and has not ended in a block that returns: throws ShimError.
void check_loads(unsigned rank);
void check_products(unsigned first, unsigned threads);
// Whether the phase that a fiber waits for is over.
bool passed(const Fiber &fiber);
// A meeting of 128 fibers from `first`.
void meet_group(unsigned first);
// Ends a load on its way, or all products that are waited for; whether there was any.
bool end_load();
bool end_products();

}  // namespace lethe::cuda::shim
