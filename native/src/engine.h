// An engine: one open backend, the buffers it handed out, and the thread that owns both.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <thread>
#include <vector>

#include "error.h"
#include "lethe_backend.h"

namespace lethe {

// A lethe_ref is generation (12 bits) | slot + 1 (12 bits) | byte offset (40 bits).
inline constexpr int kOffsetBits = 40;
inline constexpr int kSlotBits = 12;
inline constexpr int kGenerationBits = 12;
inline constexpr uint64_t kOffsetMask = (uint64_t{1} << kOffsetBits) - 1;
inline constexpr int64_t kMaxBufferBytes = int64_t{1} << kOffsetBits;
inline constexpr size_t kMaxBuffers = (size_t{1} << kSlotBits) - 1;

// A weight with its adapters, as lethe_linear_create and lethe_linear_adapter describe it. Refs are resolved at each
// call, so that a freed buffer is found out.
struct LinearAdapter {
  int64_t first_out, part_out, rank;
  float scale, dropout;
  uint64_t key;
  lethe_ref a, b, da, db;
};
// Rows of a weight in 4-bit codes, as lethe_linear_nf4_part describes them.
struct Nf4Part {
  int64_t first_out, part_out;
  lethe_ref packed, absmax, nested, nested_map, nested_absmax;
  float nested_offset;
};
struct Linear {
  int32_t dtype = 0;
  int64_t out = 0, in = 0;
  int64_t w_stride = 0, spare_rows = 0;  // of a weight with room for its adapters; 0: packed
  // Of a weight in 4-bit codes `w` is the scratch memory.
  lethe_ref w = 0, dw = 0, b = 0, db = 0;
  // 0: the weight is plain.
  int64_t block = 0;
  std::vector<Nf4Part> parts;
  std::vector<LinearAdapter> adapters;
  int64_t total_rank = 0;
  bool open = false;

  bool spares() const { return spare_columns() > 0 || spare_rows > 0; }
  int64_t spare_columns() const { return w_stride == 0 ? 0 : w_stride - in; }
};

// What a graph works on, by slot: how often the slot had been given away.
struct Graph {
  lethe_graph of_backend = 0;
  std::map<size_t, uint32_t> buffers;
  bool open = false;
};

struct Buffer {
  char *address = nullptr;
  int64_t bytes = 0;
  uint32_t generation = 0;
  bool open = false;
  // Whether the backend allocated it; memory that a caller lent is never freed here.
  bool owned = false;
};

}  // namespace lethe

// The opaque type of lethe.h.
struct lethe_engine {
  lethe_engine(void *plugin, const lethe_backend *table, lethe_device *state)
      : library(plugin), backend(table), device(state), owner(std::this_thread::get_id()) {}

  void *library;
  const lethe_backend *backend;
  lethe_device *device;
  std::thread::id owner;
  std::vector<lethe::Buffer> buffers;
  // Ids are never reused: lethe_linear n is linears[n - 1].
  std::vector<lethe::Linear> linears;
  // lethe_graph n is graphs[n - 1]; the last one is being captured while `capturing`.
  std::vector<lethe::Graph> graphs;
  bool capturing = false;
  bool capture_failed = false;
  int64_t last_ticket = 0;  // of lethe_copy_aside
  // Freed slots, reused oldest first so that a stale ref meets its own generation again as late as possible.
  std::deque<size_t> free_slots;

  // LETHE_OK, or why `engine` cannot be used by this thread. A closed engine is recognised by address.
  static int check(const lethe_engine *engine);
  // Why a call cannot be made while a graph is captured; LETHE_OK while none is.
  int refuse_capture(const char *call);
  // The address of ref and the bytes from it to the end of its buffer.
  int resolve(lethe_ref ref, char **address, int64_t *available);
  int slot_of(lethe_ref ref, size_t *slot) const;
  // A ref for memory of this engine's device; LETHE_OUT_OF_MEMORY when every slot is in use.
  int enter(void *address, int64_t bytes, bool owned, lethe_ref *buffer);
  int require_slot() const;
  int find_linear(lethe_linear id, lethe::Linear **linear);
};
