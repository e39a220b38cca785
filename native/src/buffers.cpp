// Buffers: allocated, lent by a caller, freed, and their addresses.
#include "check.h"

using lethe::Buffer;
using lethe::guarded;
using lethe::kByte;
using lethe::Operands;

namespace {

// What every way to a new buffer asks first; *buffer is 0 then.
int require_new_buffer(lethe_engine *engine, const char *call, int64_t bytes, lethe_ref *buffer) {
  LETHE_TRY(lethe_engine::check(engine));
  LETHE_TRY(engine->refuse_capture(call));
  if (buffer == nullptr) return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "buffer must not be null");
  *buffer = 0;
  if (bytes < 1 || bytes >= lethe::kMaxBufferBytes) {
    return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "bytes is " + std::to_string(bytes) + ", must be between 1 and 2^40 - 1");
  }
  return engine->require_slot();
}

}  // namespace

extern "C" {

int lethe_buffer_alloc(lethe_engine *engine, int64_t bytes, lethe_ref *buffer) {
  return guarded(__func__, [&] {
    LETHE_TRY(require_new_buffer(engine, "lethe_buffer_alloc", bytes, buffer));
    void *address = nullptr;
    LETHE_TRY(engine->backend->alloc(engine->device, bytes, &address));
    return engine->enter(address, bytes, true, buffer);
  });
}

int lethe_buffer_alloc_host(lethe_engine *engine, int64_t bytes, lethe_ref *buffer) {
  return guarded(__func__, [&] {
    LETHE_TRY(require_new_buffer(engine, "lethe_buffer_alloc_host", bytes, buffer));
    void *address = nullptr;
    LETHE_TRY(LETHE_CALL(engine, alloc_host, bytes, &address));
    return engine->enter(address, bytes, true, buffer);
  });
}

int lethe_buffer_wrap(lethe_engine *engine, void *address, int64_t bytes, lethe_ref *buffer) {
  return guarded(__func__, [&] {
    LETHE_TRY(lethe_engine::check(engine));
    LETHE_TRY(engine->refuse_capture("lethe_buffer_wrap"));
    if (buffer == nullptr) return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "buffer must not be null");
    *buffer = 0;
    if (address == nullptr) return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "address must not be null");
    if (bytes < 1 || bytes >= lethe::kMaxBufferBytes) {
      return LETHE_FAIL(LETHE_INVALID_ARGUMENT,
                        "bytes is " + std::to_string(bytes) + ", must be between 1 and 2^40 - 1");
    }
    const auto first = reinterpret_cast<uintptr_t>(address);
    if (first % 2 != 0 || first > UINTPTR_MAX - static_cast<uintptr_t>(bytes)) {
      return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "address is odd, or its bytes pass the end of the address space");
    }
    LETHE_TRY(engine->require_slot());
    if (engine->backend->wrap != nullptr) LETHE_TRY(engine->backend->wrap(engine->device, address, bytes));
    return engine->enter(address, bytes, false, buffer);
  });
}

int lethe_buffer_free(lethe_engine *engine, lethe_ref buffer) {
  return guarded(__func__, [&] {
    LETHE_TRY(lethe_engine::check(engine));
    LETHE_TRY(engine->refuse_capture("lethe_buffer_free"));
    size_t slot = 0;
    LETHE_TRY(engine->slot_of(buffer, &slot));
    if ((buffer & lethe::kOffsetMask) != 0) {
      return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "free takes the ref that alloc gave, not one moved into the buffer");
    }
    Buffer &entry = engine->buffers[slot];
    if (entry.owned) engine->backend->free(engine->device, entry.address);
    entry.open = false;
    entry.address = nullptr;
    engine->free_slots.push_back(slot);
    return static_cast<int>(LETHE_OK);
  });
}

int lethe_address(lethe_engine *engine, lethe_ref ref, int64_t bytes, void **address) {
  return guarded(__func__, [&] {
    if (address != nullptr) *address = nullptr;
    Operands operands(engine);
    operands.require(address != nullptr, LETHE_INVALID_ARGUMENT, "address must not be null");
    // Whoever gets the address may write there.
    void *at = operands.out("ref", ref, kByte, {bytes});
    LETHE_TRY(operands.finish());
    *address = at;
    return static_cast<int>(LETHE_OK);
  });
}

}  // extern "C"
