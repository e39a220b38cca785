// What an engine answers about its device, its order of work and its launches.
#include "check.h"

using lethe::guarded;

extern "C" {

int lethe_synchronize(lethe_engine *engine) {
  return guarded(__func__, [&] {
    LETHE_TRY(lethe_engine::check(engine));
    LETHE_TRY(engine->refuse_capture("lethe_synchronize"));
    return LETHE_CALL(engine, synchronize);
  });
}

int lethe_memory(lethe_engine *engine, int64_t *free_bytes, int64_t *total_bytes) {
  return guarded(__func__, [&] {
    LETHE_TRY(lethe_engine::check(engine));
    if (free_bytes == nullptr || total_bytes == nullptr) {
      return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "free_bytes and total_bytes must not be null");
    }
    return LETHE_CALL(engine, memory, free_bytes, total_bytes);
  });
}

int lethe_reserve_scratch(lethe_engine *engine, int64_t bytes) {
  return guarded(__func__, [&] {
    LETHE_TRY(lethe_engine::check(engine));
    if (bytes < 0)
      return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "bytes is " + std::to_string(bytes) + ", must be at least 0");
    LETHE_TRY(engine->refuse_capture("lethe_reserve_scratch"));
    return LETHE_CALL(engine, reserve_scratch, bytes);
  });
}

int lethe_stream(lethe_engine *engine, void **stream) {
  return guarded(__func__, [&] {
    LETHE_TRY(lethe_engine::check(engine));
    if (stream == nullptr) return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "stream must not be null");
    *stream = nullptr;
    return LETHE_CALL(engine, stream, stream);
  });
}

int lethe_use_stream(lethe_engine *engine, void *stream) {
  return guarded(__func__, [&] {
    LETHE_TRY(lethe_engine::check(engine));
    LETHE_TRY(engine->refuse_capture("lethe_use_stream"));
    return LETHE_CALL(engine, use_stream, stream);
  });
}

int lethe_record_launches(lethe_engine *engine, int32_t on) {
  return guarded(__func__, [&] {
    LETHE_TRY(lethe_engine::check(engine));
    return LETHE_CALL(engine, record_launches, on);
  });
}

int lethe_launches(lethe_engine *engine, char *out, int64_t capacity, int64_t *needed) {
  return guarded(__func__, [&] {
    LETHE_TRY(lethe_engine::check(engine));
    if (needed == nullptr || capacity < 0 || (out == nullptr && capacity > 0)) {
      return LETHE_FAIL(LETHE_INVALID_ARGUMENT,
                        "needed must not be null, capacity not negative, and out not null unless capacity is 0");
    }
    return LETHE_CALL(engine, launches, out, capacity, needed);
  });
}

}  // extern "C"
