#include "fibers.h"

#include <utility>

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
Block block;

namespace {

constexpr size_t kStackBytes = size_t{64} << 10;

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

}  // namespace

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

void fault(std::string &&what) {
  block.fault = "block " + std::to_string(current.block.x) + ", thread " + std::to_string(current.thread.x) + ": ";
  block.fault += what;
  std::string().swap(what);  // this stack is never left
  for (;;) to_scheduler();   // which throws it
}

}  // namespace lethe::cuda::shim
