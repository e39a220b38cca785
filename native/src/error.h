// The per-thread error trace behind lethe_error_trace().
#pragma once

#include <exception>
#include <new>
#include <string>

#include "lethe.h"

namespace lethe {

// Starts a new trace for the calling thread.
void clear_trace();
// Adds a line to the calling thread's trace and returns `status`.
int fail(int status, const char *file, int line, const std::string &message);
const char *trace();

// Runs the body of one C entry point: nothing may escape across the boundary.
template <class Body>
int guarded(const char *entry, Body &&body) noexcept {
  try {
    clear_trace();
    return body();
  } catch (const std::bad_alloc &) {
    return LETHE_OUT_OF_MEMORY;
  } catch (const std::exception &e) {
    try {
      return fail(LETHE_INTERNAL, entry, 0, e.what());
    } catch (...) {
      return LETHE_INTERNAL;
    }
  } catch (...) {
    return LETHE_INTERNAL;
  }
}

}  // namespace lethe

#define LETHE_FAIL(status, message) ::lethe::fail((status), __FILE__, __LINE__, (message))
// Passes a failure on, adding the place it passed through.
#define LETHE_TRY(call)                                                     \
  do {                                                                      \
    const int lethe_status_ = (call);                                       \
    if (lethe_status_ != LETHE_OK) return LETHE_FAIL(lethe_status_, #call); \
  } while (0)
