#include "cuda_host.h"

#include <ucontext.h>

#include <csetjmp>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace lethe::cuda::shim {

Indices current;

namespace {

constexpr size_t kStackBytes = size_t{64} << 10;

enum class State { kReady, kMeeting, kBarrier, kDone };
constexpr const char *kStateNames[] = {"runs", "waits for its warp", "waits at a barrier", "has returned"};

struct AsyncCopy {
  void *to;
  const void *from;
  int bytes;
  int group;  // counted from the kernel's start
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  State state = State::kReady;
  void *brought = nullptr;
  Meeting meeting = nullptr;
  bool barrier_value = false;
  std::vector<AsyncCopy> copies;
  int copy_groups = 0;
#if defined(__SANITIZE_ADDRESS__)
  void *fake_stack = nullptr;
#else
  bool started = false;
  std::jmp_buf jump;
#endif
};

// One block's threads and who runs.
struct Block {
  std::vector<Fiber> fibers;
  unsigned running = 0;
  bool barrier_or = false;
  void *dynamic_shared = nullptr;
  const std::function<void()> *kernel = nullptr;
  ucontext_t scheduler;
#if defined(__SANITIZE_ADDRESS__)
  void *scheduler_fake_stack = nullptr;
  const void *scheduler_stack = nullptr;
  size_t scheduler_stack_bytes = 0;
#else
  std::jmp_buf scheduler_jump;
#endif
};
Block block;

#if defined(__SANITIZE_ADDRESS__)

// ucontext switches, announced to the sanitizer.
void to_scheduler() {
  Fiber &fiber = block.fibers[block.running];
  __sanitizer_start_switch_fiber(&fiber.fake_stack, block.scheduler_stack, block.scheduler_stack_bytes);
  swapcontext(&fiber.context, &block.scheduler);
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &block.scheduler_stack, &block.scheduler_stack_bytes);
}
void to_fiber(Fiber *fiber) {
  __sanitizer_start_switch_fiber(&block.scheduler_fake_stack, fiber->stack.get(), kStackBytes);
  swapcontext(&block.scheduler, &fiber->context);
  __sanitizer_finish_switch_fiber(block.scheduler_fake_stack, nullptr, nullptr);
}

#else

// ucontext makes the stacks; _setjmp and _longjmp switch between them without a system call.
void to_scheduler() {
  if (_setjmp(block.fibers[block.running].jump) == 0) _longjmp(block.scheduler_jump, 1);
}
void to_fiber(Fiber *fiber) {
  if (_setjmp(block.scheduler_jump) != 0) return;
  if (fiber->started) _longjmp(fiber->jump, 1);
  fiber->started = true;
  setcontext(&fiber->context);
}

#endif

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
  current.thread.x = thread;
  to_fiber(&block.fibers[thread]);
}

bool all(unsigned begin, unsigned end, State state) {
  for (unsigned t = begin; t < end; ++t) {
    if (block.fibers[t].state != state) return false;
  }
  return true;
}

[[noreturn]] void diverged(unsigned begin, unsigned end) {
  for (unsigned t = begin + 1; t < end; ++t) {
    if (block.fibers[t].state != block.fibers[begin].state) {
      throw ShimError("block " + std::to_string(current.block.x) + ": thread " + std::to_string(begin) + " " +
                      kStateNames[static_cast<int>(block.fibers[begin].state)] + ", thread " + std::to_string(t) + " " +
                      kStateNames[static_cast<int>(block.fibers[t].state)]);
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

// Runs a warp until its lanes all wait at the block's barrier or have all returned.
void run_warp(unsigned begin) {
  const unsigned end = begin + kLanes;
  for (;;) {
    for (unsigned t = begin; t < end; ++t) {
      if (block.fibers[t].state == State::kReady) resume(t);
    }
    if (all(begin, end, State::kBarrier) || all(begin, end, State::kDone)) return;
    if (!all(begin, end, State::kMeeting)) diverged(begin, end);
    meet(begin);
  }
}

void make_fibers(unsigned threads) {
  block.fibers = std::vector<Fiber>(threads);
  for (Fiber &fiber : block.fibers) {
    fiber.stack.reset(new char[kStackBytes]);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
  }
}

void run_block(unsigned threads) {
  for (unsigned t = 0; t < threads; ++t) {
    Fiber &fiber = block.fibers[t];
    fiber.state = State::kReady;
    fiber.copies.clear();
    fiber.copy_groups = 0;
  }
  for (;;) {
    for (unsigned begin = 0; begin < threads; begin += kLanes) run_warp(begin);
    if (all(0, threads, State::kDone)) break;
    if (!all(0, threads, State::kBarrier)) diverged(0, threads);
    block.barrier_or = false;
    for (unsigned t = 0; t < threads; ++t) block.barrier_or |= block.fibers[t].barrier_value;
    for (unsigned t = 0; t < threads; ++t) block.fibers[t].state = State::kReady;
  }
  for (unsigned t = 0; t < threads; ++t) {
    if (!block.fibers[t].copies.empty()) {
      throw ShimError("thread " + std::to_string(t) + " has returned with a copy that it did not wait for");
    }
  }
}

// The block's dynamic shared memory: just as large as asked, so that a sanitizer sees its ends.
class DynamicShared {
 public:
  explicit DynamicShared(size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    memory_ = std::malloc(bytes + kAlignment);
    if (memory_ == nullptr) throw std::bad_alloc();
    const auto address = reinterpret_cast<uintptr_t>(memory_);
    // The end stays the allocation's end; what the alignment leaves over lies in front.
    start_ = static_cast<char *>(memory_) + (kAlignment - address % kAlignment) % kAlignment;
    slack_ = kAlignment - static_cast<size_t>(start_ - static_cast<char *>(memory_));
#if defined(__SANITIZE_ADDRESS__)
    __asan_poison_memory_region(start_ + bytes, slack_);
#endif
    block.dynamic_shared = start_;
  }
  ~DynamicShared() {
#if defined(__SANITIZE_ADDRESS__)
    if (memory_ != nullptr) __asan_unpoison_memory_region(start_ + bytes_, slack_);
#endif
    std::free(memory_);
    block.dynamic_shared = nullptr;
  }
  DynamicShared(const DynamicShared &) = delete;
  DynamicShared &operator=(const DynamicShared &) = delete;

  // All bits set: NaN in fp32 and in bf16.
  void forget() const {
    if (memory_ != nullptr) std::memset(start_, 0xff, bytes_);
  }

 private:
  static constexpr size_t kAlignment = 1024;
  size_t bytes_, slack_ = 0;
  void *memory_ = nullptr;
  char *start_ = nullptr;
};

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

void *dynamic_shared() { return block.dynamic_shared; }

void launch(Dim3 grid, unsigned threads, size_t dynamic_shared_bytes, const std::function<void()> &kernel) {
  if (threads == 0 || threads > 1024 || threads % kLanes != 0) {
    throw ShimError("a block of " + std::to_string(threads) + " threads: the shim runs whole warps, 32 at most");
  }
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535) {
    throw ShimError("a grid of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " +
                    std::to_string(grid.z) + " blocks");
  }
  if (dynamic_shared_bytes > kMostSharedBytes) {
    throw ShimError(std::to_string(dynamic_shared_bytes) + " bytes of shared memory exceed the " +
                    std::to_string(kMostSharedBytes) + " of the smallest device");
  }
  if (block.fibers.size() < threads) make_fibers(threads);
  block.kernel = &kernel;
  current.block_size = {threads, 1, 1};
  current.grid = grid;
  const DynamicShared shared(dynamic_shared_bytes);
  try {
    for (current.block.z = 0; current.block.z < grid.z; ++current.block.z) {
      for (current.block.y = 0; current.block.y < grid.y; ++current.block.y) {
        for (current.block.x = 0; current.block.x < grid.x; ++current.block.x) {
          shared.forget();
          run_block(threads);
        }
      }
    }
  } catch (const ShimError &) {
    block.fibers.clear();  // they stand in the middle of a kernel
    throw;
  }
}

}  // namespace lethe::cuda::shim
