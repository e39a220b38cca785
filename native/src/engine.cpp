#include "engine.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>

using lethe::Buffer;
using lethe::guarded;

namespace {

// Engines that are open, so that a closed or foreign pointer is an error and not a crash.
std::mutex open_engines_mutex;
std::vector<const lethe_engine *> &open_engines() {
  static std::vector<const lethe_engine *> engines;
  return engines;
}

// Counts closings: what a thread remembers of an engine holds as long as none has been closed since.
std::atomic<uint64_t> closings{0};

int host_fail(int status, const char *file, int line, const char *message) {
  return lethe::fail(status, file, line, message != nullptr ? message : "");
}

const lethe_host kHost = {host_fail};

// "cpu" is the widest instruction set this processor has; lethe_engine_describe says which one it became.
std::string concrete_name(const std::string &backend) {
  if (backend != "cpu") return backend;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return avx512 ? "cpu_avx512" : "cpu_avx2";
}

// "cuda:1" names the plug-in "cuda" and its second device.
int split_name(const std::string &backend, std::string *name, int32_t *ordinal) {
  const size_t colon = backend.find(':');
  *name = concrete_name(backend.substr(0, colon));
  *ordinal = 0;
  if (colon == std::string::npos) return LETHE_OK;
  if (backend.compare(0, 4, "cuda") != 0) {
    return LETHE_FAIL(LETHE_INVALID_ARGUMENT,
                      "backend '" + backend + "' has an ordinal; ordinals belong to cuda, whose devices they number");
  }
  const char *begin = backend.data() + colon + 1;
  const char *end = backend.data() + backend.size();
  const auto [rest, error] = std::from_chars(begin, end, *ordinal);
  if (error != std::errc() || rest != end || *ordinal < 0) {
    return LETHE_FAIL(LETHE_INVALID_ARGUMENT,
                      "backend '" + backend + "': what follows the colon must be a device's number, 0, 1 ...");
  }
  return LETHE_OK;
}

int load_backend(const std::string &name, const char *plugin_dir, void **library, const lethe_backend **backend) {
  const std::string path = std::string(plugin_dir) + "/liblethe_" + name + ".so";
  void *handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    return LETHE_FAIL(LETHE_NO_DEVICE, "cannot load backend '" + name + "': " + dlerror() +
                                           "; give the directory that holds liblethe_" + name + ".so");
  }
  auto init = reinterpret_cast<lethe_backend_init_fn>(dlsym(handle, LETHE_BACKEND_INIT));
  const lethe_backend *table = init != nullptr ? init() : nullptr;
  if (table == nullptr) {
    dlclose(handle);
    return LETHE_FAIL(LETHE_ABI_MISMATCH, path + " is not a Lethe backend: it has no usable " + LETHE_BACKEND_INIT);
  }
  if (table->abi != LETHE_ABI) {
    const std::string theirs = std::to_string(table->abi);
    dlclose(handle);
    return LETHE_FAIL(LETHE_ABI_MISMATCH, path + " speaks ABI " + theirs + ", liblethe speaks " +
                                              std::to_string(LETHE_ABI) + "; build both from one version");
  }
  *library = handle;
  *backend = table;
  return LETHE_OK;
}

}  // namespace

int lethe_engine::check(const lethe_engine *engine) {
  if (engine == nullptr) return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "engine is null");
  // The engine this thread last used and may use: it is looked up once and not at every call.
  static thread_local const lethe_engine *known = nullptr;
  static thread_local uint64_t known_closings = 0;
  const uint64_t closed = closings.load(std::memory_order_acquire);
  if (engine == known && closed == known_closings) return LETHE_OK;
  {
    const std::lock_guard<std::mutex> lock(open_engines_mutex);
    const auto &open = open_engines();
    if (std::find(open.begin(), open.end(), engine) == open.end()) {
      return LETHE_FAIL(LETHE_CLOSED, "the engine was closed, or never opened");
    }
  }
  if (engine->owner != std::this_thread::get_id()) {
    return LETHE_FAIL(LETHE_WRONG_THREAD, "the engine belongs to the thread that opened it; call it from there");
  }
  known = engine;
  known_closings = closed;
  return LETHE_OK;
}

int lethe_engine::slot_of(lethe_ref ref, size_t *slot) const {
  const uint64_t id = ref >> lethe::kOffsetBits;
  const uint64_t index = id & ((uint64_t{1} << lethe::kSlotBits) - 1);
  const uint64_t generation = id >> lethe::kSlotBits;
  if (index == 0 || index > buffers.size()) {
    return LETHE_FAIL(LETHE_CLOSED, "the ref names no buffer of this engine");
  }
  const Buffer &buffer = buffers[index - 1];
  if (!buffer.open || buffer.generation != generation) {
    return LETHE_FAIL(LETHE_CLOSED, "the buffer behind the ref was freed");
  }
  *slot = index - 1;
  return LETHE_OK;
}

int lethe_engine::refuse_capture(const char *call) {
  if (!capturing) return LETHE_OK;
  capture_failed = true;
  return LETHE_FAIL(LETHE_INVALID_ARGUMENT, std::string(call) +
                                                " cannot be captured in a graph; call it before "
                                                "lethe_graph_begin or after lethe_graph_end");
}

int lethe_engine::resolve(lethe_ref ref, char **address, int64_t *available) {
  size_t slot = 0;
  const int status = slot_of(ref, &slot);
  if (status != LETHE_OK) return status;
  const auto offset = static_cast<int64_t>(ref & lethe::kOffsetMask);
  const Buffer &buffer = buffers[slot];
  if (capturing) graphs.back().buffers[slot] = buffer.generation;
  if (offset > buffer.bytes) {
    return LETHE_FAIL(LETHE_OUT_OF_BOUNDS, "the ref points " + std::to_string(offset - buffer.bytes) +
                                               " bytes past the end of its buffer of " + std::to_string(buffer.bytes));
  }
  *address = buffer.address + offset;
  *available = buffer.bytes - offset;
  return LETHE_OK;
}

int lethe_engine::require_slot() const {
  if (free_slots.empty() && buffers.size() >= lethe::kMaxBuffers) {
    return LETHE_FAIL(LETHE_OUT_OF_MEMORY, "all " + std::to_string(lethe::kMaxBuffers) +
                                               " buffers of this engine are in use; put tensors in one arena");
  }
  return LETHE_OK;
}

int lethe_engine::enter(void *address, int64_t bytes, bool owned, lethe_ref *buffer) {
  size_t slot = buffers.size();
  if (free_slots.empty()) {
    buffers.emplace_back();
  } else {
    slot = free_slots.front();
    free_slots.pop_front();
  }
  Buffer &entry = buffers[slot];
  entry.address = static_cast<char *>(address);
  entry.bytes = bytes;
  entry.generation = (entry.generation + 1) & ((1u << lethe::kGenerationBits) - 1);
  entry.open = true;
  entry.owned = owned;
  const uint64_t id = (uint64_t{entry.generation} << lethe::kSlotBits) | (slot + 1);
  *buffer = id << lethe::kOffsetBits;
  return LETHE_OK;
}

// A team of threads is begun from arrays on the stack, one entry a thread.
constexpr int32_t kMostThreads = 4096;

extern "C" {

int lethe_abi(void) { return LETHE_ABI; }
const char *lethe_version(void) { return LETHE_VERSION; }
const char *lethe_error_trace(void) { return lethe::trace(); }

int lethe_engine_open(const char *backend, const char *plugin_dir, int32_t threads, lethe_engine **engine) {
  return guarded(__func__, [&] {
    if (backend == nullptr || plugin_dir == nullptr || engine == nullptr) {
      return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "backend, plugin_dir and engine must not be null");
    }
    *engine = nullptr;
    if (threads < 1 || threads > kMostThreads) {
      return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "threads is " + std::to_string(threads) + ", must be from 1 to " +
                                                    std::to_string(kMostThreads));
    }
    if (std::strchr(backend, '/') != nullptr) {
      return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "backend '" + std::string(backend) + "' is a name, not a path");
    }
    std::string name;
    int32_t ordinal = 0;
    LETHE_TRY(split_name(backend, &name, &ordinal));
    void *library = nullptr;
    const lethe_backend *table = nullptr;
    LETHE_TRY(load_backend(name, plugin_dir, &library, &table));
    lethe_device *device = nullptr;
    const int status = table->open(&kHost, plugin_dir, ordinal, threads, &device);
    if (status != LETHE_OK) {
      dlclose(library);
      return LETHE_FAIL(status, "backend '" + std::string(backend) + "' did not open");
    }
    auto opened = std::make_unique<lethe_engine>(library, table, device);
    const std::lock_guard<std::mutex> lock(open_engines_mutex);
    open_engines().push_back(opened.get());
    *engine = opened.release();
    return static_cast<int>(LETHE_OK);
  });
}

int lethe_engine_close(lethe_engine *engine) {
  return guarded(__func__, [&] {
    LETHE_TRY(lethe_engine::check(engine));
    {
      const std::lock_guard<std::mutex> lock(open_engines_mutex);
      auto &open = open_engines();
      open.erase(std::remove(open.begin(), open.end(), engine), open.end());
      closings.fetch_add(1, std::memory_order_release);
    }
    const std::unique_ptr<lethe_engine> owned(engine);
    // No memory can be freed while a graph is captured; what was captured goes with the device.
    lethe_graph dropped = 0;
    if (engine->capturing) engine->backend->graph_end(engine->device, &dropped);
    for (const Buffer &buffer : engine->buffers) {
      if (buffer.open && buffer.owned) engine->backend->free(engine->device, buffer.address);
    }
    engine->backend->close(engine->device);
    // The plug-in stays loaded: its OpenMP workers outlive an engine and would run unmapped code.
    return static_cast<int>(LETHE_OK);
  });
}

int lethe_engine_describe(lethe_engine *engine, char *out, int64_t capacity) {
  return guarded(__func__, [&] {
    LETHE_TRY(lethe_engine::check(engine));
    if (out == nullptr || capacity < 1) {
      return LETHE_FAIL(LETHE_INVALID_ARGUMENT, "out must not be null and capacity at least 1");
    }
    return engine->backend->describe(engine->device, out, capacity);
  });
}

}  // extern "C"
