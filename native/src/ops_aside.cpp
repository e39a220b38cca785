// Copies beside the engine's other work.
#include "check.h"

using lethe::guarded;
using lethe::kByte;
using lethe::Operands;

extern "C" {

int lethe_copy_aside(lethe_engine *engine, lethe_ref dst, lethe_ref src, int64_t bytes, int64_t *ticket) {
  return guarded(__func__, [&] {
    if (ticket != nullptr) *ticket = 0;
    Operands operands(engine);
    operands.require(ticket != nullptr, LETHE_INVALID_ARGUMENT, "ticket must not be null");
    const void *from = operands.in("src", src, kByte, {bytes});
    void *to = operands.out("dst", dst, kByte, {bytes});
    LETHE_TRY(operands.finish());
    LETHE_TRY(engine->refuse_capture("lethe_copy_aside"));
    LETHE_TRY(LETHE_CALL(engine, copy_aside, to, from, bytes, ticket));
    engine->last_ticket = *ticket;
    return static_cast<int>(LETHE_OK);
  });
}

int lethe_wait_aside(lethe_engine *engine, int64_t ticket) {
  return guarded(__func__, [&] {
    LETHE_TRY(lethe_engine::check(engine));
    LETHE_TRY(engine->refuse_capture("lethe_wait_aside"));
    if (ticket < 1 || ticket > engine->last_ticket) {
      return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "ticket is " + std::to_string(ticket) +
                                                    ", the copies so far had 1 to " +
                                                    std::to_string(engine->last_ticket));
    }
    return LETHE_CALL(engine, wait_aside, ticket);
  });
}

}  // extern "C"
