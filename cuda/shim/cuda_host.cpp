#include "cuda_host.h"

#include <ucontext.h>

#include <csetjmp>
#include <memory>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace lethe::cuda::shim {

Indices current;

namespace {

constexpr unsigned kLanes = 32;
constexpr size_t kStackBytes = size_t{64} << 10;

enum class State { kReady, kShuffle, kBarrier, kDone };
constexpr const char *kStateNames[] = {"runs", "waits at a shuffle", "waits at a barrier", "has returned"};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  State state = State::kReady;
  uint32_t bits = 0;
  unsigned mask = 0;
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
  throw ShimError("block " + std::to_string(current.block.x) + ": a shuffle of lanes outside the warp");
}

void exchange(unsigned begin) {
  uint32_t bits[kLanes];
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    const unsigned other = lane ^ block.fibers[begin + lane].mask;
    if (other >= kLanes) diverged(begin, begin + kLanes);
    bits[lane] = block.fibers[begin + other].bits;
  }
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    block.fibers[begin + lane].bits = bits[lane];
    block.fibers[begin + lane].state = State::kReady;
  }
}

// Runs a warp until its lanes all wait at the block's barrier or have all returned.
void run_warp(unsigned begin) {
  const unsigned end = begin + kLanes;
  for (;;) {
    for (unsigned t = begin; t < end; ++t) {
      if (block.fibers[t].state == State::kReady) resume(t);
    }
    if (all(begin, end, State::kBarrier) || all(begin, end, State::kDone)) return;
    if (!all(begin, end, State::kShuffle)) diverged(begin, end);
    exchange(begin);
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
  for (unsigned t = 0; t < threads; ++t) block.fibers[t].state = State::kReady;
  for (;;) {
    for (unsigned begin = 0; begin < threads; begin += kLanes) run_warp(begin);
    if (all(0, threads, State::kDone)) return;
    if (!all(0, threads, State::kBarrier)) diverged(0, threads);
    for (unsigned t = 0; t < threads; ++t) block.fibers[t].state = State::kReady;
  }
}

}  // namespace

void barrier() { wait(State::kBarrier); }

uint32_t shuffle_xor(uint32_t bits, unsigned mask) {
  Fiber &fiber = block.fibers[block.running];
  fiber.bits = bits;
  fiber.mask = mask;
  wait(State::kShuffle);
  return fiber.bits;
}

void launch(unsigned blocks, unsigned threads, const std::function<void()> &kernel) {
  if (threads == 0 || threads > 1024 || threads % kLanes != 0) {
    throw ShimError("a block of " + std::to_string(threads) + " threads: the shim runs whole warps, 32 at most");
  }
  if (block.fibers.size() < threads) make_fibers(threads);
  block.kernel = &kernel;
  current.block_size.x = threads;
  current.grid.x = blocks;
  try {
    for (unsigned b = 0; b < blocks; ++b) {
      current.block.x = b;
      run_block(threads);
    }
  } catch (const ShimError &) {
    block.fibers.clear();  // they stand in the middle of a kernel
    throw;
  }
}

}  // namespace lethe::cuda::shim
